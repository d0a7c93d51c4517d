"""ThreadControl: threads made, changed, moved and deleted from outside, each time whole or not at all."""

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_id, thread_number
from kernel.abi.kip import UTCB_SIZE, Counter, ThreadState
from kernel.abi.limits import MAX_THREADS
from kernel.abi.messages import Label
from kernel.abi.program import Program, ProgramKind
from kernel.abi.space import UTCB_AREA
from libexo import attach
from tests.kernel.controls import (
    NEW,
    OTHER,
    UTCB,
    control,
    root,
    row,
    thread_in,
    thread_news,
)
from tests.kernel.puppets import refusal, theatre, wait_for_ever
from tests.kernel.test_bindings import bind

LAST = thread_id(MAX_THREADS - 1)


def test_a_thread_in_a_living_space() -> None:
    """With a pager a new thread is active at once: its environment is told, the KIP shows it, it can be called."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        thread_in(boss, a)

        assert thread_news(a) == [(0, NEW, boss.thread, boss.thread, UTCB)]
        home = a.environment.number + 1
        assert row(stage, NEW) == (NEW, home, ThreadState.ACTIVE, boss.thread, boss.thread, 0)
        assert bind(boss, NEW).thread == NEW


def test_an_inactive_thread() -> None:
    """Without a pager a new thread is inactive: it is shown, but nobody can call it until its first pager."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        control(boss, NEW, a.thread, scheduler=a.thread)
        shown, called = row(stage, NEW), refusal(boss.sys.bind, NEW)
        control(boss, NEW, NEW, pager=a.thread)

        assert shown == (NEW, a.environment.number + 1, ThreadState.INACTIVE, 0, a.thread, 0)
        assert called == Refusal.NO_SUCH_THREAD
        assert thread_news(a) == [(0, NEW, a.thread, a.thread, UTCB)]
        assert row(stage, NEW)[2:5] == (ThreadState.ACTIVE, a.thread, a.thread)


def test_first_threads_of_programs() -> None:
    """A program's first thread is active; memory and scheduler servers are its pager and scheduler, if there."""
    with theatre() as stage:
        a, memory, scheduler = stage.puppet("a"), stage.puppet("memory"), stage.puppet("scheduler")
        b = stage.puppet("b")

        assert row(stage, a.thread)[2:] == (ThreadState.ACTIVE, 0, 0, 0)
        assert row(stage, scheduler.thread)[2:] == (ThreadState.ACTIVE, memory.thread, 0, 0)
        assert row(stage, b.thread)[2:] == (ThreadState.ACTIVE, memory.thread, scheduler.thread, 0)


def test_the_root_task_schedules_while_nobody_else_does() -> None:
    """While there is no scheduler server, the root task is the scheduler of programs, but not its own."""
    with theatre() as stage:
        stage.machine.programs["top"] = lambda: wait_for_ever(attach())
        top = stage.kernel.environments.create("top", Program(ProgramKind.PYTHON, ("top",)), [], number=98)
        a = stage.puppet("a")

        assert [row(stage, thread)[4] for thread in (top.thread, a.thread)] == [0, top.thread]


def test_chosen_locations_do_not_stay_free() -> None:
    """A location that was set while its thread was inactive is not given to another."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        control(boss, NEW, a.thread, scheduler=a.thread, utcb=UTCB)
        thread_in(boss, a, OTHER)

        assert thread_news(a)[0][4] == UTCB + UTCB_SIZE


def test_a_number_can_be_used_again() -> None:
    """A deleted thread's number, even its id, can be created again; deleting what is not there is success."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        for _ in range(2):
            thread_in(boss, a)
            control(boss, NEW, 0)
            control(boss, NEW, 0)

        assert (
            thread_news(a)
            == [
                (0, NEW, boss.thread, boss.thread, UTCB),
                (NEW, 0, boss.thread, boss.thread, UTCB),
            ]
            * 2
        )


def test_the_kernel_gives_out_no_chosen_number() -> None:
    """Numbers that were chosen are not given to programs while they are in use, nor old versions after."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        following = thread_number(a.thread) + 1
        thread_in(boss, a, thread_id(following, 7))
        b = stage.puppet("b")
        control(boss, thread_id(following, 7), 0)
        stage.kernel.threads._free.rotate(1)
        c = stage.puppet("c")

        assert thread_number(b.thread) == following + 1
        assert c.thread == thread_id(following, 9)


def test_renamed() -> None:
    """A new version renames the thread: the old id is stale, its callers are told, what it bound stays its own."""
    with theatre() as stage:
        boss, a, b = root(stage), stage.puppet("a"), stage.puppet("b")
        thread_in(boss, a)
        token = bind(a, b.thread, NEW).token
        bind(b, NEW)
        a.upcalls()
        epoch = boss.env.kip.epoch
        control(boss, NEW + 4, a.thread)

        assert thread_news(a) == [(NEW, NEW + 4, boss.thread, boss.thread, UTCB)]
        assert b.told() == [(Label.PARTNER_GONE, (NEW,))]
        assert boss.env.kip.epoch > epoch
        assert b.sys.identify(token).thread == NEW + 4
        assert refusal(b.sys.bind, NEW) == Refusal.STALE_THREAD
        assert row(stage, NEW)[0] == bind(b, NEW + 4).thread == NEW + 4


def test_a_first_thread_renamed() -> None:
    """When the first thread of an environment is renamed, its name leads to the new id."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        boss.sys.name_publish(boss.handles[0], "alias", a.thread)
        control(boss, a.thread + 2, a.thread)

        assert stage.kernel.kip.owner("a") == a.thread == a.sys.kernel_interface()[0].thread
        assert stage.kernel.kip.owner("alias") == 0


