"""The table of an address space, and accesses by address.

*Theory of operation.* The host's MMU maps an extent wherever it likes, and Python programs use views, not
addresses. X.2 speaks of addresses: fpages, send bases, faults, strings. So libexo keeps, for each environment, a
table from addresses to extents (`libexo.l4.space.regions`), shared by its threads. Accesses by address
(`view`, `load`, `store`, and the strings of messages) look there. Where nothing is mapped, or a right is missing,
they raise a page fault: a message to the thread's pager, after whose answer they try again. The permissions of
the memory are not decided here: an entry stands for a capability, whose rights the kernel and the MMU enforce.

Mapping over an extent, or cutting it, removes just the named addresses; the capability goes with the last of them.
Reserved, so that nothing is ever mapped there, are the UTCB and KIP areas of the space, as the kernel knows
them, and the addresses of buffers (`libexo.l4.space.buffers`); other ranges are reserved by `reserve`.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from kernel.abi.errors import Refusal
from kernel.abi.gate import Upcall
from kernel.abi.messages import Label
from libexo.errors import TrapRefused
from libexo.l4.format.fpage import FullyAccessible, Readable, Writable
from libexo.l4.space.buffers import BUFFERS, BadAddress, Buffer, Buffers
from libexo.l4.space.landing import Span
from libexo.l4.space.regions import END, Holding, Region, Regions, all_of, check_range, holdings

if TYPE_CHECKING:
    from libexo.environment import Environment

Fault = Callable[[int, int], None]
"""Handles a page fault: the address, and the access (rights of an fpage). It returns when trying again may help."""

GONE = (Refusal.BAD_HANDLE, Refusal.STALE_HANDLE)
"""Refusals of a trap on a capability that was taken away, or has moved."""


class UnlessGone:
    """Suppresses the refusal of a trap on a capability that is gone."""

    def __enter__(self) -> None: ...

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> bool:
        return isinstance(error, TrapRefused) and error.refusal in GONE


class Addresses:
    """The addresses of one environment, and what each shows."""

    def __init__(self, environment: "Environment") -> None:
        """Be the addresses of *environment*: nothing is mapped."""
        self.fault: Fault = no_pager
        """The handler of page faults."""
        self.attend: Callable[[], None] = lambda: environment.thread.core.pump_gate(surely=True)
        """Takes in the kernel's upcalls: a mapping that was taken away is not touched then."""
        self._environment = environment
        self._regions = Regions()
        self._buffers = Buffers()
        self._reserved = [Span(*area) for area in environment.areas if area[1] > area[0]]
        self._reserved.append(Span(BUFFERS, END))
        self._changes = 0
        """How often the table changed."""
        self._lock = environment.lock
        """Never held during a trap: on the simulated machine, others run meanwhile."""

    def listen(self) -> None:
        """Register for the kernel's upcalls that an extent was taken away, or has new memory."""
        self._environment.on(Label.REVOKED, self._revoked)
        self._environment.on(Label.MOVED, self._moved)

    def __iter__(self) -> Iterator[Region]:
        """Yield the mapped regions, in order of their addresses."""
        with self._lock:
            return iter(list(self._regions))

    # ----------------------------------------------------------------------------------------------- the table

    def map(self, address: int, handle: int, size: int, rights: int) -> None:
        """Map the extent *handle*, of *size* bytes, at *address*, over what was there.

        *rights* are those of the capability. Raises ValueError for a range that is not whole pages, or is reserved,
        and for an extent that is mapped already: map a derived capability to have it at two addresses.
        """
        check_range(address, size)
        if self._is_reserved(Span(address, address + size)):
            raise ValueError(
                f"{size:#x} bytes at {address:#x}: part of that is reserved, nothing can be mapped"
            )
        if any(region.holding.handle == handle for region in self):
            raise ValueError(f"extent {handle:#x} is mapped already: derive another capability to it")
        self._enter(all_of(Holding(handle, size, rights), address))

    def reserve(self, address: int, size: int) -> None:
        """Keep a range free permanently. Mappings there are given up. Raises ValueError."""
        check_range(address, size)
        self._reserved.append(Span(address, address + size))
        self._cut(Span(address, address + size))

    def buffer(self, buffer: Buffer) -> int:
        """Return an address for *buffer*, to be named in string items. Raises ValueError if it is not one run.

        A memoryview keeps its address while a reference to it exists; bytes and bytearray until `forget`.
        """
        return self._buffers.put(buffer)

    def forget(self, address: int) -> None:
        """Give up the address of a buffer. Raises BadAddress when none begins there."""
        self._buffers.forget(address)

    def _is_reserved(self, wanted: Span) -> bool:
        return any(wanted.first < kept.end and kept.first < wanted.end for kept in self._reserved)

    def _enter(self, region: Region) -> bool:
        """Show *region*; return whether other holdings disappeared by that."""
        holding = region.holding
        if not holding.rights & Readable:
            holding.rights &= ~FullyAccessible  # the host maps nothing that cannot be read
        with self._lock:
            gone = self._regions.enter(region)
            self._changes += 1
        self._give_up(gone)
        return bool(gone)

    def _cut(self, cut: Span) -> None:
        with self._lock:
            gone = self._regions.cut(*cut)
            self._changes += 1
        self._give_up(gone)

    def _remove(self, holding: Holding) -> None:
        with self._lock:
            self._regions.remove(holding)
            self._changes += 1
        self._part(holding)

    def _give_up(self, gone: Iterable[Holding]) -> None:
        """Drop the capabilities of holdings that no address shows. An existing view keeps the memory."""
        environment, waiting = self._environment, list(gone)
        for holding in waiting:
            if holding.parts:
                continue  # they were derived from it, and are shown
            waiting += self._part(holding)
            holding.view = None
            environment.views.forget(holding.handle)
            with UnlessGone():
                environment.sys.drop(holding.handle)

    def _part(self, gone: Holding) -> list[Holding]:
        """Forget a part that is *gone*; return the holding it was derived from, if nothing of it is left."""
        if gone.part_of is None:
            return []
        whole, _ = gone.part_of
        gone.part_of = None
        whole.parts.remove(gone)
        return [] if whole.shown or whole.parts else [whole]

    def _revoked(self, upcall: Upcall) -> None:
        """Remove an extent that its giver took away: accesses to its addresses fault from now on."""
        handle = upcall.words[0]
        self._environment.views.forget(handle)
        for holding in [holding for holding in holdings(list(self)) if holding.handle == handle]:
            self._remove(holding)

    def _moved(self, upcall: Upcall) -> None:
        """Map new memory; the rights to it may be fewer than before."""
        handle, *pages = upcall.words
        self._environment.views.moved(handle, *pages)
        for holding in [holding for holding in holdings(list(self)) if holding.handle == handle]:
            with UnlessGone():
                holding.rights &= self._environment.sys.inspect(handle).rights

    # ------------------------------------------------------------------------------------------------ accesses

    def pieces(
        self, address: int, size: int, access: int, fault: Fault | None = None
    ) -> Iterator[memoryview]:
        """Yield the *size* bytes from *address* on in runs, faulting where nothing is mapped for *access*.

        Use each run before the next is asked for: a fault may unmap it. *access* is rights of an
        fpage; *fault* is called in place of the space's own. Raises BadAddress.
        """
        end = address + size
        if not 0 <= address <= end <= END:
            raise BadAddress(f"{size:#x} bytes at {address:#x} are not all in the address space")
        while address < end:
            piece = self._piece(address, end, access)
            if piece is None:
                (fault or self.fault)(address, access)
                continue
            yield piece
            address += len(piece)

    def view(self, address: int, size: int, access: int = Readable) -> list[memoryview]:
        """Return the *size* bytes from *address* on, as views of the extents there, all present at once."""
        while True:
            changes = self._changes
            found = list(self.pieces(address, size, access))
            if changes == self._changes:
                return found

    def load(self, address: int, size: int) -> bytes:
        """Return a copy of the *size* bytes from *address* on. Raises BadAddress."""
        return b"".join([bytes(piece) for piece in self.pieces(address, size, Readable)])

    def store(self, address: int, data: Buffer) -> None:
        """Write *data* from *address* on. Raises BadAddress; then the part before the fault is written."""
        rest = memoryview(data).cast("B")
        for piece in self.pieces(address, len(rest), Writable):
            piece[:] = rest[: len(piece)]
            rest = rest[len(piece) :]

    def _piece(self, address: int, end: int, access: int) -> memoryview | None:
        """Return the longest run of bytes from *address* on that one extent shows; None: a page fault."""
        writable = bool(access & Writable)
        if address >= BUFFERS:
            return self._buffers.piece(address, end, writable=writable)
        self.attend()
        with self._lock:
            region = self._regions.at(address)
        if region is None or access & ~region.holding.rights:
            return None
        view = self._mapped(region.holding)
        if view is None:
            return None
        region.holding.accessed |= Readable | access
        at = address - region.base + region.offset
        piece = view[at : at + min(end, region.end) - address]
        return piece if writable else piece.toreadonly()

    def _mapped(self, holding: Holding) -> memoryview | None:
        """Return the bytes of *holding*; None: it was taken away this moment. A part needs no view of its own."""
        if holding.part_of is not None:
            whole, offset = holding.part_of
            view = self._mapped(whole)
            return None if view is None else view[offset : offset + holding.size]
        if holding.view is None:
            with UnlessGone():
                holding.view = self._environment.views.map(holding.handle)
            if holding.view is None:
                self._remove(holding)
        return holding.view


def no_pager(address: int, access: int) -> None:
    """Handle a page fault without a pager: raise BadAddress."""
    raise BadAddress(f"nothing is mapped at {address:#x} for access {access:#o}, and there is no pager")
