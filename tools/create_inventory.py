#!/usr/bin/env python3
"""List the repository's files: one path a line, sorted, in docs/file_inventory.txt.

Files that git and the set-up keep for themselves (.git, .venv, caches) are left out. The list is a snapshot to work
from, so it is made when needed and not committed.
"""

import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INVENTORY = Path("docs/file_inventory.txt")
SKIPPED = frozenset(
    {".git", ".venv", "__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis"}
)


def inventory(root: Path) -> Iterator[str]:
    """Yield the path, relative to *root*, of every file and symbolic link below it, unsorted."""
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [name for name in folders if name not in SKIPPED]
        linked = [name for name in folders if (here / name).is_symlink()]
        yield from ((here / name).relative_to(root).as_posix() for name in [*files, *linked])


def main() -> None:
    """Write the inventory, and report its length and place."""
    target = ROOT / INVENTORY
    target.parent.mkdir(exist_ok=True)
    target.touch()  # it lists itself, the first time too
    paths = sorted(inventory(ROOT))
    target.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8", errors="surrogateescape")
    print(f"{len(paths)} paths written to {INVENTORY}")


if __name__ == "__main__":
    main()
