"""VT-d's invalidation queue: a ring in memory, of which software moves the tail and the unit the head.

*Completion.* The head moves when a descriptor was fetched. What it asks for is done by the next step; so a head
that has passed it proves nothing, and software waits for the word that a wait descriptor stores.

*Errors.* A descriptor that cannot be carried out stops the queue with the head on it, and FSTS.IQE set; it goes on
when software has written 1 to that bit. A device that does not answer shows at the next wait: FSTS.ITE is set, and
the wait is dropped, not done. Source: reference sheet sections 1.1 to 1.4.
"""

from collections.abc import Callable

from hwmodel.iommu.layout import MalformedEntry, Values
from hwmodel.iommu.memory import BusError, Memory
from hwmodel.iommu.queue import Queue
from hwmodel.iommu.vtd.formats import (
    DEVICE_TLB,
    NARROW,
    PASID_DEVICE_TLB,
    UNIT,
    WAIT,
    WIDE,
    Error,
    Mode,
    Unit,
    decode,
    malformed,
)

GCMD, GSTS, FSTS = 0x18, 0x1C, 0x34
IQH, IQT, IQA, ICS, IECTL, IQERCD = 0x80, 0x88, 0x90, 0x9C, 0xA0, 0xB0
"""Offsets of registers."""

QIE = 1 << 26
"""Of GCMD and GSTS: the queue is on."""
IQE, ITE = 1 << 4, 1 << 6
"""Of FSTS: a bad descriptor; a device did not answer."""
IWC = 1
"""Of ICS: a wait has completed that asked for an event."""
IM, IP = 1 << 31, 1 << 30
"""Of IECTL: the event is masked; it is pending."""

POINTER = 0x7FFF0
"""The bits of a head or tail."""
SIZE, WIDTH, RESERVED = 0x7, 1 << 11, 0x7F8
"""Of IQA: 4 KiB to the power of this; descriptors of 256 bits; must be 0."""
HIGHEST = 1 << 64


class InvalidationQueue(Queue):
    """The queue of one unit, by its registers."""

    def __init__(
        self,
        memory: Memory,
        carry_out: Callable[[Values], bool],
        interrupt: Callable[[], None],
        unit: Unit = UNIT,
    ) -> None:
        """Make it, off; see `Queue`."""
        registers = {GSTS: 0, FSTS: 0, IQH: 0, IQT: 0, IQA: 0, ICS: 0, IECTL: IM, IQERCD: 0}
        super().__init__(memory, carry_out, interrupt, registers)
        self.unit = unit
        """May change with RTADDR's mode."""
        self._fetched: Values | None = None
        self._silent: list[int] = []
        """The devices that have not answered since the last wait."""

    def write(self, offset: int, value: int) -> None:
        """Write it, as software does; what is read-only or out of turn is ignored. `run` fetches then."""
        match offset:
            case 0x18:
                self._switch(on=bool(value & QIE))
            case 0x34:
                self._registers[FSTS] &= ~(value & (IQE | ITE))
            case 0x88:
                self._registers[IQT] = value
            case 0x90 if not self.on:
                self._registers.update({IQA: value, IQH: 0, IQT: 0})
            case 0x9C if value & IWC:
                self._registers[ICS] = 0
                self._registers[IECTL] &= ~IP
            case 0xA0:
                self._mask(masked=bool(value & IM))
            case _:
                pass

    @property
    def on(self) -> bool:
        """Whether the queue is on."""
        return bool(self._registers[GSTS] & QIE)

    @property
    def stopped(self) -> bool:
        """Whether an error keeps it from fetching."""
        return bool(self._registers[FSTS] & (IQE | ITE))

    def step(self) -> bool:
        """Do what was fetched, or fetch the next descriptor; return whether there was one. Never raises."""
        if not self.on or self.stopped:
            return False
        if self._fetched is not None:
            done, self._fetched = self._fetched, None
            self._do(done)
            return True
        if self._registers[IQH] == self._registers[IQT]:
            return False
        self._fetch()
        return True

    @property
    def _bytes(self) -> int:
        return 0x1000 << (self._registers[IQA] & SIZE)

    @property
    def _step(self) -> int:
        return WIDE if self._registers[IQA] & WIDTH else NARROW

    def _switch(self, *, on: bool) -> None:
        if on != self.on:
            self._registers[GSTS] ^= QIE
            self._registers[IQH] = 0
            self._fetched = None
            self._silent.clear()

    def _mask(self, *, masked: bool) -> None:
        pending = self._registers[IECTL] & IP
        self._registers[IECTL] = IM | pending if masked else 0
        if pending and not masked:
            self._interrupt()

    def _fetch(self) -> None:
        head = self._registers[IQH]
        try:
            self._check()
            data = self._memory.read((self._registers[IQA] & ~0xFFF) + head, self._step)
            self._fetched = decode(data, unit=self.unit)
        except MalformedEntry as refused:
            self._stop(IQE, refused.code)
        except BusError:
            self._stop(IQE, Error.FETCH)
        else:
            self._registers[IQH] = (head + self._step) % self._bytes

    def _check(self) -> None:
        """Raise MalformedEntry if the registers do not describe a queue."""
        base, tail = self._registers[IQA], self._registers[IQT]
        wide = bool(base & WIDTH)
        if base & RESERVED or (base & ~0xFFF) + self._bytes > HIGHEST:
            raise malformed(Error.RESERVED, f"IQA is {base:#x}")
        if not wide and self.unit.mode is not Mode.LEGACY:
            raise malformed(Error.WIDTH, f"descriptors of 128 bits in mode {self.unit.mode.name.lower()}")
        if tail & ~POINTER or tail >= self._bytes:
            raise malformed(Error.TAIL, f"the tail is {tail:#x}, in a queue of {self._bytes:#x} bytes")
        if tail % self._step:
            raise malformed(Error.ALIGNMENT, f"the tail is {tail:#x}, not at a descriptor")

    def _do(self, descriptor: Values) -> None:
        if descriptor["type"] == WAIT:
            self._complete(descriptor)
        elif not self._carry_out(descriptor) and descriptor["type"] in (DEVICE_TLB, PASID_DEVICE_TLB):
            self._silent.append(descriptor["sid"])

    def _complete(self, wait: Values) -> None:
        if self._silent:
            self._stop(ITE, self._silent[0] << 32)
            self._silent.clear()
            return
        if wait["SW"]:
            try:
                self._memory.write(wait["status_addr"], wait["status_data"].to_bytes(4, "little"))
            except BusError:
                self._registers[IQH] = (self._registers[IQH] - self._step) % self._bytes
                self._stop(IQE, Error.FETCH)
                return
        if wait["IF"] and not self._registers[ICS] & IWC:
            self._registers[ICS] |= IWC
            if self._registers[IECTL] & IM:
                self._registers[IECTL] |= IP
            else:
                self._interrupt()

    def _stop(self, error: int, record: int) -> None:
        self._registers[FSTS] |= error
        self._registers[IQERCD] = record
