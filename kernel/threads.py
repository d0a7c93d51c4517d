"""Threads: the ids by which IPC names its partners.

A number the kernel gives out is reused only with its next version, so an id that was ever valid for one
incarnation is never valid for another. A creator by ThreadControl chooses numbers and versions,
and answers for them; the kernel gives out no number that was chosen, nor an older version afterwards.
"""

from collections import deque
from typing import TYPE_CHECKING

from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.ids import (
    FIRST_PROGRAM,
    NIL_THREAD,
    USER_BASE,
    ThreadId,
    next_version,
    show_thread,
    thread_id,
    thread_number,
    thread_version,
)
from kernel.abi.kip import NO_THREAD, WAIT_WORDS, Page
from kernel.abi.limits import MAX_THREADS
from kernel.errors import Panic, Refused

if TYPE_CHECKING:
    from kernel.bindings import Bindings
    from kernel.environment import Environment, Thread
    from kernel.exposure import Exposure
    from kernel.interrupts import InterruptLines
    from kernel.jobs import Steps
    from kernel.predicates import Predicates

_PAGER = "memory"
"""Published name of every program's pager: sigma0, the memory server."""
_SCHEDULER = "scheduler"
_ROOT = USER_BASE + 2
"""Number of the root task (X.2), the scheduler of programs while that name is not published."""


