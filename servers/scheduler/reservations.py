"""Reservations of programs: capabilities in this server's table, so that they outlive it."""

from collections.abc import Mapping

from kernel.abi.ids import NIL_THREAD
from kernel.abi.kip import EnvironmentState
from kernel.abi.rights import Kind, Rights
from libexo.environment import Environment
from libexo.errors import TrapRefused
from libexo.kip import EnvironmentRow
from libexo.sched import Reservation
from servers.scheduler.api import Reserved, Scheduler
from servers.scheduler.settings import NotAllowed, ShareRefused

_RIGHTS = int(Rights.CONTROL | Rights.TRANSFER)


class NotReserved(ShareRefused):
    """So much is not to be had; the text says what is left. What was reserved before still is."""


class Reservations:
    """What is reserved for whom, by first thread."""

    def __init__(self, environment: Environment, cpus: Mapping[int, int]) -> None:
        """Take up what the server before this one made; *cpus* are the handles of the processors."""
        self._sys, self._kip, self._cpus = environment.sys, environment.kip, cpus
        self._held: dict[int, int] = {}
        threads = {row.name: row.thread for row in self._kip.environments()}
        for handle, found in self._sys.holdings(Kind.RESERVATION).items():
            if found.text in threads:
                self._held[threads[found.text]] = handle
            else:
                self._drop(handle)

    def all(self) -> list[Reserved]:
        """Return what there is, less what was handed on."""
        found = ((thread, self._sys.inspect(handle)) for thread, handle in self._held.items())
        return [Reserved(said.status, thread, said.first, said.count) for thread, said in found]

    def of(self, thread: int) -> Reservation:
        """Return the capability. Raises NotReserved."""
        if thread not in self._held:
            raise NotReserved("nothing is reserved for the caller: ask an operator for 'exo sched reserve'")
        said = self._sys.inspect(self._held[thread])
        return Reservation(self._held[thread], said.count, said.first, _RIGHTS)

    def set(self, row: EnvironmentRow, runtime: int, period: int) -> None:
        """Reserve so much for the environment of *row*; *runtime* 0: nothing. Raises NotReserved."""
        before = self._held.pop(row.thread, 0)
        said = self._sys.inspect(before) if before else None
        self._drop(before)
        if not runtime:
            return
        try:
            self._make(row, runtime, period)
        except TrapRefused as refused:
            if said is not None:
                self._make(row, said.first, said.count)
            raise NotReserved(str(refused)) from None

    def _make(self, row: EnvironmentRow, runtime: int, period: int) -> None:
        handle = self._sys.derive(self._cpus[row.cpu], _RIGHTS, runtime, period)
        try:
            self._sys.migrate(handle, row.thread)
        except TrapRefused:
            self._drop(handle)
            raise
        self._held[row.thread] = handle

    def left(self, thread: int) -> str:
        """Note that the environment of *thread* ended or was moved: it has as much there; return why not."""
        handle, row = self._held.pop(thread, 0), self._kip.environment_of(thread)
        if not handle:
            return ""
        said = self._sys.inspect(handle)
        self._drop(handle)
        if row is None or row.state == EnvironmentState.DEAD or row.cpu not in self._cpus:
            return ""
        try:
            self._make(row, said.first, said.count)
        except TrapRefused as refused:
            return f"{row.name} has no reservation on processor {row.cpu}: {refused}"
        return ""

    def _drop(self, handle: int) -> None:
        if handle:
            self._sys.give_up(handle)  # it may have gone with the processor


class Reserving(Scheduler):
    """The operations on reservations."""

    reservations: Reservations

    def row_of(self, thread: int) -> EnvironmentRow | None:
        """Return the environment of *thread*, any of its threads."""
        raise NotImplementedError

    def commands(self) -> bool:
        """Say whether the caller is a server or an operator."""
        raise NotImplementedError

    def reserve(self, thread: int, runtime: int, period: int) -> None:
        """Have the kernel do it."""
        row = self.row_of(thread)
        if not self.commands() or row is None or row.cpu < 0:
            raise NotAllowed("only servers and operators reserve, and for programs under a processor")
        self.reservations.set(row, runtime, period)

    def reserved(self) -> list[Reserved]:
        """Return what there is."""
        return self.reservations.all()

    def reservation(self) -> Reservation:
        """Return it."""
        row = self.row_of(self.call.sender)
        return self.reservations.of(row.thread if row is not None else NIL_THREAD)
