"""The address space of an environment, as in L4 X.2: mapping to others, mappings from them, taking back.

*Extents and parts.* An fpage that is mapped or granted sends the extents that lie wholly in it. Of an extent that
extends beyond it, or of which only a part is still shown here, the kernel derives that part: the same memory, of
which its receiver can map no more. One's own table then shows the part in place of the whole, and by the view of
the whole, until it is taken back. A part that is granted gets frames of its own, where its space has the extent to
itself (`libexo.l4.space.dividing`). A receiver gets extents and parts whole, and shows what its window is for: the
sender left it the choice of the window, so it may have all of the fpage. One's own table has no such limit
(`libexo.l4.space.addresses`).

*Rights.* Each extent is passed on with the rights that are asked for and held. A mapping that can be written or
executed can be read, as on most processors, so the right to read goes with those. An extent with no right
left, or that its holder may not pass on, is a hole: nothing is sent for it.

*Taking back.* Unmap takes away, whole, each mapping that has a page of the fpage; a holder with other pages of it
faults and asks its pager again. It never takes less than asked. What was mapped as a part is taken as one, and no
more. Of some rights, these are taken, and the mapping stays (`Sys.narrow`), unless parts of it were given out.
Only the other MMUs know the accesses of others, so the status counts each right given to others since memory was
last taken from them as used: an fpage that comes back clean is clean.

*Never mapped*, in either direction, are the reserved ranges (the KIP and UTCB areas) and the buffers.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from kernel.abi.limits import FRAME_SIZE, MAX_OFFERS
from kernel.abi.rights import Kind
from kernel.abi.rights import Rights as CapabilityRights
from kernel.abi.traps import Accepted
from libexo.errors import TrapRefused
from libexo.l4.errors import Overflow
from libexo.l4.format.fpage import Fpage, FullyAccessible, NoAccess, Readable, Rights, Set_Rights, Size
from libexo.l4.format.items import GrantItem, MapItem
from libexo.l4.space.addresses import GONE, Addresses, UnlessGone
from libexo.l4.space.dividing import divided
from libexo.l4.space.landing import Span, place, span
from libexo.l4.space.regions import Holding, Region, all_of, holdings

if TYPE_CHECKING:
    from libexo.environment import Environment

Accept = Callable[[int, int], Accepted]
"""Takes an offer of the message's sender, with rights. Raises TrapRefused."""

_TRANSFER = int(CapabilityRights.TRANSFER)
_KEPT = "l4_space"