class Threads:
    """All threads of environments, by number; also those that are gone while their number is kept."""

    def __init__(
        self, exposure: "Exposure", bindings: "Bindings", *others: "InterruptLines | Predicates"
    ) -> None:
        """Start with none; *bindings* and *others* are told of those that go."""
        self._kip, self._bindings, self._others = exposure.kip, bindings, others
        self._threads: dict[int, Thread] = {}
        self._versions: dict[int, int] = {}
        self._free = deque(range(FIRST_PROGRAM, MAX_THREADS))

    # ------------------------------------------------------------------------------------------------ numbers

    def check_free(self, number: int | None) -> None:
        """Refuse a *number* that is in use, or any when none is free."""
        if number is None:
            if not self._free:
                raise Refused(Refusal.TOO_MANY_ENVIRONMENTS, "every thread number is in use")
        elif number >= MAX_THREADS:
            raise Refused(Refusal.BAD_ARGUMENT, f"thread number {number} of {MAX_THREADS}")
        elif (other := self._threads.get(number)) is not None:
            raise Refused(Refusal.NAME_TAKEN, f"thread number {number} is {other.environment.name}'s")

    def allocate(self, number: int | None) -> ThreadId:
        """Return the id of a new incarnation of thread *number*, or of any free one."""
        number = self._free[0] if number is None else number
        version = self._versions[number] = next_version(self._versions.get(number, -1))
        self._take(number)
        return thread_id(number, version)

    def choose(self, thread: ThreadId) -> None:
        """Let a creator have *thread*, whose number is free, or another version of it."""
        number, version = thread_number(thread), thread_version(thread)
        self._versions[number] = max(version, self._versions.get(number, 0))
        self._take(number)

    def _take(self, number: int) -> None:
        if number >= FIRST_PROGRAM and number in self._free:
            self._free.remove(number)

    def release(self, thread: "Thread") -> None:
        """Free the number of *thread*, which is gone, unless it is another's already."""
        number = thread.number
        if thread.living or self._threads.get(number) is not thread:
            return
        del self._threads[number]
        if number >= FIRST_PROGRAM:
            self._free.append(number)

    # ------------------------------------------------------------------------------------------- life and end

    def enter(self, thread: "Thread") -> None:
        """Let *thread* exist from now on, inactive."""
        before = self._threads.get(thread.number)
        if before is not None and before.living:
            raise Panic(f"thread {show_thread(thread.id)} lives twice")
        self._threads[thread.number] = thread
        thread.environment.threads[thread.number] = thread
        thread.environment.budget.hold(Item.THREADS)
        thread.living = True
        self.show(thread)

    def take_back(self, thread: "Thread", before: "Thread | None") -> None:
        """Undo `enter`: the number is free again, or still awaits the successor of *before*."""
        thread.living = False
        thread.environment.threads.clear()
        thread.environment.budget.release(Item.THREADS)
        self._kip.show_thread(thread.number, NO_THREAD)
        if before is not None:
            self._threads[before.number] = before
        self.release(thread)

    def start(self, thread: "Thread") -> None:
        """Activate the first thread of a program: sigma0 is its pager, the scheduler its scheduler."""
        owner = self._kip.owner
        root = self._threads.get(_ROOT)
        thread.pager = ThreadId(owner(_PAGER))
        fallback = root.id if root is not None and root.active else NIL_THREAD
        thread.scheduler = ThreadId(owner(_SCHEDULER) or fallback)
        thread.utcb = thread.environment.free_utcb()
        self.activate(thread)

    def activate(self, thread: "Thread", awaits: ThreadId = NIL_THREAD) -> None:
        """Make *thread* reachable; it receives from *awaits* at first, if that is set."""
        thread.active = True
        thread.environment.give_row(thread, awaits)
        self.show(thread)

    def show(self, thread: "Thread") -> None:
        """Bring the row of *thread* up to date."""
        self._kip.show_thread(thread.number, thread.exposed)

    def show_all(self, environment: "Environment") -> None:
        """Bring the rows of the threads of *environment* up to date, of which something common changed."""
        for thread in environment.threads.values():
            self.show(thread)

    def rename(self, thread: "Thread", to: ThreadId) -> "Steps[None]":
        """Make *thread* its own next incarnation: those bound to it are told that it went."""
        kip, before = self._kip, thread.id
        fallen = self._bindings.renamed(thread)
        self.choose(to)
        thread.id = to
        environment = thread.environment
        if thread.active:
            environment.page[Page.WAITS + thread.row * WAIT_WORDS] = to
        if kip.owner(environment.name) == before:
            kip.publish(environment.name, to)
        kip.withdraw(before)
        self.show(thread)
        if thread is environment.first:
            kip.show(environment)
        return self._renamed(thread, fallen)

    def _renamed(self, thread: "Thread", fallen: "Steps[None]") -> "Steps[None]":
        """Show the new id to the spaces redirected to *thread*, and end the bindings to the old one."""
        for space in dict.fromkeys(other.environment for other in self._threads.values() if other.living):
            if space.redirector is thread:
                self.show_all(space)
                yield None
        yield from fallen

    def end(self, thread: "Thread") -> "Steps[None]":
        """End *thread*, with its bindings, lines and names; a number that awaits a successor is kept."""
        environment = thread.environment
        thread.living = thread.active = False
        for others in self._others:
            others.release(thread)
        self._kip.withdraw(thread.id)
        environment.take_row(thread)
        if environment.threads.pop(thread.number, None) is not None:
            environment.budget.release(Item.THREADS)
        self._kip.show_thread(thread.number, NO_THREAD)
        yield from self._bindings.fall(thread)
        if thread is not environment.first or not environment.keeps:
            self.release(thread)

    # ------------------------------------------------------------------------------------------------ looking

    def at(self, number: int) -> "Thread | None":
        """Return the thread of that *number*, alive or kept for a successor."""
        return self._threads.get(number)

    def known(self, thread: int) -> "Thread | None":
        """Return the thread whose id is *thread*, active or not, if it exists."""
        found = self._threads.get(thread_number(thread))
        return found if found is not None and found.living and found.id == thread else None

    def find(self, thread: int) -> "Thread":
        """Return the active thread whose id is *thread*. Raises Refused when it is gone or was restarted."""
        found = self.known(thread)
        if found is not None:
            if found.active:
                return found
            raise Refused(Refusal.NO_SUCH_THREAD, f"thread {show_thread(thread)} is not active")
        if 0 < thread_version(thread) <= self._versions.get(thread_number(thread), 0):
            raise Refused(Refusal.STALE_THREAD, f"thread {show_thread(thread)}")
        raise Refused(Refusal.NO_SUCH_THREAD, f"thread {show_thread(thread)}")

    def living(self, thread: int) -> "Environment":
        """Return the environment of active thread *thread*. Raises Refused as `find`."""
        return self.find(thread).environment

    def own(self, environment: "Environment", thread: int) -> "Thread":
        """Return active thread *thread* of *environment*, or its first for 0. Raises Refused."""
        found = self.find(thread or environment.thread)
        if found.environment is not environment:
            raise Refused(Refusal.NO_SUCH_THREAD, f"thread {show_thread(thread)} is another's")
        return found
