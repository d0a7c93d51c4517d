"""Predicates whose threads die, ask for much, read no message, or ask in the middle of something."""

import msgspec
import pytest

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.events import Event
from kernel.abi.gate import Upcall
from kernel.abi.ids import thread_id
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_CLAUSES, MAX_TERMS
from kernel.abi.messages import Label
from kernel.abi.predicates import Source
from kernel.predicates import LOOK, WORK
from libexo.trace.ring import Ring
from tests.kernel.controls import control, root, thread_in
from tests.kernel.puppets import MS, Puppet, Theatre, refusal, theatre
from tests.kernel.test_predicates import NONE, NUMBER, WAITS, Words, at, is_, woken


def fill(stage: Theatre, puppet: Puppet) -> None:
    """Fill the gate of *puppet*, so that what it is told now is kept for it."""
    while puppet.body.port.offer(b"\x02" + msgspec.msgpack.encode(Upcall(thread_id(64), 1))):
        pass


def test_who_dies() -> None:
    """What a thread waits for ends with it, with nothing left: alarms, looks, accounts."""
    with theatre() as stage:
        words = Words(stage)
        for number in range(1, 9):
            words.sleeper.sys.wake_when(number, ((at(1 << 60),), (is_(words.lent, 0, 1),)))
        stage.check()
        stage.kill(words.sleeper)
        stage.pass_time(5)

        assert (stage.kernel.predicates._waits, stage.kernel.predicates._polled) == ({}, {})
        assert stage.machine.virtual.next() is None
        stage.end()


def test_a_thread_of_its_own() -> None:
    """A predicate is of the thread that is named: it is told, and its end ends it; another's thread is refused."""
    with theatre() as stage:
        words = Words(stage)
        boss, first = root(stage), words.sleeper.thread
        new = thread_in(boss, words.sleeper)
        waits = ((is_(words.lent, 0, 1),),)
        words.sleeper.sys.wake_when(NUMBER, waits, new)
        words.sleeper.sys.wake_when(NUMBER, waits)
        wrong = refusal(words.sleeper.sys.wake_when, NUMBER, waits, words.writer.thread)
        words.view[0] = 1
        stage.pass_time(5)
        told = {up.thread for up in words.sleeper.upcalls() if up.label == Label.WOKEN}
        words.view[0] = 0
        words.sleeper.sys.wake_when(NUMBER, waits, new)
        control(boss, new, 0)
        stage.settle()

        assert (told, wrong) == ({first, new}, Refusal.NO_SUCH_THREAD)
        assert words.sleeper.environment.budget.used[Item.PREDICATES] == 0
        stage.end()


def test_a_message_finds_room() -> None:
    """A predicate keeps a place for its message: who reads none gets it nevertheless, and can wait for no more."""
    with theatre() as stage:
        words = Words(stage)
        budget, ask = words.sleeper.environment.budget, words.sleeper.sys.wake_when
        limit, budget.limit[Item.UPCALLS] = budget.limit[Item.UPCALLS], 5
        waits = ((is_(words.lent, 0, 1),),)
        for number in range(1, 6):
            ask(number, waits)
        full = refusal(ask, 6, waits)
        dropped = stage.kernel.kip.counter(Counter.UPCALLS_DROPPED)
        words.view[0] = 1
        fill(stage, words.sleeper)
        stage.pass_time(5)
        kept = len(words.sleeper.environment.backlog)
        told = []
        while ups := words.sleeper.upcalls():
            told += [up.words[0] for up in ups if up.label == Label.WOKEN]
            stage.pass_time(10)

        assert (full, kept, told) == (Refusal.OVER_BUDGET, 5, [0] * 5)
        assert stage.kernel.kip.counter(Counter.UPCALLS_DROPPED) == dropped
        budget.limit[Item.UPCALLS] = limit
        stage.end()


def test_the_event() -> None:
    """The trace says who was woken, by which clause of which predicate."""
    with theatre() as stage:
        words, ring = Words(stage), Ring(memoryview(stage.kernel.exposure.trace._buffer))
        words.sleeper.sys.wake_when(NUMBER, ((is_(words.lent, 0, 1),), (is_(words.lent, 0, 2),)))
        words.view[0] = 2
        stage.pass_time(5)

        records = [each for each in ring.read() if each.event == Event.WOKEN]
        assert [(r.environment, r.a, r.b) for r in records] == [(words.sleeper.environment.number, 1, NUMBER)]


def test_who_waits_for_thousands_slows_nobody() -> None:
    """A look has a bound, whatever is asked; each family has its turns in it, so others are told in time."""
    with theatre() as stage:
        words = Words(stage)
        hogs = [stage.puppet(f"hog-{n}") for n in range(3)]
        never = tuple(
            (is_(Source.PAGE, 0, 9),) * (MAX_TERMS - 1) + (is_(Source.PAGE, 0, 9),)
            for _ in range(MAX_CLAUSES)
        )
        for hog in hogs:
            for number in range(1, Item.PREDICATES.server + 1):
                hog.sys.wake_when(number, tuple(reversed(never)))
        predicates, longest = stage.kernel.predicates, 0
        words.sleeper.sys.wake_when(NUMBER, ((is_(words.lent, 0, 1),),))
        for _ in range(200):
            before = predicates.work
            stage.pass_time(LOOK / MS)
            longest = max(longest, predicates.work - before)
        words.view[0] = 1
        stage.pass_time(LOOK / MS)

        assert woken(words.sleeper) == [0]
        assert WORK // 2 < longest <= WORK + MAX_TERMS * 2
        assert refusal(hogs[0].sys.wake_when, 10_000, never) == Refusal.OVER_BUDGET
        stage.end()


def test_each_clause_has_its_turn() -> None:
    """Of more clauses than a look has time for each is looked at, within as many looks as that takes."""
    with theatre() as stage:
        words, many = Words(stage), Item.PREDICATES.program
        for number in range(1, many + 1):
            words.sleeper.sys.wake_when(number, ((is_(words.lent, 0, 1),), (is_(words.lent, number, 1),)))
        words.view[many] = 1
        stage.pass_time((1 + many * 4 // WORK) * LOOK / MS)

        assert woken(words.sleeper, many) == [1]
        stage.end()


def test_written_in_the_middle_of_the_trap() -> None:
    """A word that is written while the trap is under way wakes: what counts is that it stands there."""
    with theatre() as stage:
        words = Words(stage)
        thread = words.sleeper.environment.first
        steps = stage.kernel.predicates.wait(
            thread, NUMBER, ((is_(words.lent, 0, 1),), (is_(words.lent, 1, 1),))
        )
        next(steps)
        words.view[0] = 1
        next(steps)
        with pytest.raises(StopIteration) as ended:
            next(steps)
        stage.pass_time(3)

        assert ended.value.value == WAITS
        assert woken(words.sleeper) == [0]


def test_an_end_in_the_middle_of_the_trap() -> None:
    """A thread that ends while its trap is under way waits for nothing."""
    with theatre() as stage:
        words = Words(stage)
        thread = words.sleeper.environment.first
        steps = stage.kernel.predicates.wait(
            thread, NUMBER, ((is_(words.lent, 0, 1),), (is_(words.lent, 1, 1),))
        )
        next(steps)
        stage.kill(words.sleeper)
        with pytest.raises(StopIteration) as ended:
            next(steps)

        assert ended.value.value == NONE
        stage.end()
