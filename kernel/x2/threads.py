"""ThreadControl: threads that privileged environments create, activate, change, move and delete (X.2).

Every case checks all it needs before it changes anything, and the host, which may refuse a body for a space's
first program, is asked first: a refused ThreadControl has done nothing.

Where X.2 meets an environment whose main thread is that of a host process:

- The thread that is activated first in a space is its first thread. Its environment ends with it, whatever
  others it has, and while it runs it cannot be moved to another space.
- An active thread that is moved starts again there, like one just activated: its stack is memory of the
  host process it leaves.
- A thread may be deleted by its own environment. If it was the first, it ends when the trap has been answered.
- A thread is deleted by its whole id. Another version of a living number is refused, so that the next bearer of
  a number is safe; an id without a thread counts as deleted.
- A program that comes where none is to be started is checked and otherwise ignored.
- Without a scheduler a thread cannot be created: BAD_SCHEDULER, X.2's error 4, where Pistachio says 2.
"""

from typing import TYPE_CHECKING, NamedTuple

from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import (
    NIL_THREAD,
    SYSTEM_BASE,
    USER_BASE,
    ThreadId,
    is_local,
    show_thread,
    thread_number,
)
from kernel.abi.limits import MAX_SPACE_THREADS, MAX_THREADS
from kernel.abi.messages import Label
from kernel.abi.space import UNCHANGED
from kernel.dispatch import Call
from kernel.environment import Environment, Thread
from kernel.errors import Refused
from kernel.programs import check_program
from kernel.x2.spaces import check_aligned, check_privilege, check_utcb, create_space, space_of

if TYPE_CHECKING:
    from kernel.jobs import Steps
    from kernel.kernel import Kernel

Control = Call[traps.ThreadControl]


def thread_control(kernel: "Kernel", call: Control) -> "Steps[None] | None":
    """Create, change or delete a thread, or choose the handler of an interrupt."""
    trap = call.trap
    check_privilege(call)
    if trap.program is not None:
        check_program(trap.program, len(call.descriptors))
    elif call.descriptors:
        raise Refused(Refusal.BAD_DESCRIPTORS, "descriptors are for a program, and none came")
    number = thread_number(trap.thread)
    if number < SYSTEM_BASE:
        _associate(kernel, trap)
        return None
    if not USER_BASE <= number < MAX_THREADS or is_local(trap.thread):
        raise Refused(Refusal.NO_SUCH_THREAD, f"{show_thread(trap.thread)} can be no thread's id")
    thread = kernel.threads.at(number)
    if trap.space == NIL_THREAD:
        return _delete(kernel, call, thread)
    if thread is None:
        return _create(kernel, call)
    if thread.living:
        return _modify(kernel, call, thread)
    raise Refused(Refusal.NO_SUCH_THREAD, f"number {number} awaits the successor of its environment")


def _associate(kernel: "Kernel", trap: traps.ThreadControl) -> None:
    """Choose the handler of an interrupt: the thread itself means none, nil leaves it as it is."""
    line = kernel.interrupts.line(trap.thread)
    if trap.space != trap.thread:
        raise Refused(Refusal.NO_SUCH_THREAD, f"{show_thread(trap.thread)} is an interrupt's, in no space")
    if trap.pager == trap.thread:
        kernel.interrupts.unbind(line)
    elif trap.pager:
        kernel.interrupts.bind(line, kernel.threads.find(trap.pager))


# ---------------------------------------------------------------------------------------------------- delete


def _delete(kernel: "Kernel", call: Control, thread: Thread | None) -> "Steps[None]":
    if thread is None or not thread.living:
        return
    if thread.id != call.trap.thread:
        raise Refused(Refusal.STALE_THREAD, f"{show_thread(call.trap.thread)}, now {show_thread(thread.id)}")
    environment = thread.environment
    if environment is call.caller and thread is environment.first:
        clock = kernel.machine.clock
        clock.alarm(clock.now(), lambda: kernel.jobs.add(_end_with(kernel, thread)))
    else:
        yield from _end_with(kernel, thread)


