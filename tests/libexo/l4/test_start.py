"""The life of threads and spaces, by ThreadControl and SpaceControl: made, started, changed, moved, deleted."""

from collections.abc import Callable

import pytest

import libexo
from kernel.abi.ids import thread_id
from kernel.abi.messages import IpcCode, Phase
from kernel.abi.space import MIN_UTCB_AREA
from libexo import l4
from tests.libexo.l4.stage import (
    LONG,
    SEEDS,
    WAITS,
    Cast,
    Failed,
    Said,
    entry_of,
    play,
    put,
    said,
    sleep,
    stage,
)

conforms = pytest.mark.conforms
KEEP = (1 << 64) - 1
KIP_AREA = l4.Fpage(0x8000_0000, 1 << 24)
UTCB_AREA = l4.Fpage(0x9000_0000, 4 * MIN_UTCB_AREA)
FRESH = thread_id(3100)
SECOND = thread_id(3101)


def report(sp: int) -> None:
    """Begin in a fresh space: tell the pager who and where one is."""
    put(sp, l4.MyGlobalId(), l4.MyLocalId(), libexo.attach().number)
    l4.Send(l4.Pager())
    while True:
        sender, tag = l4.Wait()
        put(*(word + 1 for word in l4.StoreMRs(1, tag.u)))
        l4.Reply(sender)


def make_space(thread: int) -> None:
    """Make a space with *thread*, whose pager is the caller, in three calls."""
    me, utcb = l4.Myself(), l4.Address(UTCB_AREA)
    assert l4.ThreadControl(thread, thread, me, l4.nilthread)
    assert l4.SpaceControl(thread, 0, KIP_AREA, UTCB_AREA, l4.nilthread) == (0, 1)
    assert l4.ThreadControl(thread, thread, l4.nilthread, me, utcb)


def begin(thread: int, sp: int) -> l4.MsgTag:
    put(l4.entry(report), sp)
    return l4.Send(thread)


@conforms("ThreadControl: create and activate")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_fresh_space(seed: int) -> None:
    """Three calls and the start message make a thread in a space of its own, which has the areas it was given."""

    def boss(cast: Cast) -> object:
        make_space(FRESH)
        assert not begin(FRESH, 7).E
        sender, tag = l4.Wait()
        seen = sender == FRESH, said(tag), libexo.attach().number
        put(1, 2)
        answer = said(l4.Call(FRESH))
        return seen, answer, l4.ThreadControl(FRESH, l4.nilthread, l4.nilthread, l4.nilthread)

    (from_it, message, here), answer, deleted = play(seed=seed, boss=boss)["boss"]

    assert from_it
    assert message.words[:3] == (7, FRESH, l4.Address(UTCB_AREA))
    assert message.words[3] != here
    assert (answer, deleted) == (Said((2, 3)), 1)


@conforms("ThreadControl: create and activate")
def test_a_second_thread_of_a_fresh_space() -> None:
    """A space that was made so can have more threads, each at its place in the UTCB area."""

    def boss(cast: Cast) -> object:
        make_space(FRESH)
        begin(FRESH, 1)
        first = said(l4.Receive(FRESH))
        utcb = l4.Address(UTCB_AREA) + 1024
        assert l4.ThreadControl(SECOND, FRESH, l4.Myself(), l4.Myself(), utcb)
        begin(SECOND, 2)
        second = said(l4.Receive(SECOND))
        assert l4.ThreadControl(SECOND, l4.nilthread, l4.nilthread, l4.nilthread)
        put(5)
        alive = said(l4.Call(FRESH))
        l4.ThreadControl(FRESH, l4.nilthread, l4.nilthread, l4.nilthread)
        return first, second, utcb, alive

    first, second, utcb, alive = play(boss=boss)["boss"]

    assert second.words[:3] == (2, SECOND, utcb)
    assert first.words[3] == second.words[3]
    assert alive == Said((6,))


