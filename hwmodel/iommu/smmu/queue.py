"""SMMUv3's command queue: a ring in memory. Its indices have one bit more, which tells full from empty.

*Completion.* CONS passes a command when it was read. A SYNC is passed when all before it are complete, and its
message is stored before that.

*Errors.* CONS stays on the command, with the reason in ERR; then bit 0 of GERROR changes. Nothing is consumed until
software has made GERRORN the same, and what is there then is read anew. Source: IHI 0070 sections 3.5, 4.1, 4.7.3
and 7.1.
"""

from collections.abc import Callable

from hwmodel.iommu.layout import MalformedEntry, Values
from hwmodel.iommu.memory import BusError, Memory
from hwmodel.iommu.queue import Queue
from hwmodel.iommu.smmu.formats import ATC_INV, COMMAND, SIG_IRQ, SIG_SEV, SYNC, UNIT, Error, Unit, decode

CR0, CR0ACK, GERROR, GERRORN = 0x20, 0x24, 0x60, 0x64
CMDQ_BASE, CMDQ_PROD, CMDQ_CONS = 0x90, 0x98, 0x9C
"""Offsets of registers."""

CMDQEN = 1 << 3
"""Of CR0."""
CMDQ_ERROR, MESSAGE_ABORTED = 1, 1 << 4
"""Of GERROR: the queue stopped; the message of a SYNC could not be stored."""
ADDRESS = 0x000F_FFFF_FFFF_FFE0
"""Of CMDQ_BASE."""
INDEX = 0xFFFFF
"""Index and wrap bit, of PROD and CONS."""
LARGEST = 19
"""The largest logarithm of a queue's entries; what is larger counts as this."""


class CommandQueue(Queue):
    """The queue of one unit, by its registers."""

    def __init__(
        self,
        memory: Memory,
        carry_out: Callable[[Values], bool],
        interrupt: Callable[[], None],
        unit: Unit = UNIT,
    ) -> None:
        """Make it, off; see `Queue`. *interrupt* is the wired one of SYNCs."""
        registers = dict.fromkeys((CR0, CR0ACK, GERROR, GERRORN, CMDQ_BASE, CMDQ_PROD, CMDQ_CONS), 0)
        super().__init__(memory, carry_out, interrupt, registers)
        self._unit = unit
        self._silent = False
        """Whether a device has not answered since the last SYNC."""
        self.wakeups = 0
        """How many events the SYNCs sent that asked for one."""

    def write(self, offset: int, value: int) -> None:
        """Write it, as software does; what is read-only or guarded is ignored. `run` consumes then."""
        on = self._registers[CR0] & CMDQEN
        match offset:
            case 0x20:
                self._registers[CR0] = self._registers[CR0ACK] = value
            case 0x64:
                self._registers[GERRORN] = value
            case 0x90 if not on:
                self._registers[CMDQ_BASE] = value
            case 0x98:
                self._registers[CMDQ_PROD] = value & INDEX
            case 0x9C if not on:
                self._registers[CMDQ_CONS] = value & INDEX
            case _:
                pass

    @property
    def entries(self) -> int:
        """How many entries the queue has."""
        return 1 << min(self._registers[CMDQ_BASE] & 0x1F, LARGEST)

    @property
    def stopped(self) -> bool:
        """Whether an error keeps it from consuming."""
        return bool((self._registers[GERROR] ^ self._registers[GERRORN]) & CMDQ_ERROR)

    def step(self) -> bool:
        """Consume a command; return whether there was one. Never raises."""
        wrapping = 2 * self.entries - 1
        cons = self._registers[CMDQ_CONS] & wrapping
        if not self._registers[CR0] & CMDQEN or self.stopped or cons == self._registers[CMDQ_PROD] & wrapping:
            return False
        try:
            error = self._do(decode(self._memory.read(self._address(cons), COMMAND), unit=self._unit))
        except MalformedEntry:
            error = Error.CERROR_ILL
        except BusError:
            error = Error.CERROR_ABT
        if error:
            self._registers[CMDQ_CONS] = error << 24 | cons
            self._registers[GERROR] ^= CMDQ_ERROR
        else:
            self._registers[CMDQ_CONS] = self._registers[CMDQ_CONS] & ~INDEX | cons + 1 & wrapping
        return True

    def _address(self, index: int) -> int:
        """Return where the entry lies; the queue begins at a multiple of its size, whatever the register says."""
        size = self.entries * COMMAND
        return (self._registers[CMDQ_BASE] & ADDRESS) // size * size + index % self.entries * COMMAND

    def _do(self, command: Values) -> Error:
        if command["op"] == SYNC:
            return self._complete(command)
        if not self._carry_out(command) and command["op"] == ATC_INV:
            self._silent = True
        return Error.CERROR_NONE

    def _complete(self, sync: Values) -> Error:
        if self._silent:
            self._silent = False
            return Error.CERROR_ATC_INV_SYNC
        if sync["cs"] == SIG_SEV:
            self.wakeups += 1
        elif sync["cs"] == SIG_IRQ and sync["msiaddr"]:
            self._store(sync["msiaddr"], sync["msidata"])
        elif sync["cs"] == SIG_IRQ:
            self._interrupt()
        return Error.CERROR_NONE

    def _store(self, address: int, data: int) -> None:
        """Store a message; if nothing is there, that is a global error of its own, and the queue goes on."""
        try:
            self._memory.write(address, data.to_bytes(4, "little"))
        except BusError:
            if not (self._registers[GERROR] ^ self._registers[GERRORN]) & MESSAGE_ABORTED:
                self._registers[GERROR] ^= MESSAGE_ABORTED