class AddressSpace(Addresses):
    """One environment's memory, as it shares it with others."""

    # ------------------------------------------------------------------------------------------ map and grant

    def outgoing(self, item: MapItem | GrantItem) -> tuple[tuple[int, int, int, int], ...]:
        """Return the extents that *item* sends: offset from the fpage's base, size, handle, and rights to give.

        Raises Overflow where the item covers part of an extent of which the kernel derives none, or more extents
        than can be on offer at a time.
        """
        sent = span(item.snd_fpage)
        with self._lock:
            regions = self._regions.overlapping(*sent)
        found = []
        for at, region in enumerate(regions):
            rights = _passed(Rights(item.snd_fpage), region.holding.rights)
            if rights & FullyAccessible:
                part = region.part(max(sent.first, region.base), min(sent.end, region.end))
                covered = self._whole(part, rights & FullyAccessible, grant=isinstance(item, GrantItem))
                found.append((covered.base - sent.first, covered.size, covered.holding.handle, rights))
                regions[at] = covered
        if len(found) > MAX_OFFERS:
            raise Overflow(
                f"{item!r} covers {len(found)} extents: at most {MAX_OFFERS} can be on offer at a time"
            )
        if isinstance(item, GrantItem):
            for holding in holdings(regions):
                holding.leaving = True
        return tuple(found)

    def _whole(self, region: Region, given: int, *, grant: bool) -> Region:
        """Return *region* as one that shows all of an extent, or of a part, which is made, to be *given* away.

        Raises Overflow.
        """
        if region.whole:
            region.holding.given |= given
            return region
        made = (self._divided(region) if grant else None) or self._derived(region)
        made.given = given
        with self._lock:
            kept = made.part_of is not None or not region.holding.given
            stands = kept and not region.holding.leaving and self._regions.shows(region)
            gone = self._regions.enter(all_of(made, region.base)) if stands else [made]
            self._changes += 1
        self._give_up(gone)
        if not stands:
            raise Overflow(f"what is at {region.base:#x} changed while part of it was to be passed on")
        return all_of(made, region.base)

    def _divided(self, region: Region) -> Holding | None:
        """Return frames of its own for what *region* shows; None: others have it, too. Raises Overflow."""
        view = self._mapped(region.holding)
        if view is None:
            raise Overflow(f"the extent at {region.base:#x} was taken away")
        return divided(self._environment, region, view[region.offset : region.offset + region.size])

    def _derived(self, region: Region) -> Holding:
        """Return the part that *region* shows, derived by the kernel. Raises Overflow."""
        whole, first, pages = region.holding, region.offset // FRAME_SIZE, region.size // FRAME_SIZE
        if (region.offset | region.size) % FRAME_SIZE:
            raise Overflow(f"no part is derived of the extent at {region.base:#x}: it is less than a page")
        try:
            handle = self._environment.sys.derive(whole.handle, whole.rights, first, pages)
        except TrapRefused as refused:
            raise Overflow(f"no part is derived of the extent at {region.base:#x}: {refused}") from refused
        made = Holding(handle, region.size, whole.rights)
        made.part_of, made.accessed = (whole, region.offset), whole.accessed
        whole.parts.append(made)
        return made

    def incoming(
        self,
        window: Fpage,
        item: MapItem | GrantItem,
        extents: Sequence[tuple[int, int, int]],
        accept: Accept,
        *,
        local: bool = False,
    ) -> None:
        """Map the *extents* of *item* into *window*: of each, offset from the fpage's base, size, and the offer.

        What lies in the part the send base selects is accepted, and as far as it lies there mapped over what was
        there; the rest is left. *local*: the sender is of this environment; what it maps onto itself stays as it
        is. Raises ValueError, and maps nothing, when a sender may not send *extents*; Overflow at the first extent
        that cannot be accepted; those before it stay mapped.
        """
        sent = item.snd_fpage
        if not Size(window) or not (Size(sent) or sent == 0):
            raise Overflow(f"{item!r} finds no window")
        _check_extents(extents, Size(sent))
        if not extents:
            return
        source, base = place(sent, item.snd_base, window)
        for offset, size, offer in extents:
            found = Span(span(sent).first + offset, span(sent).first + offset + size)
            if found.end <= source.first or found.first >= source.end:
                continue
            part = Span(max(found.first, source.first), min(found.end, source.end))
            target = Span(base + part.first - source.first, base + part.end - source.first)
            if self._is_reserved(target) or (local and target == part and isinstance(item, MapItem)):
                continue
            holding = self._take(size, accept, offer, Rights(sent))
            self._show(Region(target.first, target.size, part.first - found.first, holding))

    def granted(self, item: GrantItem) -> None:
        """Give up what *item* granted, once accepted, and what the fpage covers besides.

        Mappings that arrived there meanwhile stay: a grant may be to an address of the same space.
        """
        for region in self._leaving(item):
            if region.whole:  # what it was derived from is kept from now on: it would go with that
                region.holding.part_of = None
            self._cut(Span(region.base, region.end))

    def kept(self, item: GrantItem) -> None:
        """Keep what *item* was to grant, when its message was cut or not sent; what was accepted before is gone."""
        for region in self._leaving(item):
            try:
                self._environment.sys.inspect(region.holding.handle)
            except TrapRefused as refused:
                if refused.refusal not in GONE:
                    raise
                self._cut(Span(region.base, region.end))

    def _leaving(self, item: GrantItem) -> list[Region]:
        """Return the regions that *item* was to grant, each as far as it covers it; they are no longer leaving."""
        first, end = span(item.snd_fpage)
        with self._lock:
            regions = [r for r in self._regions.overlapping(first, end) if r.holding.leaving]
        for region in regions:
            region.holding.leaving = False
        return [region.part(max(first, region.base), min(end, region.end)) for region in regions]

    def _take(self, size: int, accept: Accept, offer: int, asked: int) -> Holding:
        """Accept *offer*, of an extent of *size* bytes. Raises Overflow."""
        try:
            accepted = accept(offer, _passed(asked, FullyAccessible | _TRANSFER))
        except TrapRefused as refused:
            raise Overflow(f"an extent could not be accepted: {refused}") from refused
        holding = Holding(accepted.handle, size, accepted.rights)
        if (accepted.kind, accepted.count * FRAME_SIZE) != (Kind.EXTENT, size):
            self._give_up([holding])
            raise Overflow(f"the offer is not of an extent of {size:#x} bytes")
        return holding

    def _show(self, region: Region) -> None:
        """Map what was accepted."""
        if self._enter(region):
            with UnlessGone():  # it may derive from what it was mapped over, and be gone
                self._environment.sys.inspect(region.holding.handle)
                return
            self._remove(region.holding)

    # ---------------------------------------------------------------------------------------------------- unmap

    def unmap(self, fpages: Iterable[Fpage], *, flush: bool = False) -> list[Fpage]:
        """Take the rights of each fpage back from all that got its memory from here; with *flush*, also from here.

        Returns the fpages with the known accesses to their memory in place of the rights; those are
        forgotten then. All rights unmap, some take these rights, none only ask. An extent that is
        partly in an fpage is taken from others whole.
        """
        self.attend()
        return [self._unmap(fpage, flush=flush) for fpage in fpages]

    def _unmap(self, fpage: Fpage, *, flush: bool) -> Fpage:
        covered, rights, status = span(fpage), Rights(fpage), NoAccess
        if rights & Readable:
            rights = FullyAccessible  # without the right to read, no right is left
        with self._lock:
            regions = self._regions.overlapping(*covered)
        goes = flush and rights == FullyAccessible
        for holding in holdings(regions):
            shared = self._unmap_above(holding, rights) | holding.given | self._held_by_others(holding)
            status |= holding.accessed | shared
            holding.accessed = NoAccess
            if rights & shared and rights != FullyAccessible and not holding.parts:
                self._narrow(holding, rights)
            elif rights & shared or (rights == FullyAccessible and not holding.parts):
                self._take_back(holding)
            if flush and not goes:
                holding.rights &= ~rights
            if not goes and not holding.given:
                self._join(holding)
        if goes:
            self._cut(covered)
        return Set_Rights(fpage, status)

    def _unmap_above(self, part: Holding, rights: int) -> int:
        """Take from others what *part* is derived from, if they have one of *rights* to it; return theirs."""
        if part.part_of is None:
            return NoAccess
        whole, _ = part.part_of
        shared = self._unmap_above(whole, rights) | whole.given | self._held_by_others(whole)
        if rights & shared:
            self._take_back(whole)
        return shared

    def _held_by_others(self, holding: Holding) -> int:
        """Return the rights of others; parts that were derived here are shown by holdings of their own."""
        own = self._environment.first if holding.parts else None
        with UnlessGone():
            holders = self._environment.sys.inspect(holding.handle).holders
            return _union(holder.rights for holder in holders if holder.thread != own) & FullyAccessible
        return NoAccess

    def _take_back(self, holding: Holding) -> None:
        """Take *holding* from all that got it from here; one that gave it up may still have it mapped.

        Its parts go, here too: all is shown by itself again.
        """
        environment = self._environment
        holding.given = NoAccess
        with UnlessGone():
            for descriptor in environment.sys.revoke(holding.handle)[1]:
                environment.views.replaced(holding.handle, descriptor)
        with self._lock:
            self._merge(holding)

    def _narrow(self, holding: Holding, rights: int) -> None:
        """Take *rights* from all that got *holding* from here; they keep the others."""
        holding.given &= ~rights
        with UnlessGone():
            self._environment.sys.narrow(holding.handle, rights)
            self._environment.views.moved(holding.handle)

    def _join(self, part: Holding) -> None:
        """Show a part that nobody has by what it was derived from, unless one's own rights to it are fewer."""
        if part.part_of is None or part.parts or part.leaving or part.rights != part.part_of[0].rights:
            return
        with self._lock:
            self._regions.merge(part)
            self._changes += 1
        self._give_up([part])

    def _merge(self, whole: Holding) -> None:
        for part in whole.parts:
            self._merge(part)
            if part.part_of is not None:
                self._regions.merge(part)
                part.part_of = None
        whole.parts.clear()


