"""'exo sched compare': the same programs under several policies, without a system."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from exo.__main__ import main

MINE = """
from libexo.sched import Plan

class Mine:
    def plan(self, members, now):
        return Plan([(each.thread, 5_000) for each in members[:1]])
"""
TWO = [
    "--program",
    "a=loop,weight=3",
    "--program",
    "b=loop",
    "--program",
    "c=periodic,period=50ms,runtime=10ms,work=5ms",
]


def test_policies_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Shares, waits and misses are beside one another, a class of one's own too; the picture has a bar for each."""
    own, drawn = tmp_path / "mine.py", tmp_path / "compared.svg"
    own.write_text(MINE)
    words = ["sched", "compare", "stride", "edf,most=90", f"{own}:Mine", "--seconds", "2", *TWO]
    assert main([*words, "--svg", str(drawn)]) == 0
    shown = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    stride, edf, mine = json.loads(capsys.readouterr().out)

    assert [each["policy"] for each in (stride, edf, mine)] == ["stride", "edf most=90", f"{own}:Mine"]
    assert stride["rows"][0]["share"] / stride["rows"][1]["share"] == pytest.approx(3, rel=0.1)
    assert (stride["rows"][2]["due"], edf["rows"][2]["missed"]) == (40, 0)
    assert [each["share"] > 0 for each in mine["rows"]] == [True, False, False]
    assert [line for line in shown.splitlines() if line.isupper() or line[:5].isupper()] == [
        "SHARE of the processor", "WAIT, p50: longer than it computes", "WAIT, p99", "MISSED deadlines",
    ]  # fmt: skip
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("a ")] == [["a", "████████▎"]]
    assert "0 of 40" in shown
    assert max(map(len, shown.splitlines())) <= 80  # also with a long path
    assert len(ET.fromstring(drawn.read_text()).findall("{*}rect")) == 1 + 9 + 2 + 3  # noqa: S314 - ours


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "name policies"),
        (["strid"], "there is no policy 'strid'"),
        (["stride", "--program", "a"], "'a' is no NAME=KIND,KEY=VALUE"),
        (["stride", "--program", "a=dances"], "a: a program is one of loop, sleeps"),
        (["stride", "--program", "a=loop", "--program", "a=loop"], "two programs are called 'a'"),
        (["stride", "--real", "--program", "a=dances"], "a: a program is one of loop, sleeps"),
        (["stride", "--real", "--run", "/nowhere"], "no system"),
        (["stride", "--program", "a=loop,weight=x"], "a weight is a whole number of parts, not 'x'"),
        (["stride", "--svg", "/nowhere/at.svg", "--seconds", "0.1"], "/nowhere/at.svg cannot be written"),
    ],
)
def test_what_cannot_be_compared(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, and what to write instead."""
    assert main(["sched", "compare", *words]) != 0
    assert why in capsys.readouterr().err
