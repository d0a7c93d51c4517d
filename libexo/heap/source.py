"""The source of a heap's chunks: a capability to RAM of its own.

One trap carves frames from it and maps them. The memory server promises the frames. It is
asked for as much again as the heap has, so seldom. When another program needs unused frames it takes them
back, and is then asked again; where that happens again and again, it is asked to carve itself.
"""

from typing import TYPE_CHECKING, Final, Protocol

from kernel.abi.errors import Refusal
from kernel.abi.rights import Kind
from libexo import vm
from libexo.errors import ExoError, NoMemory, RemoteError, TrapRefused

if TYPE_CHECKING:
    from libexo.attachment import Attachment
    from libexo.extent import Extent, Ram

MOST: Final = 4096
"""Frames the memory server is asked for ahead, at most: 16 MiB."""
_TRIES: Final = 4
"""How often it is asked to promise, while its promise is taken back before use."""
_NO_ROOM = (
    Refusal.NO_FRAMES,
    Refusal.OVER_LIMIT,
    Refusal.HOST_FULL,
    Refusal.TABLE_FULL,
    Refusal.OVER_BUDGET,
    Refusal.STALE_HANDLE,
)
"""Refusals that mean that there is no more; the last one, that the capability was taken with no other to come."""
_REFUSED = ("OutOfMemory", "QuotaExceeded")


def drop_inherited(environment: "Attachment") -> int:
    """Give up every capability to RAM, with all that was carved through it; return how many there were.

    A successor inherits the heap of its predecessor, in which it can find nothing. It calls this before its own.
    """
    sys = environment.sys
    found = sys.holdings(Kind.RAM)
    for handle in found:
        sys.give_up(handle)  # it may be derived from one that is gone
    return len(found)


class Provider(Protocol):
    """Gives a capability to RAM, and promises that it may be carved from: the memory server."""

    def ram(self) -> "Ram":
        """Return the capability."""

    def promise(self, pages: int) -> None:
        """Let *pages* frames be carved. Raises RemoteError."""

    def claim(self, pages: int) -> None:
        """The same, but wait for others to give back, if that must be. Raises RemoteError."""

    def allocate(self, pages: int) -> "Extent":
        """Return an extent that it carved. Raises RemoteError."""


class Source:
    """Carves, and asks for more."""

    def __init__(self, environment: "Attachment", ram: "Ram | None", provider: Provider | None) -> None:
        """Carve from *ram*; if that is None, from the one *provider* gives."""
        self._environment = environment
        self._ram = ram
        self._provider = provider
        self.frames = 0
        """Frames carved."""

    def carve(self, pages: int) -> "tuple[Extent, memoryview]":
        """Return a new extent of *pages* frames, all zeros, and its memory. Raises NoMemory."""
        for _ in range(_TRIES):
            try:
                made = vm.carve(self._environment, self._ram or self._given(), pages)
            except TrapRefused as refused:
                self._again(refused, pages)
            except OSError as error:
                raise NoMemory(f"{pages} frames could not be mapped: {error}") from error
            else:
                self.frames += pages
                return made
        return self._allocated(pages)

    @property
    def ram(self) -> int:
        """The handle it carves by; 0: it has none yet."""
        return self._ram.handle if self._ram is not None else 0

    def free(self, extent: "Extent") -> None:
        """Give *extent* back; one that was taken is not ours any more."""
        self.frames -= extent.pages
        self._environment.sys.drop(extent.handle)

    def _allocated(self, pages: int) -> "tuple[Extent, memoryview]":
        """Have the memory server carve, after its promise was taken back again and again. Raises NoMemory."""
        assert self._provider is not None
        try:
            extent = self._provider.allocate(pages)
        except RemoteError as error:
            raise self._no_memory(error, pages) from error
        self.frames += pages
        return extent, vm.map(self._environment, extent)

    def _given(self) -> "Ram":
        assert self._provider is not None
        self._ram = self._provider.ram()
        return self._ram

    def _again(self, refused: TrapRefused, pages: int) -> None:
        """Make room for *pages*, which were *refused*. Raises NoMemory, or the TrapRefused itself."""
        if self._provider is not None and refused.refusal == Refusal.STALE_HANDLE:
            self._ram = None  # it was taken, with all that was carved from it
        elif self._provider is not None and refused.refusal == Refusal.OVER_LIMIT:
            self._ask(self._provider, pages)
        elif refused.refusal in _NO_ROOM:
            raise self._no_memory(refused, pages) from refused
        else:
            raise refused

    def _ask(self, provider: Provider, pages: int) -> None:
        """Have more than *pages* promised, or at least those. Raises NoMemory."""
        ahead = max(pages, min(self.frames, MOST))
        for wanted in (ahead, pages):
            try:
                return (provider.claim if wanted == pages else provider.promise)(wanted)
            except RemoteError as error:
                if wanted == pages or error.kind not in _REFUSED:
                    raise self._no_memory(error, pages) from error
        return None

    def _no_memory(self, error: RemoteError | TrapRefused, pages: int) -> ExoError:
        """Return the error to raise when *pages* were refused by *error*: that one, if it is not about memory."""
        if isinstance(error, RemoteError) and error.kind not in _REFUSED:
            return error
        return NoMemory(f"{pages} frames more than the heap's {self.frames}: {error}")