def space_of(environment: "Environment") -> AddressSpace:
    """Return the address space of *environment*, made at the first call, the same for all its threads."""
    # It is kept in the environment, which does not know this layer, so that the two go together.
    kept = vars(environment)
    space = kept.get(_KEPT)
    if space is None:
        made = AddressSpace(environment)
        space = kept.setdefault(_KEPT, made)
        if space is made:
            made.listen()
    assert isinstance(space, AddressSpace)
    return space


def _passed(asked: int, held: int) -> int:
    """Return the rights of a capability that is passed on: only those *held*, some of which must be *asked*."""
    if not held & _TRANSFER:
        return NoAccess
    given = asked & held & FullyAccessible
    return given | Readable & held | _TRANSFER if given else NoAccess


def _check_extents(extents: Sequence[tuple[int, int, int]], size: int) -> None:
    """Raise ValueError unless *extents* lie in *size* bytes, in order, without overlapping."""
    end = 0
    for offset, length, _ in extents:
        if (
            offset % FRAME_SIZE
            or length % FRAME_SIZE
            or length <= 0
            or offset < end
            or offset + length > size
        ):
            raise ValueError(f"an extent of {length:#x} bytes cannot be at offset {offset:#x} of {size:#x}")
        end = offset + length


def _union(bits: Iterable[int]) -> int:
    union = 0
    for each in bits:
        union |= each
    return union
