import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.create_inventory import INVENTORY, ROOT, inventory


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of three files and a link, with the inventory tool in it."""
    for name in ("b.py", "a/z.py", ".git/config", ".venv/bin/python", "a/__pycache__/z.pyc"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "create_inventory.py", tmp_path / "tools")
    return tmp_path


def test_files_and_links_are_listed(repository: Path) -> None:
    """Every file and link is there, what git and the set-up keep is not, and links are not followed."""
    assert sorted(inventory(repository)) == ["a/z.py", "b.py", "link", "tools/create_inventory.py"]


@pytest.mark.system
def test_the_list_is_written_and_repeats(repository: Path) -> None:
    """Run from anywhere, twice: the same sorted list, which includes itself, and its length is told."""
    command = [sys.executable, str(repository / "tools" / "create_inventory.py")]
    runs = [subprocess.run(command, cwd="/", capture_output=True, text=True, check=True) for _ in range(2)]

    assert {run.stdout for run in runs} == {"5 paths written to docs/file_inventory.txt\n"}
    assert (repository / INVENTORY).read_text(encoding="utf-8").split() == [
        "a/z.py",
        "b.py",
        "docs/file_inventory.txt",
        "link",
        "tools/create_inventory.py",
    ]
