"""Deadlines and reservations: what they promise, by published rules and traces worked by hand."""

from typing import NamedTuple

import pytest

from libexo.sched import MAX_SLICE_US, Member, Parameter
from libexo.workload import Described
from servers.scheduler.policies import Edf, RateMonotonic
from servers.scheduler.policies.bandwidth import Bandwidth
from tests.servers.scheduler.ideal import UNIT, Ideal, listed, periodic, spans

MS = 1_000_000


def member(name: str, **parameters: Parameter) -> Member:
    """One that is awake."""
    return Member(ord(name), name, parameters=parameters)


class Step(NamedTuple):
    """What happens to a server of 3 in 8 units, and what it has afterwards, with the rule that says so."""

    at: int
    arrives: bool
    used: int
    budget: int
    deadline: int
    rule: str


ABENI_BUTTAZZO = [
    Step(3, True, 0, 3, 11, "idle, and 0 >= (0 - 3) 3/8: a new deadline 3 + 8, and all of the budget"),
    Step(7, False, 3, 3, 19, "the budget is gone: it is full again, and the deadline is 8 later"),
    Step(12, False, 1, 2, 19, "one unit more, and the job is done"),
    Step(13, True, 0, 2, 19, "2 < (19 - 13) 3/8 = 2.25: what is left goes by the deadline that is"),
    Step(15, False, 2, 3, 27, "gone again"),
    Step(20, False, 1, 2, 27, "the second job is done"),
    Step(21, True, 0, 2, 27, "2 < (27 - 21) 3/8 = 2.25"),
    Step(23, False, 1, 1, 27, "it used one"),
    Step(
        25,
        True,
        0,
        3,
        33,
        "1 >= (27 - 25) 3/8 = 0.75: it would be more than 3/8, so it is as if it came anew",
    ),
]
"""Abeni and Buttazzo's rules (RTSS 1998, section 4), worked by hand."""


def test_a_server_follows_the_published_rules() -> None:
    """Budget and deadline are those of the table, after each of its steps."""
    server = Bandwidth(3, 8)
    for each in ABENI_BUTTAZZO:
        server.spend(each.used, each.at)
        if each.arrives:
            server.arrive(each.at)

        assert (server.budget, server.deadline) == (each.budget, each.deadline), each.rule


def test_a_server_beside_a_hard_task() -> None:
    """The schedule of that table with a task of 4 in 7 units, which keeps its deadlines."""
    hard = listed("hard", {0: 4, 7: 4, 14: 4}, deadline=7)
    soft = listed("soft", {3: 4, 13: 3}, runtime=3, period=8)
    ideal = Ideal(Edf(), [hard, soft]).run(22)

    assert spans(ideal.ran) == [
        (0, 4, "hard"),
        (4, 7, "soft"),  # its budget is gone: 19 is later than 14
        (7, 11, "hard"),
        (11, 12, "soft"),
        (13, 15, "soft"),  # 19 is before 21, until the budget is gone again
        (15, 19, "hard"),
        (19, 20, "soft"),
    ]


def test_who_overruns_hurts_itself_only() -> None:
    """Beside one that never sleeps, in a reservation of 2 in 10, all others keep their deadlines."""
    greedy = Described("greedy", "loop", {"runtime": 2 * UNIT, "period": 10 * UNIT})
    timed = [periodic("a", 4, 1, runtime=1), periodic("b", 10, 5, runtime=5)]
    ideal = Ideal(Edf(), [greedy, *timed]).run(400)
    due = [each for each in ideal.done if 0 < each.job.deadline <= 400 * UNIT]

    assert len(due) == 140
    assert [each for each in due if not 0 < each.at <= each.job.deadline] == []
    assert ideal.members()[0].used >= 400 * UNIT * 2 / 10


def test_what_is_not_reserved_is_for_the_others() -> None:
    """Two with no deadline, of weights 1 and 3, have what is left beside a reservation that is used up."""
    greedy = Described("greedy", "loop", {"runtime": 6 * MS, "period": 10 * MS})
    ideal = Ideal(Edf(), [greedy, Described("one", "loop"), Described("three", "loop", weight=3)]).run(20)
    parts = [each.used / (20 * UNIT) for each in ideal.members()]

    assert parts == pytest.approx([0.6, 0.1, 0.3], abs=0.01)


