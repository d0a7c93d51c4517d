"""Families of programs, as the scheduler is told of them: each divides one part of the processor.

The scheduler is told again as long as it does not answer; this server never waits for it.
"""

from typing import TYPE_CHECKING

import msgspec

from kernel.abi.ids import FIRST_PROGRAM, thread_number
from kernel.abi.messages import PacketKind
from libexo.errors import ExoError
from libexo.ipc.message import Message
from libexo.stub.call import DONE
from servers.process import policy
from servers.process.descent import Descent
from servers.process.ending import GRACE
from servers.process.policy import SpawnRefused
from servers.scheduler.api import Scheduler

if TYPE_CHECKING:
    from libexo.ipc.exchange import Outgoing
    from servers.process.api import ProgramSpec
    from servers.process.children import Child
    from servers.process.keeper import Keeper

_PLACE = next(each for each in Scheduler.operations.values() if each.name == "place")
_ENCODE = msgspec.msgpack.Encoder().encode


class Families:
    """The families of one process server's programs."""

    def __init__(self, server: "Keeper") -> None:
        """Start with nobody placed."""
        self._server = server
        self._environment = server.environment
        self._untold: dict[int, tuple[int, int, int]] = {}
        """Thread to family, part and share: what the scheduler does not know yet."""
        self._told: dict[int, Outgoing] = {}
        self._alarmed = False

    def find(self, spec: "ProgramSpec", spawner: int) -> Descent:
        """Return the descent of a program that *spawner* (0: an operator) starts. Raises SpawnRefused."""
        own = Descent(max(spec.share, 1))
        if not spawner or thread_number(spawner) < FIRST_PROGRAM:
            return own
        thread, uid, name = self._environment_of(spawner)
        parent = self._server.child(thread)
        if parent is None and uid in self._server.operators.uids:
            return own
        if not spec.share:
            raise SpawnRefused(
                "share 0, outside the plans, is an operator's to give ('exo run --share 0'): ask for 1 to 1000"
            )
        if spec.paged and (parent is None or not parent.spec.paged):
            raise SpawnRefused(
                "to be paged is an operator's to give ('exo run --paged'), and for who has it to pass on"
            )
        if parent is None:
            return Descent(1, thread, name, thread, GRACE)
        if parent.ending:
            raise SpawnRefused(
                f"{parent.spec.name} is being ended with all its descendants: it may start nothing"
            )
        return Descent(parent.part, parent.family, parent.first, parent.thread, parent.spec.grace)

    def _environment_of(self, thread: int) -> tuple[int, int | None, str]:
        """Return the first thread of the environment of *thread*, its uid, and its name."""
        kip = self._environment.kip
        row, found = kip.environment_of(thread), kip.thread(thread)
        if row is None and found is not None:
            row = next((each for each in kip.environments() if each.number == found.environment), None)
        return (row.thread, row.uid, row.name) if row is not None else (thread, None, "")

    def place(self, child: "Child") -> None:
        """Tell the scheduler of *child*, unless its placing is the default."""
        placed = (child.family, child.part, child.spec.share)
        if child.spec.share and placed != (child.thread, 1, 1):
            self._untold[child.thread] = placed
            self._tell()

    def forget(self, thread: int) -> None:
        """Forget *thread*, which ended."""
        self._untold.pop(thread, None)

    def _tell(self) -> None:
        """Send the scheduler what it does not know yet, and look for the answers later."""
        scheduler = self._environment.kip.lookup("scheduler")
        for thread, placed in list(self._untold.items()) if scheduler else ():
            if thread not in self._told:
                request = Message(Scheduler.label, (_PLACE.number,), (_ENCODE((thread, *placed)),))
                try:
                    core = self._environment.thread.core
                    self._told[thread] = core.post(
                        scheduler, request, PacketKind.CALL, timed=False, accepts=0
                    )
                except ExoError:
                    break  # it is being restarted
        if self._untold and not self._alarmed:
            self._alarmed = True
            self._server.server.after(policy.ASK_AGAIN, self._hear)

    def _hear(self) -> None:
        """Read the answers; what a scheduler that ended did not answer is told to its successor."""
        self._alarmed = False
        for thread, exchange in list(self._told.items()):
            if not exchange.done:
                self._environment.thread.core.pump_link(exchange.link)
            if exchange.done:
                del self._told[thread]
                if exchange.reply is not None and exchange.reply.words == (DONE,):
                    self._untold.pop(thread, None)
        self._untold = {t: placed for t, placed in self._untold.items() if self._server.child(t) is not None}
        self._tell()
