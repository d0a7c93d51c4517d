"""Predicates: the kernel looks at words and the clock, and says which clause is true."""

import errno

import pytest

from hwmodel.failures import HostFailure
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import KERNEL_PREDICATES, thread_id
from kernel.abi.kip import Counter, Head, Page
from kernel.abi.limits import MIN_RING_FRAMES
from kernel.abi.messages import Label
from kernel.abi.predicates import Operator, Outcome, Source, Term
from kernel.abi.rights import Rights
from kernel.frames import Extent
from kernel.predicates import LOOK
from tests.kernel.passing import passed
from tests.kernel.puppets import MS, Puppet, Theatre, refusal, theatre

NUMBER = 77
WAITS, NONE, IMPOSSIBLE = Outcome.WAITS, Outcome.NONE, Outcome.IMPOSSIBLE


def is_(handle: int, at: int, value: int, operator: Operator = Operator.EQUAL) -> Term:
    """The comparison of a word with a constant."""
    return Term(handle, at, operator, value)


def at(ns: int) -> Term:
    """A time."""
    return Term(Source.CLOCK, 0, Operator.AT_LEAST, ns)


class Words:
    """An extent of one page that two puppets have, as words the first writes."""

    def __init__(self, stage: Theatre) -> None:
        self.writer, self.sleeper = stage.pair()
        self.handle = self.writer.sys.carve(self.writer.handles[0], 1).extent
        self.view = self.writer.env.views.map(self.handle).cast("Q")
        self.lent = passed(self.writer, self.handle, self.sleeper, Rights.READ)
        self.sleeper.upcalls()


def woken(puppet: Puppet, number: int = NUMBER) -> list[int]:
    """What the kernel said of a predicate since the last time."""
    sender = thread_id(KERNEL_PREDICATES, number)
    return [up.words[0] for up in puppet.upcalls() if (up.label, up.sender) == (Label.WOKEN, sender)]


def test_the_clause_that_is_true() -> None:
    """A thread is told once which clause of its predicate is true, and the writer makes no trap."""
    with theatre() as stage:
        words = Words(stage)
        waits = ((is_(words.lent, 3, 1), is_(words.lent, 4, 7)), (is_(words.lent, 511, 5, Operator.MORE),))
        first = words.sleeper.sys.wake_when(NUMBER, waits)
        before = stage.kernel.kip.counter(Counter.TRAPS)
        words.view[3] = 1
        stage.pass_time(5)
        half = woken(words.sleeper)
        words.view[511] = 6
        stage.pass_time(3)

        assert (first, half, woken(words.sleeper)) == (WAITS, [], [1])
        assert stage.kernel.kip.counter(Counter.TRAPS) == before
        stage.pass_time(10)
        assert woken(words.sleeper) == []
        stage.end()


@pytest.mark.parametrize(
    ("operator", "true"),
    [
        ("EQUAL", [5]),
        ("DIFFERENT", [4, 6]),
        ("LESS", [4]),
        ("AT_MOST", [4, 5]),
        ("MORE", [6]),
        ("AT_LEAST", [5, 6]),
    ],
)
def test_operators(operator: str, true: list[int]) -> None:
    """Each operator compares unsigned numbers, of words, constants, and both pages."""
    with theatre() as stage:
        words, found = Words(stage), []
        for value in (4, 5, 6):
            words.view[0] = value
            answer = words.sleeper.sys.wake_when(NUMBER, ((is_(words.lent, 0, 5, Operator[operator]),),))
            found += [value] if answer == 0 else []

        assert found == true
        big = ((is_(words.lent, 0, (1 << 64) - 1, Operator.LESS),),)
        frames = ((Term(Source.INTERFACE, Head.FRAME_COUNT, Operator.EQUAL, stage.kernel.frames.total),),)
        equal = ((Term(words.lent, 0, Operator.EQUAL, 0, words.lent),),)
        slices = ((Term(Source.PAGE, Page.SLICES, Operator.EQUAL, 0),),)
        for each in (big, frames, equal, slices):
            assert words.sleeper.sys.wake_when(NUMBER, each) == 0


def test_what_is_true_already() -> None:
    """A word that was written before the wait is no message: the trap says so, and nothing waits."""
    with theatre() as stage:
        words = Words(stage)
        words.view[9] = 3
        waits = ((is_(words.lent, 0, 1),), (is_(words.lent, 9, 3),), (is_(words.lent, 9, 3),))

        assert words.sleeper.sys.wake_when(NUMBER, waits) == 1
        assert words.sleeper.sys.wake_when(NUMBER, ()) == NONE
        stage.pass_time(10)
        assert woken(words.sleeper) == []
        stage.check()