def test_the_others_begin_when_they_wake() -> None:
    """Those that reserved nothing, and wake long after the boot, are not before those that did."""
    policy, hour = Edf(), 3600 * 10**9
    timed = member("t", runtime=8 * MS, period=40 * MS)._replace(asleep=True)
    loop = member("l")._replace(asleep=True)
    policy.plan([timed, loop], hour)
    awake = hour + MS
    found = policy.plan([each._replace(asleep=False, since=awake) for each in (timed, loop)], awake)

    assert found.slices[0] == (ord("t"), 8000)


def test_a_whole_reservation_leaves_nothing() -> None:
    """Where all is reserved, others run while those sleep."""
    timed = Described("a", "periodic", {"period": 10 * MS, "runtime": 10 * MS, "work": 4 * MS})
    ideal = Ideal(Edf(), [timed, Described("rest", "loop")]).run(10)

    assert [each.used / (10 * UNIT) for each in ideal.members()] == pytest.approx([0.4, 0.6], abs=0.01)


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"runtime": 5 * MS}, "a: a runtime is of a period"),
        ({"runtime": 5 * MS, "period": "long"}, "a: a period is a time, as in period=20ms, not 'long'"),
        ({"runtime": 0, "period": 5 * MS}, "a: a runtime is a time, as in runtime=20ms, not 0"),
        ({"runtime": 1000, "period": 5 * MS}, "a: a runtime is at least 500 us, not 1 us"),
        ({"deadline": -1}, "a: a deadline is a time, as in deadline=20ms, not -1"),
        ({"runtime": 13 * MS, "period": 20 * MS}, r"a 65.0% \+ b 40.0% = 105.0% of the processor, and 100 %"),
    ],
)
def test_what_cannot_be_honoured_is_refused(parameters: dict[str, Parameter], why: str) -> None:
    """A reservation that makes no sense, or is too much with the others, is refused by name, with the sum."""
    others = [member("b", runtime=4 * MS, period=10 * MS), member("c")]
    with pytest.raises(ValueError, match=why):
        Edf().plan([member("a", **parameters), *others], 0)


def test_what_programs_say_themselves() -> None:
    """A program's own word reserves what the operator set aside for that, and nothing otherwise."""
    own = member("a")._replace(declared={"runtime": 2 * MS, "period": 10 * MS})
    other = member("b")
    alone = Edf().plan([own, other], 0)
    offered = Edf(declared=25).plan([own, other], 0)

    assert {thread for thread, _ in alone.slices[:2]} == {ord("a"), ord("b")}
    assert offered.slices[0] == (ord("a"), 2000)
    assert Edf().plan([other, own._replace(declared={"deadline": 1})], 0).slices[0][0] == ord("b")
    with pytest.raises(ValueError, match=r"a 20.0% = 20.0% of the processor, and 10 % can be reserved"):
        Edf(declared=10).plan([own, other], 0)


def test_rate_monotonic() -> None:
    """The shortest period that is awake is first, at once; all others have the rest when those sleep."""
    members = [member("a", period=20 * MS), member("b", period=10 * MS), member("c"), member("d")]
    plan = RateMonotonic().plan(members, 0)
    asleep = [each._replace(asleep=True) for each in members[:2]]
    turns = RateMonotonic().plan([*asleep, *members[2:]], 0)

    assert ([chr(each) for each, _ in plan.slices[:4]], plan.now) == (["b", "a", "c", "d"], True)
    assert 0 < plan.again < MAX_SLICE_US
    assert [chr(each) for each, _ in turns.slices[:6]] == ["b", "a", "c", "d", "c", "d"]
    assert not turns.now
    with pytest.raises(ValueError, match="a: a period is a time, as in period=20ms, not 'x'"):
        RateMonotonic().plan([member("a", period="x")], 0)