@conforms("Thread start")
@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_pager_starts(seed: int) -> None:
    """A new thread receives from its pager alone: anybody else waits until it is started, and receives."""

    def space(cast: Cast) -> None:
        thread = cast.waiting("other")
        sleep(3 * LONG)
        cast.start(thread, entry_of("right", lambda sp: cast.results.update(other=("right", sp))), 4)

    def stranger(cast: Cast) -> object:
        while "other" not in cast.ids:
            sleep(100)
        put(entry_of("stranger's", lambda sp: None), 0)
        return said(l4.Send_Timeout(cast.other, l4.TimePeriod(LONG)))

    results = play(seed=seed, space=space, stranger=stranger)

    assert results["stranger"] == Failed(IpcCode.TIMEOUT, Phase.SEND)
    assert results["other"] == ("right", 4)


@conforms("Thread start")
@pytest.mark.parametrize("words", [(), (1,), (1, 2, 3)])
def test_a_start_message_of_another_length(words: tuple[int, ...]) -> None:
    """A start message without exactly two words starts the thread where ExchangeRegisters said."""

    def space(cast: Cast) -> object:
        seen: list[int] = []
        thread = cast.waiting("other")
        l4.ExchangeRegisters(thread, 1 << 3 | 1 << 4, sp=11, ip=entry_of("other", seen.append))
        put(*words)
        result = said(l4.Send(thread))
        sleep()
        return result, seen

    assert play(space=space)["space"] == (Said(()), [11])


@conforms("Thread start")
def test_a_pager_that_is_another_thread() -> None:
    """The pager may be anybody: it starts the thread from another space."""

    def space(cast: Cast) -> object:
        cast.waiting("other", cast.pager)
        return sleep(LONG)

    def pager(cast: Cast) -> object:
        while "other" not in cast.ids:
            sleep(100)
        put(entry_of("other", lambda sp: cast.results.update(other=sp)), 8)
        return said(l4.Send(cast.other))

    results = play(space=space, pager=pager)

    assert (results["pager"], results["other"]) == (Said(()), 8)


@conforms("Thread start")
def test_a_function_that_returns() -> None:
    """A thread whose function has returned is halted: it is there, receives nothing, and can be sent elsewhere."""

    def space(cast: Cast) -> object:
        seen: list[int] = []
        thread = cast.beside("other", lambda cast: "returned")
        sleep()
        put(1)
        sent = said(l4.Send_Timeout(thread, l4.TimePeriod(LONG)))
        l4.ExchangeRegisters(thread, 1 << 8)
        state = l4.ExchangeRegisters(thread, 0).control & 1
        sleep()
        l4.Start_SpIp(thread, 3, entry_of("again", seen.append))
        sleep()
        return sent, state, seen

    results = play(space=space)

    assert results == {"space": (Failed(IpcCode.TIMEOUT, Phase.SEND), 0, [3]), "other": "returned"}


@conforms("ThreadControl: modify")
def test_renamed() -> None:
    """A new version makes the old id unknown; threads waiting for it are told, and the new one is reached."""

    def space(cast: Cast) -> object:
        thread = cast.beside("other", lambda cast: said(l4.Wait()[1]))
        renamed = thread + 2
        assert l4.ThreadControl(renamed, thread, l4.nilthread, l4.nilthread)
        put(1)
        old = said(l4.Send(thread))
        put(2)
        return old, said(l4.Send(renamed)), l4.ExchangeRegisters(thread, 0).result

    results = play(space=space)

    assert results == {"space": (Failed(IpcCode.NO_PARTNER, Phase.SEND), Said(()), 0), "other": Said((2,))}


