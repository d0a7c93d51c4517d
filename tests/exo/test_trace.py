"""The event ring, read and put into words."""

import json
from pathlib import Path

import pytest

from exo.__main__ import main
from exo.trace import decode, open_ring
from kernel.abi.errors import Fault, Refusal
from kernel.abi.events import ANYBODY, Event, name_words
from kernel.abi.limits import TRACE_RECORDS
from kernel.abi.messages import Label
from kernel.abi.rights import Kind
from kernel.abi.traps import Carve
from libexo.trace.ring import Ring
from tests.exo.conftest import Pages

CARVE = Carve.__struct_config__.tag


def ring_of(pages: Pages) -> Ring:
    return Ring(memoryview(pages.trace))


def test_events_come_once_in_order(pages: Pages) -> None:
    """A second read has only what is new."""
    ring = ring_of(pages)
    pages.event(Event.CREATED)
    pages.event(Event.ENDED)
    first = [record.event for record in ring.read()]
    pages.event(Event.TOOK)

    assert first == [Event.CREATED, Event.ENDED]
    assert [record.event for record in ring.read()] == [Event.TOOK]
    assert ring.lost == 0


def test_what_was_overwritten_is_counted(pages: Pages) -> None:
    """Nothing is lost silently: one that may be being written counts as gone."""
    ring = ring_of(pages)
    for number in range(TRACE_RECORDS + 10):
        pages.event(Event.TRAP, a=number)

    found = list(ring.read())

    assert found[0].a == ring.lost == 11
    assert len(found) == TRACE_RECORDS - 1
    assert found[-1].a == TRACE_RECORDS + 9


def test_the_past_can_be_cut(pages: Pages) -> None:
    """The last few are kept; what was skipped is not lost."""
    ring = ring_of(pages)
    for number in range(5):
        pages.event(Event.TRAP, a=number)
    ring.skip(2)

    assert [record.a for record in ring.read()] == [3, 4]
    assert ring.lost == 0


@pytest.mark.parametrize(
    ("event", "a", "b", "text"),
    [
        (Event.TRAP, CARVE, 0, "Carve"),
        (Event.TRAP, CARVE, Refusal.NO_FRAMES, f"Carve refused: {Refusal.NO_FRAMES.text}"),
        (Event.TRAP, 0xFFF, 999, "trap 0xfff refused: refusal 999"),
        (Event.FAULT, Fault.TOO_LONG, 0, Fault.TOO_LONG.text),
        (Event.CREATED, 97 << 32 | 3, 0, "thread 97.3"),
        (Event.STARTED, 123, 0, "process 123"),
        (Event.ENDED, 256, 0, "with status 0"),
        (Event.ENDED, 247, Fault.MALFORMED_TRAP, f"by signal 9, {Fault.MALFORMED_TRAP.text}"),
        (Event.BOUND, 96 << 32 | 1, 0, "thread 96.1"),
        (Event.SWITCHED, 10_000, 1, "10000 us on processor 1"),
        (Event.PREEMPTED, 2_500_000, 0, "after 2.500 ms on processor 0"),
        (Event.FALLBACK, 0, 0, "processor 0 has no scheduler: round robin"),
        (Event.INTERRUPT, 4, 0, "line 4"),
        (Event.TOOK, 7, Kind.EXTENT, "extent 7"),
        (Event.UPCALL_DROPPED, Label.REVOKE, 0, "revoke"),
        (Event.PAGE_FAULT, 3, 40, "read of page 3 of object 40"),
        (Event.PAGE_FAULT, 1 << 32 | 3, 40, "write to page 3 of object 40"),
        (Event.SUPPLIED, 1 << 32 | 3, 40, "page 3 of object 40"),
        (Event.EVICTED, 16 << 32 | 4, 40, "pages 4..19 of object 40"),
        (Event.SWITCHED, 10_000, 8_000 << 32, "10000 us on processor 0, 8000 us of it are left"),
        (Event.READY, 0, 1, "for processor 1"),
        (Event.CONTINUED, 2_500_000, 7 << 32, "after 2.500 ms on processor 0"),
        (Event.BLOCKED, 2_500_000, 7 << 32, "after 2.500 ms on processor 0"),
        (Event.STOPPED, 2_500_000, 7 << 32, "after 2.500 ms on processor 0"),
        (Event.PLANNED, 20_000, 0, "a round of 20000 us for processor 0"),
        (Event.PART, 10_000, 0, "+0 slice of 10000 us on processor 0"),
        (Event.LOST, 0x10003, Kind.EXTENT, "extent, handle 0x10003"),
        (Event.NAME, *next(name_words("worker"))[1:], "it was called worker"),
        (Event.WOKEN, 2, 7, "clause 2 of predicate 7"),
        (Event.WOKEN, 8, 7, "no clause is possible of predicate 7"),
    ],
)
def test_every_event_is_put_into_words(event: Event, a: int, b: int, text: str, pages: Pages) -> None:
    """With names for numbers, and the number where there is no name."""
    pages.event(event, 1, a, b, ns=5_000_000)
    (record,) = ring_of(pages).read()

    shown = decode(record, {1: "web"}, booted=1_000_000)

    assert (shown["us"], shown["environment"], shown["event"]) == (4000, "web", event.name.lower())
    assert shown["text"] == text


def test_details_are_put_into_words(pages: Pages) -> None:
    """For whom a sleeper waits, how many slices more or fewer there are, and the end of a name."""
    pages.event(Event.BLOCKED, 1, detail=97)
    pages.event(Event.BLOCKED, 1, detail=ANYBODY)
    pages.event(Event.PART, 1, 500, detail=0xFFFE)
    pages.event(Event.NAME, 1, 0x21, detail=16)

    assert [decode(record, {}, 0)["text"] for record in ring_of(pages).read()] == [
        "after 0.000 ms on processor 0, waits for thread 97",
        "after 0.000 ms on processor 0, waits for anybody",
        "-2 slices of 500 us on processor 0",
        "it was called …!",
    ]


def test_an_event_of_a_later_kernel_is_shown_by_its_number(pages: Pages) -> None:
    """Rather that than nothing."""
    pages.event(99, 5, 1, 2)
    (record,) = ring_of(pages).read()

    assert decode(record, {}, 0)["event"] == "event 99"
    assert decode(record, {}, 0)["environment"] == "#5"


def test_trace_prints_the_last_ones(run: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    """As text, and as JSON, an object a line."""
    pages.environment(1, "web")
    for number in range(50):
        pages.event(Event.STARTED, 1, number)
    pages.publish()

    assert main(["--run", str(run), "trace", "--count", "2"]) == 0
    assert [line.split()[2:] for line in capsys.readouterr().out.splitlines()] == [
        ["web", "started", "process", "48"],
        ["web", "started", "process", "49"],
    ]
    assert main(["--run", str(run), "trace", "--count", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == "process 49"


def test_the_ended_have_their_names(run: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where another has the number now."""
    pages.environment(1, "new")
    for name in ("old", "older"):
        pages.event(Event.STARTED, 1, 7)
        pages.event(Event.ENDED, 1, 256)
        pages.event(Event.NAME, 1, *next(name_words(name))[1:])
        pages.event(Event.CREATED, 1, 97 << 32)
    pages.publish()

    assert main(["--run", str(run), "trace", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["environment"] for each in found] == ["old"] * 3 + ["older"] * 4 + ["new"]


def test_a_ring_that_is_not_there_is_told(run: Path) -> None:
    """As any system that is not there."""
    with pytest.raises(Exception, match="no system runs"):
        open_ring(run / "trace")