def test_a_time_is_exact() -> None:
    """A time has an alarm of its own; one with words is looked at when it comes, and from then on."""
    with theatre() as stage:
        words, now = Words(stage), stage.machine.clock.now()
        times = ((at(now + 7_123_457),), (at(now + 9_000_001), is_(words.lent, 0, 1)))
        words.sleeper.sys.wake_when(NUMBER, times)
        words.sleeper.sys.wake_when(NUMBER + 1, times[1:])
        words.view[0] = 1
        told = []
        while stage.machine.clock.now() < now + 10_000_000:
            stage.machine.drive(stage.supervisor, limit=(at_ := stage.machine.virtual.next()))
            assert at_ is not None
            told += [
                (up.words[0], stage.machine.clock.now() - now)
                for up in words.sleeper.upcalls()
                if up.label == Label.WOKEN
            ]

        assert told == [(0, 7_123_457), (0, 9_000_001)]


def test_no_look_without_words() -> None:
    """With no predicate, or times alone, the kernel sets no alarm but theirs and looks at nothing."""
    with theatre() as stage:
        words, predicates = Words(stage), stage.kernel.predicates
        words.sleeper.sys.wake_when(NUMBER, ((at(stage.machine.clock.now() + 60 * 1000 * MS),),))
        work = predicates.work
        stage.pass_time(1000)
        quiet = predicates.work - work
        words.sleeper.sys.wake_when(NUMBER, ((is_(words.lent, 0, 1),),))
        work = predicates.work
        stage.pass_time(100)
        looked = predicates.work - work
        words.sleeper.sys.wake_when(NUMBER, ())
        work = predicates.work
        stage.pass_time(1000)

        assert (quiet, predicates.work - work) == (0, 0)
        assert looked == pytest.approx(2 * 100 * MS / LOOK, abs=2)
        assert stage.machine.virtual.next() is None


def test_replaced_and_cancelled() -> None:
    """Under the same number a predicate takes the place of the one before, in one trap; a refused one does not."""
    with theatre() as stage:
        words = Words(stage)
        ask = words.sleeper.sys.wake_when
        answers = [ask(NUMBER, ((is_(words.lent, 0, 1),),)), ask(NUMBER, ((is_(words.lent, 0, 2),),))]
        refused = refusal(ask, NUMBER, ((is_(words.lent, 512, 3),),))
        words.view[0] = 1
        stage.pass_time(5)
        first = woken(words.sleeper)
        words.view[0] = 2
        stage.pass_time(5)

        assert (answers, refused, first) == ([WAITS, WAITS], Refusal.BAD_ARGUMENT, [])
        assert woken(words.sleeper) == [0]
        assert [ask(NUMBER, ()), ask(NUMBER, ((is_(words.lent, 0, 1),),)), ask(NUMBER, ())] == [
            NONE,
            WAITS,
            WAITS,
        ]
        words.view[0] = 1
        stage.pass_time(5)
        assert woken(words.sleeper) == []
        assert words.sleeper.environment.budget.used[Item.PREDICATES] == 0


def test_what_may_not_be_read() -> None:
    """Each wrong operand is a refusal that says what is wrong, in whichever place it stands."""
    with theatre() as stage:
        words = Words(stage)
        writer, true, ram = words.writer, is_(words.lent, 0, 0), words.writer.handles[0]
        blind = passed(writer, words.handle, words.sleeper, Rights.WRITE)
        paged = writer.sys.object_create(traps.ObjectCreate(ram, 2, 2)).extent
        part = passed(
            writer,
            writer.sys.derive(words.handle, int(Rights.READ | Rights.TRANSFER), 0, 1),
            words.sleeper,
            Rights.READ,
        )
        expected = {
            (words.sleeper, words.lent, 512): Refusal.BAD_ARGUMENT,
            (words.sleeper, part, 512): Refusal.BAD_ARGUMENT,
            (words.sleeper, words.lent, (1 << 64) - 1): Refusal.BAD_ARGUMENT,
            (words.sleeper, blind, 0): Refusal.MISSING_RIGHT,
            (words.sleeper, words.lent + (1 << 16), 0): Refusal.STALE_HANDLE,
            (words.sleeper, 999, 0): Refusal.BAD_HANDLE,
            (words.sleeper, Source.PAGE, 1 << 20): Refusal.BAD_HANDLE,
            (words.sleeper, Source.INTERFACE, 1 << 60): Refusal.BAD_HANDLE,
            (words.sleeper, 4 << 16, 0): Refusal.BAD_HANDLE,
            (writer, ram, 0): Refusal.WRONG_KIND,
            (writer, paged, 0): Refusal.WRONG_KIND,
        }
        found = {}
        for who, source, word in expected:
            bad = Term(0, 0, Operator.EQUAL, word, source)
            start = (true,) if who is words.sleeper else ()
            found[who, source, word] = refusal(who.sys.wake_when, NUMBER, (start or (bad,), (*start, bad)))

        assert found == expected
        stage.end()


