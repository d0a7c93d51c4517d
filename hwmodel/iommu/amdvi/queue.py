"""AMD-Vi's command buffer and event log: rings in memory, of which each side writes one end.

*Completion.* The head moves when a command was fetched; what it asks for is done by the next step. Software waits
for what COMPLETION_WAIT stores.

*Errors.* A command that is illegal or cannot be read is logged, with its address; CmdBufRun goes to 0 and the head
stays on it, until software has cleared CmdBufEn and set it again. A device that does not answer is logged if there
is a time-out, and COMPLETION_WAIT is not done then: the buffer waits, until it is cleared and set again as well.
Source: reference sheet sections 2.1 to 2.3 and 2.6; where it names two behaviours, its suggestion.
"""

from collections.abc import Callable

from hwmodel.iommu.amdvi.formats import (
    COMMAND,
    COMMAND_HARDWARE_ERROR,
    ILLEGAL_COMMAND_ERROR,
    IOTLB_INV_TIMEOUT,
    IOTLB_PAGES,
    UNIT,
    WAIT,
    Unit,
    decode,
    encode,
)
from hwmodel.iommu.layout import MalformedEntry, Values
from hwmodel.iommu.memory import BusError, Memory
from hwmodel.iommu.queue import Queue

COMMAND_BASE, EVENT_BASE, CONTROL = 0x0008, 0x0010, 0x0018
COMMAND_HEAD, COMMAND_TAIL, EVENT_HEAD, EVENT_TAIL, STATUS = 0x2000, 0x2008, 0x2010, 0x2018, 0x2020
"""Offsets of registers."""

IOMMU_ON, LOG_ON, LOG_INTERRUPT, WAIT_INTERRUPT, COMMANDS_ON = 1, 1 << 2, 1 << 3, 1 << 4, 1 << 12
TIMEOUT = 0x7 << 5
"""Of the control register."""
OVERFLOW, LOGGED, WAITED, LOG_RUNS, COMMANDS_RUN = 1, 1 << 1, 1 << 2, 1 << 3, 1 << 4
"""Of the status register; the first three are cleared by writing 1."""

POINTER = 0x7FFF0
"""The bits of a head or tail."""
ADDRESS = 0x000F_FFFF_FFFF_F000
"""The bits of a ring's address in its base register."""
LEAST_LENGTH = 8
"""The least logarithm of a ring's entries; below, the ring is not used."""


def ring_bytes(base: int) -> int:
    """Return how many bytes the ring of base register *base* has; 0 for a length that is reserved."""
    length = base >> 56 & 0xF
    return COMMAND << length if length >= LEAST_LENGTH else 0


