"""sigma0, and the older memory protocol: the memory server's answers to messages that are not typed calls.

In X.2, sigma0 owns all memory that nobody asked for yet. A thread asks for a page by its address, or for any of a
size, and it is mapped; so is the page at which a thread faulted whose pager this server is. The first that gets a
page keeps it, and gets the same again. The rules of allocation hold, too: the caller's quota, and what is free.

Every waiting caller gets an answer: to a malformed or refused request, a map item of the nil fpage.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from kernel.abi.ids import ANY_FRAME, FIRST_PROGRAM, show_thread, thread_number
from kernel.abi.kip import Head
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from libexo.errors import TrapRefused
from libexo.ipc.message import Message
from libexo.l4.exo import MEM_ALLOC, MEMORY_LABEL
from libexo.stub.call import DEFERRED, reply_to
from servers.memory import protocol
from servers.memory.families import Families
from servers.memory.lent import Lent, Piece
from servers.memory.policy import (
    FrameBusy,
    MemoryRefused,
    NotAllowed,
    OutOfMemory,
    check_kept,
    check_message,
    find_free,
)
from servers.memory.protocol import Request

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow

_RIGHTS: Final = int(Rights.READ | Rights.WRITE | Rights.EXECUTE | Rights.TRANSFER)
"""All rights of an fpage, including the right to map it on: X.2's full rights."""
_QUIET, _REFUSALS, _ALL = range(3)
"""Verbosity: how much is logged."""

Check = Callable[["EnvironmentRow", int], None]
"""Raises MemoryRefused unless an environment may have so many frames more."""
Carve = Callable[["EnvironmentRow", int, int], Piece]
"""Makes so many frames, from this one on or anywhere, an extent for an environment. Raises MemoryRefused."""
Log = Callable[[str], None]


class Later:
    """A request that waits: who is to be answered (`shortage.Asker`)."""

    def __init__(self, sigma0: "Sigma0", environment: "Environment", sender: int, message: Message) -> None:
        """Answer *message* of *sender*."""
        self._sigma0 = sigma0
        self._thread = environment.thread
        self._sender = sender
        self._message = message

    def answer(self, result: object) -> None:
        """Send *result*; where it cannot be put on offer, that it is refused."""
        assert isinstance(result, Message)
        try:
            reply_to(self._thread, self._message, result)
        except TrapRefused as refused:
            self.fail(refused)

    def fail(self, error: BaseException) -> None:
        """Send that it is refused."""
        self.answer(self._sigma0.refused(self._sender, self._message.label, error))


Wait = Callable[[Later, "EnvironmentRow", int, Callable[["EnvironmentRow"], object], OutOfMemory], None]
"""Has a request wait for so many frames. Raises OutOfMemory where it may not."""