@conforms("ThreadControl: modify")
def test_moved() -> None:
    """A thread that is moved to another space waits there for its start message."""

    def space(cast: Cast) -> object:
        thread = cast.beside("other", lambda cast: l4.Wait())
        sleep()
        assert l4.ThreadControl(thread, cast.target, l4.nilthread, l4.Myself()), l4.ErrorCode()
        gone = l4.ExchangeRegisters(thread, 0).result
        cast.start(thread, entry_of("moved", moved), 6)
        return gone, said(l4.Receive(thread))

    def moved(sp: int) -> None:
        put(sp, libexo.attach().number)
        l4.Send(l4.Pager())

    def target(cast: Cast) -> object:
        sleep(LONG)
        return libexo.attach().number

    results = play(space=space, target=target)

    assert results["space"] == (0, Said((6, results["target"])))


@conforms("ThreadControl: delete")
def test_deleting_oneself() -> None:
    """A privileged thread may delete itself: it ends, and its environment goes on."""

    def space(cast: Cast) -> object:
        def other(cast: Cast) -> object:
            l4.ThreadControl(l4.Myself(), l4.nilthread, l4.nilthread, l4.nilthread)
            return "still here"

        thread = cast.beside("other", other)
        sleep()
        put(1)
        return said(l4.Send(thread))

    assert play(space=space) == {"space": Failed(IpcCode.NO_PARTNER, Phase.SEND), "other": WAITS}


@conforms("ThreadControl: delete")
def test_deleting_the_first_thread_of_another_space() -> None:
    """With its first thread a space ends; deleting it again, and what never was, succeeds."""

    def boss(cast: Cast) -> object:
        def delete(thread: int) -> int:
            return l4.ThreadControl(thread, l4.nilthread, l4.nilthread, l4.nilthread)

        first = delete(cast.victim)
        sleep()
        return first, delete(cast.victim), delete(thread_id(3999))

    with stage() as cast:
        cast.add("boss", boss)
        cast.add("victim", lambda cast: sleep(LONG))
        cast.system.run()

        assert cast.result("boss") == (1, 1, 1)
        assert cast.tasks["victim"].ended
        assert cast.tasks["victim"].status != 0


def scheduler_of(thread: int) -> int:
    row = libexo.attach().kip.thread(thread)
    return row.scheduler if row is not None else 0


@conforms("ThreadControl: modify")
def test_changed_one_by_one() -> None:
    """Nilthread, and -1 for the UTCB, leave a thing as it is: scheduler and pager are set each for itself."""

    def space(cast: Cast) -> object:
        thread = cast.beside("other", lambda cast: (l4.Wait(), l4.Pager())[1])
        assert l4.ThreadControl(thread, thread, cast.stranger, l4.nilthread)
        one = scheduler_of(thread) == cast.stranger, l4.PagerOf(thread) == l4.Myself()
        assert l4.ThreadControl(thread, thread, l4.nilthread, cast.stranger)
        two = scheduler_of(thread) == cast.stranger, l4.PagerOf(thread) == cast.stranger
        put()
        l4.Send(thread)
        return one, two

    results = play(space=space, stranger=lambda cast: sleep(LONG))

    assert results["space"] == ((True, True), (True, True))


ERRORS = [
    ("unknown space", (SECOND, thread_id(3999), 1, 0, KEEP), l4.ErrInvalidSpace),
    ("no scheduler", (SECOND, 1, 0, 0, KEEP), l4.ErrInvalidScheduler),
    ("unknown scheduler", (SECOND, 1, thread_id(3999), 0, KEEP), l4.ErrInvalidScheduler),
    ("kernel thread", (thread_id(70), 1, 1, 0, KEEP), l4.ErrInvalidThread),
    ("local id", (0x7000_0000_0000, 1, 1, 0, KEEP), l4.ErrInvalidThread),
    ("number too large", (thread_id(1 << 20), 1, 1, 0, KEEP), l4.ErrInvalidThread),
    ("no space yet", (SECOND, SECOND, 1, 1, KEEP), l4.ErrInvalidSpace),
    ("UTCB not aligned", (SECOND, 1, 1, 1, 0x7000_0000_0001), l4.ErrUtcbArea),
    ("UTCB outside", (SECOND, 1, 1, 1, 0x10_0000), l4.ErrUtcbArea),
    ("UTCB taken", (SECOND, 1, 1, 1, 0x7000_0000_0000), l4.ErrUtcbArea),
]


