#!/usr/bin/env python3
"""Print the entries of the lock that running needs: of the dependencies in pyproject.toml and what they need.

    python3 docker/select_lock.py pyproject.toml requirements.lock [EXTRA]...

With the name of an optional group of dependencies (dev, plot), also what that needs.
Runs in the image being built, on Debian's Python, before any library is there.
"""

import re
import sys
import tomllib
from pathlib import Path

ENTRY = re.compile(r"^(?P<name>[a-z0-9.-]+)==(?:.*\\\n)*.*\n(?P<via>(?: +#.*\n)*)", re.MULTILINE)


def select(project: str, lock: str, *extras: str) -> str:
    """Return the entries of *lock* for the run-time dependencies of *project*, and those of its *extras*."""
    table = tomllib.loads(project)["project"]
    asked = [
        *table["dependencies"],
        *(each for extra in extras for each in table["optional-dependencies"][extra]),
    ]
    wanted = {_name(each) for each in asked}
    entries = {match["name"]: match for match in ENTRY.finditer(lock)}
    while found := {name for name, entry in entries.items() if wanted & _via(entry["via"])} - wanted:
        wanted |= found
    if missing := wanted - entries.keys():
        raise SystemExit(f"{', '.join(sorted(missing))}: not in the lock: run tools/lock.sh")
    return "".join(entries[name][0] for name in sorted(wanted))


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match is not None
    return re.sub(r"[._]", "-", match[0]).lower()


def _via(comment: str) -> set[str]:
    """Return who asked for an entry, as the comment below it says."""
    return set(re.findall(r"[a-z0-9][a-z0-9.-]*", comment)) - {"via"}


if __name__ == "__main__":
    files = [Path(path).read_text(encoding="utf-8") for path in sys.argv[1:3]]
    sys.stdout.write(select(*files, *sys.argv[3:]))
