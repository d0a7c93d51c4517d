"""The trace for Perfetto: what its own protos read of it (`make peers`), and the encoding by itself."""

import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from exo.__main__ import main
from exo.perfetto import write
from exo.protobuf import fixed, message, number, text, varint
from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.events import Event
from kernel.abi.ids import KERNEL_PREDICATES
from kernel.abi.kip import Page, Wait
from kernel.abi.limits import MAX_CLAUSES
from kernel.abi.rights import ALL_RIGHTS
from libexo.trace import History, Present, Record
from tests.exo.conftest import Pages
from tests.kernel.pagers import Paging, Program
from tests.kernel.puppets import MS, theatre
from tests.kernel.test_processor import cast_of, compute, plan, sleepy
from tests.libexo.trace.planting import history

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".peers" / "bin" / "python"
peers = pytest.mark.skipif(not PYTHON.exists(), reason="perfetto is not there: make peers")


def planted() -> bytes:
    """Return the trace of a system with a page fault, a sleeper that waits for another, and one that ended."""
    with theatre() as stage:
        paging = Paging(stage)
        over: list[bool] = []

        def faults(body: SimulatedBody) -> None:
            body.burn(5 * MS)
            body.wait(lambda: bool(over), None)
            body.burn(10**15)

        scheduler, cpu, members = cast_of(
            stage, one=compute, faulting=faults, waiting=sleepy(5 * MS, 30 * MS), gone=compute
        )
        program = Program(paging, members["faulting"], ALL_RIGHTS, paging.handle)
        members["waiting"].env.page[Page.WAITS + Wait.FOR] = members["one"].thread
        plan(scheduler, cpu, members, one=10, faulting=10, waiting=10, gone=10)
        stage.pass_time(100)
        stage.kill(members["gone"])
        program.touch(2)
        stage.pass_time(20)
        paging.supply(2)
        over.append(True)
        members["one"].sys.bind(members["waiting"].thread)
        stage.pass_time(100)
        return write(history(stage), 0, [3], 77)


def read(data: bytes, folder: Path) -> dict[str, Any]:
    """Return what Perfetto's protos find."""
    file = folder / "trace"
    file.write_bytes(data)
    script = ROOT / "tests" / "peers" / "read_perfetto.py"
    done = subprocess.run([PYTHON, script, file], capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@peers
def test_what_perfetto_reads(tmp_path: Path) -> None:
    """Its protos know every field; tracks have parents, slices end before the next begins, arrows have two ends."""
    found = read(planted(), tmp_path)
    tracks, events = found["tracks"], found["events"]
    names = {number: track["name"] for number, track in tracks.items()}

    assert (found["unknown"], found["sequences"], found["first"]) == (0, [1], 1)
    assert {"processor 0 (host core 3)", "pager", "one", "faulting", "gone"} <= set(names.values())
    below = Counter(names.get(str(track["parent"]), "") for track in tracks.values())
    assert below == {"": 3, "processors": 1, "environments": len(tracks) - 7, "counters": 3}

    open_: Counter[int] = Counter()
    for event in events:
        if event["type"] in ("TYPE_SLICE_BEGIN", "TYPE_SLICE_END"):
            open_[event["track"]] += 1 if event["type"] == "TYPE_SLICE_BEGIN" else -1
            assert open_[event["track"]] in (0, 1)
    assert set(open_.values()) == {0}
    assert [event["at"] for event in events] == sorted(event["at"] for event in events)

    begins = {flow: event for event in events for flow in event["flows"]}
    ends = {flow: event for event in events for flow in event["ends"]}
    arrows = {
        (names[str(begin["track"])], begin["name"], names[str(ends[flow]["track"])], ends[flow]["name"])
        for flow, begin in begins.items()
        if flow in ends
    }
    assert set(ends) <= set(begins)
    object_ = next(event["name"].split()[-1] for event in events if event["name"].startswith("page fault"))
    assert arrows >= {
        ("faulting", f"page fault in object {object_}", "pager", f"supplied 1 from 2 of object {object_}"),
        ("waiting", "waits for one", "one", "runs"),
        ("one", "bound to waiting", "waiting", "one is bound to it"),
    }


@peers
def test_slices_and_counters(tmp_path: Path) -> None:
    """A slice says how long it was to be and what was used; counters follow who wants the processor."""
    found = read(planted(), tmp_path)
    names = {int(number): track["name"] for number, track in found["tracks"].items()}
    on = [each for each in found["events"] if names[each["track"]].startswith("processor 0") and each["name"]]
    values: dict[str, list[int]] = {}
    for event in found["events"]:
        if event["type"] == "TYPE_COUNTER":
            values.setdefault(names[event["track"]], []).append(event["value"])

    assert on[0]["notes"] == {
        "slice_us": 10_000, "left_us": 10_000, "used_ns": 10 * MS, "slept_ns": 0, "ended": "preempted",
    }  # fmt: skip
    assert {each["name"] for each in on} == {"one", "faulting", "waiting", "gone"}
    assert max(values["want processor 0"]) == 4
    assert values["page faults that wait"] == [1, 0]
    assert values["free frames"] == [77]


def test_predicates() -> None:
    """A sleep for a predicate is called so, and which clause came true is an instant."""
    kinds = [
        (Event.SWITCHED, 10_000, 10_000 << 32, 0), (Event.BLOCKED, MS, 0, KERNEL_PREDICATES),
        (Event.WOKEN, 3, 7, 0), (Event.READY, 0, 0, 0), (Event.WOKEN, MAX_CLAUSES, 9, 0),
    ]  # fmt: skip
    records = [Record(at, at * MS, event, 1, a, b, detail) for at, (event, a, b, detail) in enumerate(kinds)]
    written = write(History(records, Present({1: "a"}), 10 * MS), 0, [0], 0)

    for said in (b"waits for its predicate", b"clause 3 is true", b"no clause is possible"):
        assert said in written


def test_encoding() -> None:
    """As the examples of the encoding's own page, and what is negative or long."""
    assert (varint(300).hex(), number(1, 150).hex()) == ("ac02", "089601")
    assert text(2, "testing").hex() == "120774657374696e67"
    assert message(3, number(1, 150)).hex() == "1a03089601"
    assert number(4, -2).hex() == "20feffffffffffffffff01"
    assert fixed(47, 1).hex() == "f9020100000000000000"


def test_the_command(run: Path, pages: Pages, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It writes a file, and says how much is in it; what cannot be written is told."""
    pages.environment(1, "web", cpu=0)
    pages.event(Event.SWITCHED, 1, 10_000, ns=1)
    pages.publish()
    file = tmp_path / "t.pftrace"

    assert main(["--run", str(run), "trace", "--perfetto", str(file)]) == 0
    assert capsys.readouterr().out.startswith(f"{file} has 1 events of ")
    assert b"web" in file.read_bytes()
    assert main(["--run", str(run), "trace", "-f", "--perfetto", str(file)]) == 2
    assert main(["--run", str(run), "trace", "--perfetto", str(tmp_path / "no" / "t")]) == 1
    assert "No such file or directory" in capsys.readouterr().err