class Sigma0:
    """Answers these messages for the memory server."""

    def __init__(
        self,
        environment: "Environment",
        lent: Lent,
        families: Families,
        check: Check,
        carve: Carve,
        wait: Wait,
        log: Log,
    ) -> None:
        """Hand out what *check* allows and *carve* makes, and keep it in *lent*; *wait* has a request wait."""
        self._environment = environment
        self._frames = environment.kip.head(Head.FRAME_COUNT)
        self._users = environment.kip.frame_users()
        self._lent = lent
        self._families = families
        self._check = check
        self._carve = carve
        self._wait = wait
        self._wanted = 0
        """Frames that the request being served needs."""
        self._log = log
        self._verbosity = _QUIET

    def answer(self, row: "EnvironmentRow", sender: int, message: Message) -> Message | None:
        """Return the answer to *message* of *sender*, a thread of *row*'s environment.

        None: it is no request. DEFERRED: it waits for frames, and is answered later.
        """
        try:
            return self._answer(row, sender, message)
        except OutOfMemory as why:
            return self._later(row, sender, message, why)
        except MemoryRefused as refused:
            return self.refused(sender, message.label, refused)

    def _later(
        self, row: "EnvironmentRow", sender: int, message: Message, why: OutOfMemory
    ) -> Message | None:
        if message.origin is None or not message.origin.answers:
            return self.refused(sender, message.label, why)
        try:
            self._wait(
                Later(self, self._environment, sender, message),
                row,
                self._wanted,
                lambda now: self._answer(now, sender, message),
                why,
            )
        except OutOfMemory as refused:
            return self.refused(sender, message.label, refused)
        later: Message = DEFERRED
        return later

    def _answer(self, row: "EnvironmentRow", sender: int, message: Message) -> Message | None:
        """Do what *message* asks for. Raises MemoryRefused."""
        words, typed, label = message.words, message.typed, message.label
        if label == Label.SIGMA0:
            return self._map(row, protocol.page_request(words, typed, self._frames))
        if protocol.is_fault(label, Label.PAGE_FAULT):
            return self._map(row, protocol.fault_request(words, typed, self._frames))
        if label == Label.SIGMA0_EXTENDED:
            return self._extended(sender, words, typed)
        if label == MEMORY_LABEL:
            return self._older(row, message)
        if protocol.is_fault(label, Label.IO_FAULT):
            return self.refused(sender, label, "there are no ports")
        return None

    def refused(self, sender: int, label: int, why: object) -> Message:
        """Return the answer to a request that is refused: in the older protocol, address 0."""
        is_older = label == MEMORY_LABEL
        kind = "older protocol" if is_older else f"label {label:#x}"
        self._say(_REFUSALS, f"{show_thread(sender)}, {kind}, refused: {why}")
        return Message(words=(0,)) if is_older else protocol.refused()

    def _may_have(self, row: "EnvironmentRow", pages: int) -> None:
        """Raise MemoryRefused unless *row*'s environment may have *pages* more."""
        self._wanted = pages
        self._check(row, pages)

    # ----------------------------------------------------------------------------------------------- requests

    def _map(self, row: "EnvironmentRow", wanted: Request) -> Message:
        if wanted.first == ANY_FRAME:
            pieces = [self._any(row, wanted.length, wanted.length)]
        else:
            pieces = self._at(row, wanted)
        return self._mapped(row, pieces)

    def _mapped(self, row: "EnvironmentRow", pieces: list[Piece], words: tuple[int, ...] = ()) -> Message:
        answer = protocol.mapped(pieces, _RIGHTS, words)
        self._say(_ALL, f"{protocol.covering(pieces)!r} mapped to {show_thread(row.thread)} ({row.name})")
        return answer

    def _any(self, row: "EnvironmentRow", count: int, alignment: int, lowest: int = 0) -> Piece:
        """Hand out *count* frames, the first that fit: from a multiple of *alignment*, not below *lowest*."""
        self._may_have(row, count)
        self._check_kept(row, 1)
        anywhere = alignment == 1 and not lowest
        first = ANY_FRAME if anywhere else find_free(self._users, count, alignment, lowest)
        return self._hand_out(row, first, count)

    def _at(self, row: "EnvironmentRow", wanted: Request) -> list[Piece]:
        """Hand out the frames *wanted*: those the caller has already, and those that are free."""
        pieces, gaps = self._lent.covered(row, *wanted)
        check_message(len(pieces) + len(gaps))
        if not gaps:
            return pieces
        self._may_have(row, sum(length for _, length in gaps))
        self._check_kept(row, len(gaps))
        made: list[Piece] = []
        try:
            for first, length in gaps:
                piece = self._hand_out(row, first, length)
                made.append(piece)
        except MemoryRefused:
            for piece in made:
                self._lent.take_back(piece)
            raise
        return sorted(pieces + made)

    def _check_kept(self, row: "EnvironmentRow", wanted: int) -> None:
        check_kept(self._lent.of(self._families.members(row)), wanted, len(self._lent))

    def _hand_out(self, row: "EnvironmentRow", first: int, count: int) -> Piece:
        piece = self._carve(row, count, first)
        self._lent.keep(piece, row)
        return piece

    # ----------------------------------------------------------------------------------------- extended requests

    def _extended(self, sender: int, words: tuple[int, ...], typed: tuple[int, ...]) -> Message:
        if thread_number(sender) >= FIRST_PROGRAM:
            raise NotAllowed("servers decide what is logged")
        request, argument = protocol.extended_request(words, typed)
        if request == protocol.VERBOSITY:
            self._verbosity = argument
        else:
            self._dump()
        return protocol.EMPTY

    def _dump(self) -> None:
        """Write to the log what was handed out."""
        free = self._environment.kip.head(Head.FREE_FRAMES)
        self._say(_QUIET, f"{free} of {self._frames} frames free, {len(self._lent)} extents handed out")
        for piece, owner, held in self._lent.describe():
            where = f"{piece.first * FRAME_SIZE:#x}+{piece.length * FRAME_SIZE:#x}"
            self._say(_QUIET, f"{where} {owner}{'' if held else ', not mapped'}")

    def _say(self, level: int, text: str) -> None:
        if level <= self._verbosity:
            self._log(f"sigma0: {text}")

    # ------------------------------------------------------------------------------------------ older protocol

    def _older(self, row: "EnvironmentRow", message: Message) -> Message:
        """Do a request of the older protocol. Raises MemoryRefused."""
        operation, pages, address = protocol.older_request(message.words, message.typed)
        if operation == MEM_ALLOC:
            return self._allocate(row, pages)
        self._free(row, pages, address)
        return Message(words=(address,))

    def _allocate(self, row: "EnvironmentRow", pages: int) -> Message:
        """Map an extent of *pages* frames; not at address 0, which would look like a refusal."""
        piece = self._any(row, pages, 1 << max(pages - 1, 0).bit_length(), lowest=1)
        return self._mapped(row, [piece], (piece.first * FRAME_SIZE,))

    def _free(self, row: "EnvironmentRow", pages: int, address: int) -> None:
        """Take back the memory at *address*. Raises MemoryRefused unless it is the caller's, and of that size."""
        within = protocol.within(Request(address // FRAME_SIZE, pages), self._frames)
        found = self._lent.overlapping(*within)
        if address % FRAME_SIZE or [(piece.first, piece.length) for piece in found] != [within]:
            raise MemoryRefused(f"{pages} pages at {address:#x}: nothing of that size was handed out there")
        if not self._lent.belongs(found[0], row):
            raise FrameBusy(f"the memory at {address:#x} is not the caller's to free")
        self._lent.take_back(found[0])