def test_revoked_memory() -> None:
    """A clause whose word was taken is impossible; when all are, the thread is told at the next look."""
    with theatre() as stage:
        words = Words(stage)
        other = words.writer.sys.carve(words.writer.handles[0], 1).extent
        theirs = passed(words.writer, other, words.sleeper, Rights.READ)
        words.sleeper.sys.wake_when(NUMBER, ((is_(words.lent, 0, 1),), (is_(theirs, 0, 1),)))
        words.sleeper.sys.wake_when(
            NUMBER + 1, ((is_(words.lent, 0, 1),), (at(1 << 62), is_(words.lent, 0, 1)))
        )
        words.writer.sys.revoke(words.handle)
        stage.pass_time(5)
        half = woken(words.sleeper)
        stage.kill(words.writer)
        stage.pass_time(5)
        told = [(up.sender, up.words) for up in words.sleeper.upcalls() if up.label == Label.WOKEN]

        assert half == []
        assert told == [(thread_id(KERNEL_PREDICATES, NUMBER), (IMPOSSIBLE,))]
        stage.end()


def test_memory_that_moves() -> None:
    """A word is found where it lies: in a part, and after a split moved it; while it may be read."""
    with theatre() as stage:
        a, b = stage.pair()
        whole = a.sys.carve(a.handles[0], 4).extent
        view = a.env.views.map(whole).cast("Q")
        lent = passed(a, whole, b, Rights.READ)
        b.sys.wake_when(NUMBER, ((is_(lent, 2 * 512 + 1, 8),),))
        third = passed(a, a.sys.derive(whole, int(Rights.READ | Rights.TRANSFER), 2, 1), b, Rights.READ)
        b.sys.wake_when(NUMBER + 1, ((is_(third, 1, 8),),))
        a.env.views.moved(whole)
        view[2 * 512 + 1] = 8
        stage.pass_time(5)
        told = [up.words for up in b.upcalls() if up.label == Label.WOKEN]
        b.sys.wake_when(NUMBER, ((is_(lent, 0, 8),),))
        a.sys.narrow(whole, int(Rights.READ))
        stage.pass_time(5)

        assert told == [(0,), (0,)]
        assert woken(b) == [IMPOSSIBLE]
        stage.end()


def test_memory_of_a_ring() -> None:
    """What becomes the memory of a ring can be read no more."""
    with theatre() as stage:
        a, b = stage.pair()
        purse = a.sys.carve(a.handles[0], MIN_RING_FRAMES).extent
        a.sys.wake_when(NUMBER, ((is_(purse, 0, 8),),))
        _, given = a.sys.bind(b.thread, ring=purse)
        for descriptor in given:
            a.host.close_descriptor(descriptor)
        stage.pass_time(5)

        assert woken(a) == [IMPOSSIBLE]
        assert refusal(a.sys.wake_when, NUMBER, ((is_(purse, 0, 8),),)) == Refusal.RING_MEMORY
        stage.end()


def test_a_word_on_the_move() -> None:
    """While memory is copied elsewhere no word of it is read, or if a call fails: it is looked at again."""
    with theatre() as stage:
        words = Words(stage)
        extent = words.writer.environment.table.lookup(words.handle).resource
        assert isinstance(extent, Extent)
        words.sleeper.sys.wake_when(NUMBER, ((is_(words.lent, 0, 0, Operator.DIFFERENT),),))
        words.view[0] = 1
        for _ in extent.lock():
            pass
        stage.pass_time(5)
        while_locked = woken(words.sleeper)
        extent.unlock()
        calls = stage.machine.calls
        calls.failures.fail_call(HostFailure(calls._of_name["pread"] + 1, errno.EIO, "pread"))
        stage.pass_time(5)

        assert (while_locked, woken(words.sleeper)) == ([], [0])
        assert len(calls.failures.failed_calls) == 1