def _end_with(kernel: "Kernel", thread: Thread) -> "Steps[None]":
    """End *thread*, and with the first or the last its environment: its threads at once, its body soon."""
    environment = thread.environment
    if not thread.living:
        return
    if len(environment.threads) > 1 and not (environment.launched and thread is environment.first):
        if thread.active:
            _tell(kernel, thread, thread.id, NIL_THREAD)
        _leave(kernel, thread)
        yield from kernel.threads.end(thread)
        return
    environment.ending = True
    for each in list(environment.threads.values()):
        yield from kernel.threads.end(each)
    kernel.environments.kill(environment)


def _leave(kernel: "Kernel", thread: Thread) -> None:
    """Take *thread* out of its space, which ends with its last thread, and is else known by another one."""
    space = thread.environment
    space.take_row(thread)
    del space.threads[thread.number]
    space.budget.release(Item.THREADS)
    if space.launched or thread is not space.first:
        return
    heir = next(iter(space.threads.values()), None)
    if heir is not None:
        _make_first(kernel, heir)
        return
    if kernel.kip.owner(space.name) == thread.id:
        kernel.kip.publish(space.name, NIL_THREAD)
    kernel.environments.kill(space)


def _make_first(kernel: "Kernel", thread: Thread) -> None:
    """Make *thread* the first of its space, which has no program yet."""
    space, before = thread.environment, thread.environment.thread
    space.first = thread
    if kernel.kip.owner(space.name) == before:
        kernel.kip.publish(space.name, thread.id)
    kernel.kip.show(space)


# ----------------------------------------------------------------------------------------- create and change


class Change(NamedTuple):
    """The future of a thread, checked: only the host can refuse it now."""

    space: Environment
    enters: bool
    """It is not in that space yet."""
    starts: bool
    """It becomes active there."""
    scheduler: ThreadId
    pager: ThreadId
    utcb: int


def _create(kernel: "Kernel", call: Control) -> "Steps[None] | None":
    trap = call.trap
    scheduler = _scheduler(kernel, trap)
    if not scheduler:
        raise Refused(Refusal.BAD_SCHEDULER, f"{show_thread(trap.thread)} would have none")
    if trap.space == trap.thread:
        _create_space(kernel, call, scheduler)
        return None
    space = space_of(kernel, trap.space)
    thread = Thread(ThreadId(trap.thread), space)
    return _apply(kernel, call, thread, _check(kernel, call, thread, space))


def _create_space(kernel: "Kernel", call: Control, scheduler: ThreadId) -> None:
    """Create a space with its first thread, inactive. It may call where its creator may."""
    trap = call.trap
    if trap.pager:
        raise Refused(Refusal.NO_SUCH_SPACE, f"the space of {show_thread(trap.thread)} is not initialised")
    if trap.utcb != UNCHANGED:
        check_aligned(trap.utcb)
    space = create_space(kernel, ThreadId(trap.thread), call.caller)
    space.first.scheduler = scheduler
    space.first.utcb = 0 if trap.utcb == UNCHANGED else trap.utcb
    kernel.threads.show(space.first)


def _modify(kernel: "Kernel", call: Control, thread: Thread) -> "Steps[None]":
    trap = call.trap
    stays = trap.space in (trap.thread, thread.id)
    space = thread.environment if stays else space_of(kernel, trap.space)
    return _apply(kernel, call, thread, _check(kernel, call, thread, space))


def _check(kernel: "Kernel", call: Control, thread: Thread, space: Environment) -> Change:
    """Return what the trap makes of *thread*, which may not exist yet, in *space*. Raises Refused."""
    trap, home = call.trap, thread.environment
    enters = not thread.living or space is not home
    if enters and len(space.threads) >= MAX_SPACE_THREADS:
        raise Refused(Refusal.TABLE_FULL, f"{space.name} has {MAX_SPACE_THREADS} threads")
    if enters:
        space.budget.check(Item.THREADS)
    if enters and thread.living and home.launched and thread is home.first:
        raise Refused(Refusal.BAD_ARGUMENT, f"{show_thread(thread.id)} is the main thread of {home.name}")
    if is_local(trap.pager):
        raise Refused(Refusal.BAD_ARGUMENT, f"pager {trap.pager:#x} is no global id")
    starts = enters if thread.active else bool(trap.pager)
    if starts:
        _check_startable(space, trap)
    return Change(
        space=space,
        enters=enters,
        starts=starts,
        scheduler=_scheduler(kernel, trap) or thread.scheduler,
        pager=ThreadId(trap.pager or thread.pager),
        utcb=_location(trap.utcb, thread, space, enters=enters, starts=starts),
    )


