"""Refusals of ThreadControl: each by what is wrong, and nothing has changed."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import SYSTEM_BASE, USER_BASE, thread_id
from kernel.abi.kip import UTCB_SIZE
from kernel.abi.limits import MAX_SPACE_THREADS, MAX_THREADS
from kernel.abi.program import Program
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.abi.space import UTCB_AREA
from tests.kernel.controls import (
    LOCAL,
    NEW,
    OTHER,
    PROGRAM,
    TALKER,
    UTCB,
    control,
    launched,
    root,
    space,
    thread_in,
)
from tests.kernel.puppets import Puppet, Theatre, refusal, theatre

LAST = thread_id(MAX_THREADS - 1)


Arguments = Mapping[str, Any]
NIL = {"scheduler": 0}
BUSY = thread_id(6)
REFUSED: list[
    tuple[int | str, str, Arguments, Refusal]
] = [  # thread, space, the rest, what it is refused with
    (thread_id(1000, 64), "a", {}, Refusal.NO_SUCH_THREAD),
    (thread_id(1000, 0), "a", {}, Refusal.NO_SUCH_THREAD),
    (0, "a", {}, Refusal.NO_SUCH_THREAD),
    (LOCAL, "a", {}, Refusal.NO_SUCH_THREAD),
    (thread_id(MAX_THREADS), "a", {}, Refusal.NO_SUCH_THREAD),
    (thread_id(SYSTEM_BASE), "a", {}, Refusal.NO_SUCH_THREAD),
    (thread_id(USER_BASE - 1), "nil", {}, Refusal.NO_SUCH_THREAD),
    (thread_id(5), "a", {}, Refusal.NO_SUCH_THREAD),
    (thread_id(5, 3), "itself", {}, Refusal.NO_SUCH_THREAD),
    (thread_id(5), "itself", {"pager": "nobody"}, Refusal.NO_SUCH_THREAD),
    (thread_id(5), "itself", {"pager": "gone"}, Refusal.STALE_THREAD),
    (BUSY, "itself", {"pager": "a"}, Refusal.LINE_BUSY),
    (NEW, "nobody", {}, Refusal.NO_SUCH_SPACE),
    (NEW, "gone", {}, Refusal.NO_SUCH_SPACE),
    (NEW, "local", {}, Refusal.NO_SUCH_SPACE),
    (NEW, "itself", {"pager": "a", "program": PROGRAM}, Refusal.NO_SUCH_SPACE),
    (NEW, "raw", {"pager": "a", "program": PROGRAM}, Refusal.NO_SUCH_SPACE),
    (NEW, "space", {"pager": "a"}, Refusal.BAD_ARGUMENT),
    (NEW, "space", {"program": Program(9, ("x",))}, Refusal.BAD_ARGUMENT),
    (NEW, "space", {"program": TALKER}, Refusal.BAD_DESCRIPTORS),
    (NEW, "a", {"pager": UTCB}, Refusal.BAD_ARGUMENT),
    (NEW, "a", NIL, Refusal.BAD_SCHEDULER),
    (NEW, "itself", NIL, Refusal.BAD_SCHEDULER),
    (NEW, "a", {"scheduler": "nobody"}, Refusal.BAD_SCHEDULER),
    (NEW, "itself", {"utcb": UTCB + 1}, Refusal.BAD_UTCB),
    (NEW, "raw", {"utcb": 0}, Refusal.BAD_UTCB),
    (NEW, "a", {"utcb": UTCB + 512}, Refusal.BAD_UTCB),
    (NEW, "a", {"utcb": UTCB_AREA.stop}, Refusal.BAD_UTCB),
    (NEW, "a", {"utcb": UTCB_AREA.start - UTCB_SIZE}, Refusal.BAD_UTCB),
    (NEW, "a", {"utcb": UTCB_AREA.start}, Refusal.BAD_UTCB),
    (OTHER + 2, "nil", {}, Refusal.STALE_THREAD),
    (OTHER, "itself", {"scheduler": NEW}, Refusal.BAD_SCHEDULER),
    (OTHER, "itself", {"utcb": UTCB + UTCB_SIZE}, Refusal.BAD_UTCB),
    (OTHER, "raw", {}, Refusal.NO_SUCH_SPACE),
    (OTHER, "space", {}, Refusal.BAD_ARGUMENT),
    (OTHER, "space", {"program": PROGRAM}, Refusal.BAD_UTCB),
    ("boss", "a", {}, Refusal.BAD_ARGUMENT),
]


def furnish(stage: Theatre) -> tuple[Puppet, dict[Any, int]]:
    """Furnish a stage for what can be refused; return the caller, and what it may name."""
    boss, a, gone = root(stage), stage.puppet("a"), stage.puppet("gone")
    stage.kill(gone)
    thread_in(boss, a, OTHER)
    space(boss, LAST)
    raw = thread_id(MAX_THREADS - 2)
    control(boss, raw, raw, scheduler=boss.thread)
    control(boss, BUSY, BUSY, pager=boss.thread)
    a.upcalls()
    names = {"a": a.thread, "gone": gone.thread, "nil": 0, "nobody": thread_id(999), "local": LOCAL}
    return boss, {**names, "boss": boss.thread, "space": LAST, "raw": raw}


@pytest.mark.parametrize(("thread", "where", "wishes", "expected"), REFUSED)
def test_refused_whole(thread: int | str, where: str, wishes: Arguments, expected: Refusal) -> None:
    """A wrong argument refuses the trap, by its kind, and nothing has changed."""
    with theatre() as stage:
        boss, names = furnish(stage)
        named = {key: names[value] if isinstance(value, str) else value for key, value in wishes.items()}
        number = names.get(thread, thread)
        space = names.get(where, number)
        before = snapshot(stage)
        refused = refusal(control, boss, number, space, **{"scheduler": boss.thread, **named})

        assert refused == expected
        assert snapshot(stage) == before


def snapshot(stage: Theatre) -> object:
    """Return all that a ThreadControl could have changed."""
    threads = stage.kernel.threads
    return (
        {
            n: (t.id, t.environment, t.pager, t.scheduler, t.utcb, t.active)
            for n, t in threads._threads.items()
        },
        [(e, e.first, e.launched, list(e.threads), e.backlog) for e in stage.kernel.environments],
        list(threads._free),
        dict(threads._versions),
        [line.handler for line in stage.kernel.interrupts.lines],
        len(stage.machine.bodies),
        [puppet.gate.upcalls() for puppet in stage.puppets if puppet.alive],
    )


@pytest.mark.parametrize("rights", [None, ALL_RIGHTS & ~Rights.CONTROL])
def test_privilege(rights: Rights | None) -> None:
    """Only a holder of the factory, with the right to control, may control threads and spaces."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        if rights is not None:
            stage.system.give(a.task, boss.caps[0].resource).rights = rights

        assert refusal(control, a, NEW, NEW, scheduler=a.thread) == Refusal.NO_PRIVILEGE
        assert refusal(a.sys.space_control, a.thread, 0, 0, 0) == Refusal.NO_PRIVILEGE