def test_changed() -> None:
    """Scheduler and pager change alone or together, and what is nil stays."""
    with theatre() as stage:
        boss, a, b = root(stage), stage.puppet("a"), stage.puppet("b")
        thread_in(boss, a)
        a.upcalls()
        control(boss, NEW, a.thread, scheduler=b.thread)
        control(boss, NEW, a.thread, pager=b.thread)
        control(boss, NEW, NEW)

        assert thread_news(a) == [
            (NEW, NEW, boss.thread, b.thread, UTCB),
            (NEW, NEW, b.thread, b.thread, UTCB),
            (NEW, NEW, b.thread, b.thread, UTCB),
        ]
        assert row(stage, NEW)[3:5] == (b.thread, b.thread)


def test_moved() -> None:
    """An active thread that is moved is gone from one environment and new in the other, bound to nobody."""
    with theatre() as stage:
        boss, a, b = root(stage), stage.puppet("a"), stage.puppet("b")
        thread_in(boss, a)
        bind(boss, NEW)
        bind(a, boss.thread, NEW)
        a.upcalls()
        control(boss, NEW, b.thread)

        assert thread_news(a) == [(NEW, 0, boss.thread, boss.thread, UTCB)]
        assert thread_news(b) == [(0, NEW, boss.thread, boss.thread, UTCB)]
        assert (boss.told(), a.environment.outgoing) == ([(Label.PARTNER_GONE, (NEW,))], {})
        assert row(stage, NEW)[1] == b.environment.number + 1
        assert bind(b, boss.thread, NEW).thread == boss.thread


def test_utcb_locations() -> None:
    """A location can be chosen when the thread is made; without a choice it is the first that is free."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        last = UTCB_AREA.stop - UTCB_SIZE
        control(boss, NEW, a.thread, scheduler=a.thread, pager=a.thread, utcb=UTCB)
        control(boss, OTHER, a.thread, scheduler=a.thread, utcb=last)
        control(boss, OTHER, a.thread, pager=a.thread)
        control(boss, LAST, a.thread, scheduler=a.thread, pager=a.thread)
        control(boss, LAST, a.thread, utcb=UTCB + UTCB_SIZE)

        assert [words[4] for words in thread_news(a)] == [UTCB, last, *[UTCB + UTCB_SIZE] * 2]


def test_deleting_the_first_thread() -> None:
    """With its main thread an environment ends, whatever others it has: they are gone when the trap returns."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        thread_in(boss, a)
        control(boss, a.thread, 0)
        called = [refusal(boss.sys.bind, thread) for thread in (a.thread, NEW)]
        stage.settle()

        assert called == [Refusal.STALE_THREAD] * 2
        assert not a.alive


def test_deleting_oneself() -> None:
    """A thread may delete itself: its environment is told; if it was the first, it ends after the answer."""
    with theatre() as stage:
        boss = root(stage)
        thread_in(boss, boss)
        boss.upcalls()
        control(boss, NEW, 0)
        told = thread_news(boss)
        control(boss, boss.thread, 0)
        alive = boss.alive
        stage.settle()

        assert told == [(NEW, 0, boss.thread, boss.thread, UTCB)]
        assert (alive, boss.alive) == (True, False)


def test_deleting_oneself_among_other_traps() -> None:
    """Later traps of a batch that deletes the caller are still done: the end comes after the answer."""
    with theatre() as stage:
        boss = root(stage)
        batch = [traps.ThreadControl(boss.thread, 0), traps.Inventory(), traps.ThreadControl(boss.thread, 0)]
        (_, handles, _), _ = boss.sys.batch(batch)
        stage.settle()

        assert (list(handles), boss.alive) == (boss.handles, False)


def test_nothing_is_heard_from_who_is_deleted() -> None:
    """Between the deletion of its first thread and the end of its body no trap of an environment is done."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        traps_before = stage.kernel.kip.counter(Counter.TRAPS)
        control(boss, a.thread, 0)
        stage.supervisor.trap(a.body, b"\xff", [])
        stage.settle()

        assert (a.alive, a.environment.fault) == (False, 0)
        assert stage.kernel.kip.counter(Counter.TRAPS) == traps_before + 1


def test_a_number_kept_for_a_successor() -> None:
    """The number of an environment that awaits a successor cannot be chosen; the successor gets it."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a", keeps=True)
        stage.system.give(boss.task, a.environment)
        control(boss, a.thread, 0)
        stage.settle()
        taken = refusal(control, boss, a.thread + 2, boss.thread, scheduler=boss.thread)

        assert taken == Refusal.NO_SUCH_THREAD
        assert stage.heir(a).thread == a.thread + 2


def test_interrupts() -> None:
    """Any active thread can be made the handler of a line; its messages name the thread, until it is released."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        thread_in(boss, a)
        a.upcalls()
        line = thread_id(5)
        control(boss, line, line, pager=NEW)
        control(boss, line, line)
        stage.machine.interrupts.trigger(5)
        [upcall] = a.upcalls()
        a.sys.acknowledge(line)
        control(boss, line, line, pager=line)
        stage.machine.interrupts.trigger(5)

        assert (upcall.sender, upcall.label, upcall.thread) == (line, Label.INTERRUPT, NEW)
        assert (a.upcalls(), stage.kernel.interrupts.lines[5].handler) == ([], None)


def test_a_deleted_handler() -> None:
    """When the thread that handles a line is deleted, nobody handles it."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        thread_in(boss, a)
        control(boss, thread_id(5), thread_id(5), pager=NEW)
        control(boss, NEW, 0)

        assert stage.kernel.interrupts.lines[5].handler is None