def _scheduler(kernel: "Kernel", trap: traps.ThreadControl) -> ThreadId:
    """Return the scheduler the trap names, or nil. Raises Refused when there is no such thread."""
    if trap.scheduler and kernel.threads.known(trap.scheduler) is None:
        raise Refused(Refusal.BAD_SCHEDULER, f"there is no thread {show_thread(trap.scheduler)}")
    return ThreadId(trap.scheduler)


def _check_startable(space: Environment, trap: traps.ThreadControl) -> None:
    """Refuse unless a thread can become active in *space*: it has its areas, and a program or one to run."""
    if space.utcb_area is None:
        raise Refused(Refusal.NO_SUCH_SPACE, f"{space.name} is not initialised: SpaceControl does that")
    if not space.launched and trap.program is None:
        raise Refused(Refusal.BAD_ARGUMENT, f"{space.name} has no program, and none came for it")


def _location(wanted: int, thread: Thread, space: Environment, *, enters: bool, starts: bool) -> int:
    """Return where the UTCB of *thread* is to be; 0: nowhere yet. Raises Refused."""
    if wanted == UNCHANGED:
        wanted = thread.utcb
        if not wanted:
            return space.free_utcb() if starts else 0
    if thread.active and not enters:
        if wanted != thread.utcb:
            raise Refused(Refusal.BAD_UTCB, f"{show_thread(thread.id)} is active: its UTCB stays")
    else:
        check_utcb(space, wanted, thread)
    return wanted


def _apply(kernel: "Kernel", call: Control, thread: Thread, change: Change) -> "Steps[None]":
    """Make *thread* what *change* says, and tell the environments it was in and is in."""
    trap, threads, space = call.trap, kernel.threads, change.space
    launches = change.starts and not space.launched
    if launches:
        assert trap.program is not None
        kernel.machine.spare()
        kernel.environments.launch(space, trap.program, call.descriptors)
    before = thread.id if thread.active else NIL_THREAD
    falling: list[Steps[None]] = []
    if not thread.living:
        threads.choose(thread.id)
        threads.enter(thread)
    elif change.enters:
        falling = _move(kernel, thread, space)
        before = NIL_THREAD
    if thread.id != trap.thread:
        falling = [*falling, threads.rename(thread, ThreadId(trap.thread))]
    thread.scheduler, thread.pager, thread.utcb = change.scheduler, change.pager, change.utcb
    if launches:
        _make_first(kernel, thread)
    if change.starts:
        threads.activate(thread, change.pager)
    threads.show(thread)
    if thread.active:
        _tell(kernel, thread, before, thread.id)
    for fallen in falling:
        yield from fallen


def _move(kernel: "Kernel", thread: Thread, space: Environment) -> "list[Steps[None]]":
    """Take *thread* to *space*; return the steps that end every binding of it."""
    if thread.active:
        _tell(kernel, thread, thread.id, NIL_THREAD)
    falling = [kernel.bindings.fall(thread)]
    kernel.predicates.release(thread)
    _leave(kernel, thread)
    thread.environment = space
    space.threads[thread.number] = thread
    space.budget.hold(Item.THREADS)
    redirected = [e for e in kernel.environments if e.redirector is not None]
    return [*falling, *(kernel.bindings.reroute(each) for each in redirected)]


def _tell(kernel: "Kernel", thread: Thread, before: ThreadId, now: ThreadId) -> None:
    words = (before, now, thread.pager, thread.scheduler, thread.utcb)
    kernel.exposure.tell(thread.environment, Label.THREAD, words)