class CommandBuffer(Queue):
    """Command buffer and event log of one unit, by their registers."""

    def __init__(
        self,
        memory: Memory,
        carry_out: Callable[[Values], bool],
        interrupt: Callable[[], None],
        unit: Unit = UNIT,
    ) -> None:
        """Make them, off; see `Queue`. *interrupt* is the unit's, for events as well."""
        registers = dict.fromkeys(
            (COMMAND_BASE, EVENT_BASE, CONTROL, COMMAND_HEAD, COMMAND_TAIL, EVENT_HEAD, EVENT_TAIL, STATUS), 0
        )
        super().__init__(memory, carry_out, interrupt, registers)
        self._unit = unit
        self._fetched: tuple[int, Values] | None = None
        self._silent = False
        """Whether a device has not answered: no wait is done any more."""

    def write(self, offset: int, value: int) -> None:
        """Write it, as software does; what is out of turn is ignored. `run` fetches then."""
        running = self._registers[STATUS] & COMMANDS_RUN
        logging = self._registers[STATUS] & LOG_RUNS
        match offset:
            case 0x0008 if not running:
                self._registers.update({COMMAND_BASE: value, COMMAND_HEAD: 0, COMMAND_TAIL: 0})
            case 0x0010 if not logging:
                self._registers.update({EVENT_BASE: value, EVENT_HEAD: 0, EVENT_TAIL: 0})
            case 0x0018:
                self._control(value)
            case 0x2000 if not running:
                self._registers[COMMAND_HEAD] = value & POINTER
            case 0x2008:
                self._registers[COMMAND_TAIL] = value & POINTER
            case 0x2010:
                self._registers[EVENT_HEAD] = value & POINTER
            case 0x2018 if not logging:
                self._registers[EVENT_TAIL] = value & POINTER
            case 0x2020:
                self._registers[STATUS] &= ~(value & (OVERFLOW | LOGGED | WAITED))
            case _:
                pass

    def step(self) -> bool:
        """Do what was fetched, or fetch the next command; return whether there was one. Never raises.

        Nothing is fetched while head or tail are beyond the buffer's end.
        """
        if not self._registers[STATUS] & COMMANDS_RUN:
            return False
        if self._fetched is not None:
            return self._do(*self._fetched)
        size = ring_bytes(self._registers[COMMAND_BASE])
        head, tail = self._registers[COMMAND_HEAD], self._registers[COMMAND_TAIL]
        if head == tail or max(head, tail) >= size:
            return False
        self._fetch(size)
        return True

    def log(self, event: Values) -> None:
        """Append *event* to the log, if it is on; if it has no room, set EventOverflow and log nothing more."""
        if not self._registers[STATUS] & LOG_RUNS:
            return
        if self._append(encode(event)):
            self._registers[STATUS] |= LOGGED
        else:
            self._registers[STATUS] = self._registers[STATUS] & ~LOG_RUNS | OVERFLOW
        if self._registers[CONTROL] & LOG_INTERRUPT:
            self._interrupt()

    def _append(self, event: bytes) -> bool:
        """Store *event* at the log's tail and move that; return False if there is no room, or no memory."""
        base = self._registers[EVENT_BASE]
        size = ring_bytes(base)
        tail = self._registers[EVENT_TAIL] % size
        following = (tail + COMMAND) % size
        if following == self._registers[EVENT_HEAD] % size:
            return False
        try:
            self._memory.write((base & ADDRESS) + tail, event)
        except BusError:
            return False
        self._registers[EVENT_TAIL] = following
        return True

    def _control(self, value: int) -> None:
        """Switch on what *value* has on and was off, if its ring has a legal length; switch off what it has not."""
        before, self._registers[CONTROL] = self._registers[CONTROL], value
        for enable, base, runs in (
            (COMMANDS_ON, COMMAND_BASE, COMMANDS_RUN),
            (LOG_ON, EVENT_BASE, LOG_RUNS),
        ):
            wanted = IOMMU_ON | enable
            if value & wanted != wanted:
                self._registers[STATUS] &= ~runs
            elif before & wanted != wanted and ring_bytes(self._registers[base]):
                self._registers[STATUS] |= runs
        if not self._registers[STATUS] & COMMANDS_RUN:
            self._fetched, self._silent = None, False

    def _fetch(self, size: int) -> None:
        head = self._registers[COMMAND_HEAD]
        address = (self._registers[COMMAND_BASE] & ADDRESS) + head
        try:
            self._fetched = address, decode(self._memory.read(address, COMMAND), unit=self._unit)
        except MalformedEntry:
            self._stop(ILLEGAL_COMMAND_ERROR, address)
        except BusError:
            self._stop(COMMAND_HARDWARE_ERROR, address)
        else:
            self._registers[COMMAND_HEAD] = (head + COMMAND) % size

    def _do(self, address: int, command: Values) -> bool:
        if command["op"] == WAIT:
            return self._complete(address, command)
        self._fetched = None
        if not self._carry_out(command) and command["op"] == IOTLB_PAGES:
            self._silent = True
            if self._registers[CONTROL] & TIMEOUT:
                self.log({"code": IOTLB_INV_TIMEOUT, "address": address})
        return True

    def _complete(self, address: int, wait: Values) -> bool:
        """Store and interrupt as *wait* says, and return True; while a device is silent, nothing, and False."""
        if self._silent:
            return False
        self._fetched = None
        if wait["s"]:
            try:
                self._memory.write(wait["store_addr"], wait["store_data"].to_bytes(8, "little"))
            except BusError:
                self._registers[COMMAND_HEAD] = address - (self._registers[COMMAND_BASE] & ADDRESS)
                self._stop(COMMAND_HARDWARE_ERROR, address)
                return False
        if wait["i"]:
            self._registers[STATUS] |= WAITED
            if self._registers[CONTROL] & WAIT_INTERRUPT:
                self._interrupt()
        return True

    def _stop(self, code: int, address: int) -> None:
        self._registers[STATUS] &= ~COMMANDS_RUN
        self.log({"code": code, "address": address})
