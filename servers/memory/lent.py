"""Memory that was mapped to others and not granted: extents to which the server keeps a capability.

X.2's sigma0 maps, and gives the same memory again to the one it gave it first. So it must be able to offer an
extent a second time, which it could not after granting it. The *owner* of an extent is written down nowhere: it is
the environment to which the kernel counts the frames (they go with the capability, and are shown in the KIP).
Only for an extent without a holder, because it was not accepted yet or was flushed, this table alone knows the
owner; after a restart such an extent has none, and goes back to RAM.

When an owner ends, its capabilities are gone, and the server gives up its own to those extents (`attend`). The
kernel reports an end only to environments that may call the one that ended, and this server may call none; but the
KIP shows how many have ended.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple

from kernel.abi.kip import Counter, EnvironmentState, Head
from kernel.abi.limits import MAX_BATCH
from kernel.abi.rights import Kind, Rights
from kernel.abi.traps import Drop, Inspection
from servers.memory.policy import FrameBusy

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow


Held = Mapping[int, Inspection]
"""The capabilities of the server, by handle."""


class Piece(NamedTuple):
    """An extent: its frames, and the handle of a capability to it."""

    first: int
    length: int
    handle: int

    @property
    def end(self) -> int:
        """The frame behind it."""
        return self.first + self.length


class Owner(NamedTuple):
    """One environment: its row in the KIP, and when it was started, because rows are used again."""

    number: int
    started: int


class Lent:
    """The extents that are kept, by owner."""

    def __init__(self, environment: "Environment", held: Held) -> None:
        """Find the extents that a predecessor kept, among *held*."""
        self._environment = environment
        self._pieces: list[Piece] = []
        """In order of their frames."""
        self._owners: dict[int, Owner] = {}
        """Owner of each piece, by its first frame, from when it was handed out."""
        self._extents: dict[Owner, dict[int, Piece]] = {}
        """The same by owner."""
        self._users = environment.kip.frame_users()
        self._ended = self._count_ended()
        self._adopt(held)

    def __len__(self) -> int:
        """The number of extents."""
        return len(self._pieces)

    def _adopt(self, held: Held) -> None:
        """Keep extents with a holder; give up those without, and those that others made this server accept."""
        sys, rows = self._environment.sys, self._rows()
        for handle, inspection in held.items():
            if not is_lent(inspection):
                continue
            user = rows.get(self._user(inspection.first))
            if inspection.origin or user is None:
                sys.drop(handle)
            else:
                self.keep(Piece(inspection.first, inspection.count, handle), user)

    def _rows(self) -> "dict[int, EnvironmentRow]":
        """Return all environments but this one, by number."""
        own = self._environment.number
        return {row.number: row for row in self._environment.kip.environments() if row.number != own}

    def _user(self, first: int) -> int:
        """Return the number of the environment to which frame *first* counts; -1: to none."""
        return self._users[first] - 1

    # ------------------------------------------------------------------------------------------------- asking

    def overlapping(self, first: int, count: int) -> list[Piece]:
        """Return the pieces that have any of these frames, in order."""
        start = bisect_left(self._pieces, (first, 0, 0))
        if start and self._pieces[start - 1].end > first:
            start -= 1
        return self._pieces[start : bisect_left(self._pieces, (first + count, 0, 0))]

    def covered(
        self, row: "EnvironmentRow", first: int, count: int
    ) -> tuple[list[Piece], list[tuple[int, int]]]:
        """Return the pieces of *row*'s environment in a run of frames, and the gaps in between: first, length.

        A piece that contains the whole run is returned by itself, with no gaps. Raises FrameBusy where a piece
        is another's, or only partly in the run.
        """
        pieces = self.overlapping(first, count)
        for piece in pieces:
            if not self.belongs(piece, row):
                raise FrameBusy(f"frame {piece.first} is another environment's")
        if len(pieces) == 1 and pieces[0].first <= first and first + count <= pieces[0].end:
            return pieces, []
        if pieces and (pieces[0].first < first or first + count < pieces[-1].end):
            raise FrameBusy(
                f"{count} frames from {first}: an extent that is partly there is mapped whole or not at all"
            )
        return pieces, list(_gaps(pieces, first, count))

    def belongs(self, piece: Piece, row: "EnvironmentRow") -> bool:
        """Say whether *piece* is *row*'s: it holds it, or nobody does and it was the last owner."""
        user = self._user(piece.first)
        if user == self._environment.number:
            return self._owners[piece.first] == Owner(row.number, row.started)
        return user == row.number

    def of(self, rows: "Iterable[EnvironmentRow]") -> int:
        """Return how many extents were handed to the environments *rows*."""
        return sum(len(self._extents.get(Owner(row.number, row.started), ())) for row in rows)

    def unheld(self, row: "EnvironmentRow") -> int:
        """Return how many frames are *row*'s although the kernel does not count them to it."""
        return sum(piece.length for piece in self.flushed(row))

    def flushed(self, row: "EnvironmentRow") -> list[Piece]:
        """Return the pieces that are kept for *row*'s environment, which does not hold them now."""
        pieces = self._extents.get(Owner(row.number, row.started), {}).values()
        return [piece for piece in pieces if self._user(piece.first) == self._environment.number]

    def describe(self) -> Iterator[tuple[Piece, str, bool]]:
        """Yield each piece, its owner's name, and whether the owner holds it now."""
        names = {Owner(row.number, row.started): row.name for row in self._rows().values()}
        for piece in self._pieces:
            held = self._user(piece.first) != self._environment.number
            yield piece, names.get(self._owners[piece.first], "nobody"), held

    # ------------------------------------------------------------------------------------------------ changing

    def keep(self, piece: Piece, row: "EnvironmentRow") -> None:
        """Keep *piece*, which is handed to *row*'s environment."""
        owner = Owner(row.number, row.started)
        insort(self._pieces, piece)
        self._owners[piece.first] = owner
        self._extents.setdefault(owner, {})[piece.first] = piece

    def take_back(self, piece: Piece) -> None:
        """Take *piece* from all holders; its frames are free then."""
        self.forget(piece)
        self._environment.sys.drop(piece.handle)

    def forget(self, piece: Piece) -> None:
        """Keep *piece* no more: its capability is gone, or another has it now."""
        self._pieces.remove(piece)
        owner = self._owners.pop(piece.first)
        kept = self._extents[owner]
        del kept[piece.first]
        if not kept:
            del self._extents[owner]

    def attend(self) -> None:
        """Give up the extents of owners that ended, if any has."""
        before, self._ended = self._ended, self._count_ended()
        if before == self._ended or not self._extents:
            return
        self._environment.sys.inventory()  # the kernel answers when it is done with those that ended
        rows = self._rows()
        living = {Owner(r.number, r.started) for r in rows.values() if r.state != EnvironmentState.DEAD}
        for owner in self._extents.keys() - living:
            self._settle(list(self._extents[owner].values()), rows)

    def _count_ended(self) -> int:
        """Return how many environments have ended since boot."""
        return self._environment.kip.word((Head.COUNTERS + Counter.ENVIRONMENTS_ENDED) * 8)

    def _settle(self, pieces: list[Piece], rows: "dict[int, EnvironmentRow]") -> None:
        """Give up the *pieces* of an ended owner that have no holder; the others become their holders'."""
        gone = []
        for piece in pieces:
            heir = rows.get(self._user(piece.first))
            self.forget(piece)
            if heir is None:
                gone.append(Drop(piece.handle))
            else:
                self.keep(piece, heir)
        for first in range(0, len(gone), MAX_BATCH):
            self._environment.sys.batch(gone[first : first + MAX_BATCH])


def is_lent(inspection: Inspection) -> bool:
    """Say whether it is a capability to an extent that was handed out: the server's own cannot be passed on."""
    return inspection.kind == Kind.EXTENT and bool(inspection.rights & Rights.TRANSFER)


def _gaps(pieces: Iterable[Piece], first: int, count: int) -> Iterator[tuple[int, int]]:
    """Yield the runs between *pieces*: first frame, length."""
    end = first + count
    for piece in pieces:
        if first < piece.first:
            yield first, piece.first - first
        first = piece.end
    if first < end:
        yield first, end - first
