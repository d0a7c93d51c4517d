"""Appel and Li's measures on plain Linux: `protection.c`, built for the run by the compiler that is there."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
COMPILERS = ("cc", "gcc", "clang")


def compiler() -> str | None:
    """Return the C compiler of this host, if there is one."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def main() -> None:
    """Build it, and become it."""
    found = compiler()
    if found is None:
        sys.exit(f"no C compiler ({', '.join(COMPILERS)}) is here")
    with tempfile.TemporaryDirectory(prefix="exo-bench-") as directory:
        built = f"{directory}/protection"
        subprocess.run([found, "-O2", "-o", built, str(SOURCE)], check=True)
        program = os.open(built, os.O_RDONLY | os.O_CLOEXEC)
    os.execve(program, [built], dict(os.environ))


if __name__ == "__main__":
    main()
