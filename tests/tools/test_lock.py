import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")


def test_the_lock_agrees_with_the_project() -> None:
    """Each dependency of pyproject.toml is pinned in its range; where not: tools/lock.sh."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = sum(project["optional-dependencies"].values(), project["dependencies"])
    pinned = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCK, re.MULTILINE))

    for requirement in map(Requirement, wanted):
        assert pinned[requirement.name] in requirement.specifier, requirement


def test_every_pin_has_its_hashes() -> None:
    """Nothing is installed that was not seen when the lock was made."""
    entries = re.split(r"^(?=[a-z0-9])", LOCK, flags=re.MULTILINE)[1:]

    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_the_lock_names_no_place() -> None:
    """It holds no address of an index and no path: where packages come from is the installer's business."""
    assert re.findall(r"https?:|file:|--(?:extra-)?index|--find-links|(?<!\S)/\S+", LOCK) == []