def test_descriptors_without_a_program() -> None:
    """Descriptors that come without a program to run are refused, and closed."""
    with theatre() as stage:
        boss, ticket = root(stage), stage.machine.console()
        trap = traps.ThreadControl(NEW, NEW, boss.thread)

        assert refusal(boss.sys.thread_control, trap, [ticket]) == Refusal.BAD_DESCRIPTORS
        assert ticket.closed


def full_of_threads(_stage: Theatre, boss: Puppet) -> int:
    for number in range(MAX_SPACE_THREADS - 1):
        control(boss, thread_id(2000 + number), boss.thread, scheduler=boss.thread)
    return boss.thread


def full_of_environments(stage: Theatre, _boss: Puppet) -> int:
    stage.kernel.environments._free.clear()
    return NEW


@pytest.mark.parametrize(
    ("fill", "expected"),
    [(full_of_threads, Refusal.TABLE_FULL), (full_of_environments, Refusal.TOO_MANY_ENVIRONMENTS)],
)
def test_full(fill: Callable[[Theatre, Puppet], int], expected: Refusal) -> None:
    """A space holds a bounded number of threads, the system a bounded number of spaces."""
    with theatre() as stage:
        boss = root(stage)
        rows = stage.kernel.environments._free.copy()
        where = fill(stage, boss)
        refused = refusal(control, boss, NEW, where, scheduler=boss.thread)
        stage.kernel.environments._free = rows

        assert refused == expected
        assert stage.kernel.threads.known(NEW) is None


def test_more_threads_than_utcbs() -> None:
    """When every location of a space's UTCB area is taken, no further thread becomes active in it."""
    with theatre() as stage:
        boss = root(stage)
        child = launched(stage, boss)
        for number in range(3):
            thread_in(boss, child, thread_id(2000 + number))

        assert refusal(thread_in, boss, child, OTHER) == Refusal.BAD_UTCB
