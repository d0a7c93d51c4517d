"""The history of environments: whole, whatever the records are."""

import random
from itertools import pairwise

import pytest

from kernel.abi.events import ANYBODY, Event, name_words
from libexo.trace import Cause, History, Present, Record, State, explain
from libexo.trace.history import clipped

PRESENT = Present(
    {number: f"p{number}" for number in range(6)},
    {100 + number: number for number in range(6)},
    {number: (number % 5, number % 2) for number in range(6)},
    [[(0, 1000), (2, 500)], [(1, 700)]],
    {8: 5},
)


def anything(chance: random.Random, count: int) -> list[Record]:
    """Return records in the order of time, of which nothing need fit."""
    ns, found = 1_000_000, []
    for number in range(count):
        ns += chance.choice((0, 1, 1_000, 1_000_000))
        a, b = chance.choice((0, 1, 500, 1 << 32, 2 << 40)), chance.choice((0, 1, 8, 500 << 32))
        found.append(
            Record(
                number,
                ns,
                chance.randrange(30),
                chance.randrange(6),
                a,
                b,
                chance.choice((0, 1, 2, 100, ANYBODY)),
            )
        )
    return found


@pytest.mark.parametrize("count", [0, 1, 20, 400])
def test_spans_have_no_hole(seed: int, count: int) -> None:
    """From the first record to now each environment that is known is in one span, one after another."""
    for turn in range(20):
        records = anything(random.Random(seed + turn), count)
        now = (records[-1].ns if records else 0) + 5_000_000
        past = History(records, PRESENT, now)
        for spans in past.spans.values():
            edges = [(span.begin, span.end) for span in spans]
            assert edges[0][0] == past.begin
            assert edges[-1][1] == now
            assert all(before[1] == after[0] for before, after in pairwise(edges))


def test_causes_are_the_window(seed: int) -> None:
    """Whatever the records are, causes add up to what the ring has of the window, and none is negative."""
    for turn in range(30):
        records = anything(random.Random(seed + turn), 300)
        now = records[-1].ns + 1_000_000
        past = History(records, PRESENT, now)
        for name in {name for name in past.names.values() if name}:
            found = explain(past, name, now - 50_000_000, now)

            assert all(ns >= 0 for ns in found.spent.values())
            assert found.known in (0, found.end - found.begin - found.missing)
            assert sum(found.spent.values()) == found.known
            assert {*found.whom} <= {*Cause}


def test_names_stay(seed: int) -> None:
    """A name in two records is one; who has the number later has its own, before and after."""
    chance = random.Random(seed)
    names = ["a-name-of-more-than-sixteen-b", "übersetzer", "x" * 31, "now"]
    records: list[Record] = []
    for name in names[:-1]:
        records.append(Record(len(records), len(records), Event.CREATED, 4, chance.randrange(1 << 40), 0))
        records.append(Record(len(records), len(records), Event.TRAP, 4, 1, 0))
        records.append(Record(len(records), len(records), Event.ENDED, 4, 256, 0))
        records += [
            Record(len(records) + at, len(records), Event.NAME, 4, a, b, at) for at, a, b in name_words(name)
        ]
    records.append(Record(len(records), len(records), Event.CREATED, 4, 7 << 32, 0))
    past = History(records, Present({4: "now"}), 1000)

    assert [past.name(key) for key, record in past.events if record.event == Event.CREATED] == names
    assert past.find("now") is not None
    assert past.find("nobody") is None


def test_plans_backwards() -> None:
    """From the plan of now follow those before, by what each of them changed."""
    more = 0xFFFF
    records = [
        Record(0, 10, Event.SWITCHED, 2, 500, 0),
        Record(1, 20, Event.PART, 2, 500, 0, 1),
        Record(2, 30, Event.PART, 3, 900, 0, more),
        Record(3, 30, Event.PART, 0, 1000, 1, 1),
    ]
    past = History(records, PRESENT, 40)

    assert past.plans(0) == [
        (10, {0: 1000, 3: 900}),
        (20, {0: 1000, 2: 500, 3: 900}),
        (30, {0: 1000, 2: 500}),
    ]


def test_a_span_is_cut_in_proportion() -> None:
    """Half of a slice has used half of what it used."""
    records = [
        Record(0, 0, Event.SWITCHED, 0, 10_000, 10_000 << 32),
        Record(1, 1000, Event.PREEMPTED, 0, 600, 0),
    ]
    past = History(records, PRESENT, 2000)
    (span,) = clipped(past.spans[0][:1], 500, 1500)

    assert (span.state, span.begin, span.end, span.used) == (State.RUNS, 500, 1000, 300)
