"""What `exo doctor` says of paged memory."""

import errno
import json
import re
from pathlib import Path

import pytest

from exo import doctor, paging
from exo.__main__ import main
from libexo.launch import paging as launch

PAGE = Path(__file__).parents[2] / "docs" / "pagers.md"


def offers(features: int) -> object:
    return lambda: features


def test_needed_first() -> None:
    """What no paged program can do without comes before what would only help, and both are in the table."""
    found = paging.given()

    assert sorted(found, key=lambda each: not each.needed) == found
    assert {each.name for each in found if each.needed} == {
        "faults of user code", "faults of writes", "absent pages", "pages that are there", "write protection",
        "poison",
    }  # fmt: skip


def test_needed_is_what_the_launcher_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that gives just the features it asks for has all that is needed; one that gives none, nothing."""
    monkeypatch.setattr(launch, "offered", offers(launch.NEEDED))
    assert all(each.there for each in paging.given() if each.needed)
    monkeypatch.setattr(launch, "offered", offers(0))
    assert [each.name for each in paging.given() if each.needed and each.there] == ["faults of user code"]


def test_the_page_has_the_same_table() -> None:
    """docs/pagers.md names each of them, with its Linux."""
    rows = re.findall(r"^\| ([a-z ]+) \| (\d\.\d+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)

    assert rows == [(each.name, each.linux) for each in paging.given()]


def test_doctor_says_why_not(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the host refuses, the first line says how, and the only remedy is that of paged memory."""

    def refused() -> int:
        raise OSError(errno.EPERM, "this host does not let programs be paged")

    monkeypatch.setattr(launch, "offered", refused)
    monkeypatch.setattr(doctor, "protections", list)
    monkeypatch.setattr(doctor, "features", list)
    assert main(["doctor", "--json"]) == 0
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)}
    assert checks["paged memory"]["detail"] == "this host does not let programs be paged"
    assert [check["available"] for check in checks.values() if check["group"] == "paging"][:6] == [False] * 6
    assert all(check["remedy"] for check in checks.values() if not check["available"])

    assert main(["doctor"]) == 0
    remedies = capsys.readouterr().out.partition("to get the missing:\n")[2]
    assert remedies.split("\n")[0].split("  ")[1] == "paged memory"
    assert "poison" not in remedies
