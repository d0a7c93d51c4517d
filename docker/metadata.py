#!/usr/bin/env python3
"""Write exokernel.dist-info: what `exo --version` reads, where the code was copied and not installed.

python3 docker/metadata.py pyproject.toml
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["project"]
folder = Path(f"{project['name']}.dist-info")
folder.mkdir(mode=0o755)
text = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
(folder / "METADATA").write_text(text, encoding="utf-8")