@conforms("ThreadControl: errors")
@pytest.mark.parametrize(
    ("arguments", "code"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS]
)
def test_refused(arguments: tuple[int, ...], code: int) -> None:
    """ThreadControl refuses with X.2's code, and nothing has changed."""

    def boss(cast: Cast) -> object:
        me = l4.Myself()
        dest, space, scheduler, pager, utcb = (me if value == 1 else value for value in arguments)
        done = l4.ThreadControl(dest, space, scheduler, pager, utcb), l4.ErrorCode()
        return done, [row.thread for row in libexo.attach().kip.threads() if row.thread != me]

    assert play(boss=boss)["boss"] == ((0, code), [])


@conforms("ThreadControl: errors")
def test_without_privilege() -> None:
    """Threads, spaces, processors and memory attributes are for privileged spaces: error 1 for any other."""

    def poor(cast: Cast) -> object:
        me = l4.Myself()
        refused: list[Callable[[], int]] = [
            lambda: l4.ThreadControl(SECOND, me, me, me),
            lambda: l4.SpaceControl(me, 0, KIP_AREA, UTCB_AREA, l4.nilthread)[1],
            lambda: l4.ProcessorControl(0, 1, 1, 0),
            lambda: l4.AssociateInterrupt(thread_id(5), me),
        ]
        return [(call(), l4.ErrorCode()) for call in refused]

    with stage() as cast:
        task = cast.add("poor", poor, holds=())
        cast.system.run()

        assert task.result == [(0, l4.ErrNoPrivilege)] * 4


AREAS = [
    ("UTCB area nil", (KIP_AREA, l4.Nilpage), l4.ErrUtcbArea),
    ("UTCB area too high", (KIP_AREA, l4.Fpage(1 << 47, 1 << 14)), l4.ErrUtcbArea),
    ("KIP area nil", (l4.Nilpage, UTCB_AREA), l4.ErrKipArea),
    ("KIP area too small", (l4.Fpage(0x8000_0000, 1024), UTCB_AREA), l4.ErrKipArea),
    ("KIP and UTCB overlap", (l4.Fpage(0x9000_0000, 1 << 24), UTCB_AREA), l4.ErrKipArea),
]


@conforms("SpaceControl: errors")
@pytest.mark.parametrize(("areas", "code"), [case[1:] for case in AREAS], ids=[case[0] for case in AREAS])
def test_areas_that_cannot_be(areas: tuple[int, int], code: int) -> None:
    """Areas that are too small, out of reach or not apart are refused, and can be set rightly after."""

    def boss(cast: Cast) -> object:
        assert l4.ThreadControl(FRESH, FRESH, l4.Myself(), l4.nilthread)
        wrong = l4.SpaceControl(FRESH, 0, *areas, l4.nilthread), l4.ErrorCode()
        right = l4.SpaceControl(FRESH, 0, KIP_AREA, UTCB_AREA, l4.nilthread)
        return wrong, right, l4.ThreadControl(FRESH, l4.nilthread, l4.nilthread, l4.nilthread)

    assert play(boss=boss)["boss"] == (((0, 0), code), (0, 1), 1)


@conforms("SpaceControl: errors")
def test_a_space_that_is_none() -> None:
    """SpaceControl names a space by any thread in it; by a thread that is not, error 3; a control word, error 5."""

    def boss(cast: Cast) -> object:
        args = KIP_AREA, UTCB_AREA, l4.nilthread
        unknown = l4.SpaceControl(thread_id(3999), 0, *args), l4.ErrorCode()
        return unknown, (l4.SpaceControl(l4.Myself(), 1 << 63, *args), l4.ErrorCode())

    assert play(boss=boss)["boss"] == (((0, 0), l4.ErrInvalidSpace), ((0, 0), l4.ErrInvalidParam))
