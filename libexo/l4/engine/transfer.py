"""What an Ipc moves: a message from the registers onto its way, and one that came into the registers.

Untyped words first, then the typed items in order, each as the acceptor allows. What does not fit cuts the message:
both sides then see the same error, with the number of string bytes that were copied before.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import XFER_AT, FpagePart, IpcCode, Packet, PacketFlags, Phase
from libexo.errors import IpcError
from libexo.ipc.message import FpageItem, Message
from libexo.ipc.message import Item as Carried
from libexo.ipc.packing import strings
from libexo.l4.engine.copying import gather, scatter
from libexo.l4.errors import Cut, Overflow, sender_word
from libexo.l4.format.acceptor import Acceptor, RcvWindow, buffers
from libexo.l4.format.decoding import decode
from libexo.l4.format.items import CtrlXferItem, GrantItem, Item, MapItem
from libexo.l4.format.strings import StringItem
from libexo.l4.format.tag import CROSSED, PROPAGATED, REDIRECTED, MsgTag
from libexo.l4.format.times import Never, split_timeouts
from libexo.l4.space.space import space_of

if TYPE_CHECKING:
    from libexo.ipc.exchange import Arrival
    from libexo.l4.engine.context import Context

_IP = 0
_FRAME = {_IP: "ip", 1: "flags", 5: "sp"}
"""Registers of group 0, the general ones, by their numbers there (X.2 on ia32: EIP, EFLAGS, ESP)."""


def outgoing(engine: "Context") -> Message:
    """Return the message in the registers. Raises IpcError of the send phase when it is none that can be sent."""
    registers = engine.registers
    tag = MsgTag(registers.mr[0])
    engine.grants.clear()
    if not tag.t and tag.fits:
        return Message(tag.label, tuple(registers.mr[1 : tag.u + 1]))
    try:
        if not tag.fits:
            raise Overflow(f"{tag.u} untyped and {tag.t} typed words: a message has 63")
        typed = tuple(registers.mr[tag.u + 1 : tag.u + tag.t + 1])
        items = _carried(engine, list(decode(typed)))
    except Cut as cut:
        raise _error(cut, Phase.SEND) from cut
    except ValueError as error:
        raise IpcError(IpcCode.OVERFLOW, Phase.SEND, str(error)) from error
    within, _ = split_timeouts(registers.xfer_timeouts)
    xfer = int(within) if any(isinstance(item, bytes) for item in items) else Never
    return Message(tag.label, tuple(registers.mr[1 : tag.u + 1]), items, typed=typed, xfer=xfer)


def _carried(engine: "Context", items: list[Item]) -> tuple[Carried, ...]:
    """Return what is carried of *items*: the bytes of strings, the extents of fpages."""
    space = space_of(engine.environment)
    texts = [item for item in items if isinstance(item, StringItem)]
    within, _ = split_timeouts(engine.registers.xfer_timeouts)
    copies = iter(gather(space, texts, engine.paging.limit(sender=within)))
    carried: list[Carried] = []
    for item in items:
        if isinstance(item, StringItem):
            carried.append(next(copies))
        elif isinstance(item, MapItem | GrantItem):
            if grant := isinstance(item, GrantItem):
                engine.grants.append(item)
            carried.append(FpageItem(space.outgoing(item), grant=grant))
    extents = sum(len(each.extents) for each in carried if isinstance(each, FpageItem))
    if extents > MAX_OFFERS:
        raise Overflow(
            f"the message brings {extents} extents: at most {MAX_OFFERS} can be on offer at a time"
        )
    return tuple(carried)


def sent(engine: "Context") -> None:
    """The message was taken: what it granted is gone from here."""
    for item in engine.grants:
        space_of(engine.environment).granted(item)
    engine.grants.clear()


def failed(engine: "Context") -> None:
    """The message was not taken, or not all of it: what it granted before it was cut is gone from here."""
    for item in engine.grants:
        space_of(engine.environment).kept(item)
    engine.grants.clear()


def receive(engine: "Context", arrival: "Arrival") -> tuple[int, MsgTag]:
    """Take *arrival* into the registers, and tell its sender how that went; return the sender and the tag."""
    core, peer = engine.thread.core, arrival.peer
    try:
        tag = incoming(engine, arrival.packet, arrival.frames, peer.thread if peer is not None else 0)
    except IpcError as error:
        core.refuse(arrival, sender_word(error))
        raise
    core.taken(arrival)
    origin = core.origin(arrival)
    engine.thread.remember(origin)
    registers = engine.registers
    registers.virtual_actual_sender = origin.actual
    registers.intended_receiver = origin.intended
    flags = (PROPAGATED if origin.actual else 0) | (REDIRECTED if origin.intended else 0)
    return engine.local_id(arrival.sender), MsgTag(int(tag) | flags)


def answered(engine: "Context", packet: Packet, sender: int, tag: MsgTag) -> tuple[int, MsgTag]:
    """Return the sender of the answer *packet*, for which thread *sender* may have spoken, and its *tag*."""
    kip, virtual = engine.environment.kip, packet.virtual
    row = kip.thread(sender) if packet.flags & PacketFlags.PROPAGATED else None
    speaks = engine.thread.core.speaks_for
    if row is None or not speaks(row.environment, sender, virtual, engine.environment.number):
        return engine.local_id(sender), tag
    engine.registers.virtual_actual_sender = sender
    return engine.local_id(virtual), MsgTag(int(tag) | PROPAGATED)


def incoming(engine: "Context", packet: Packet, frames: list[bytes], sender: int) -> MsgTag:
    """Put *packet* of thread *sender* into the registers; return its tag.

    Raises IpcError of the receive phase where it was cut: what was taken before that stays.
    """
    registers = engine.registers
    untyped = len(packet.words) - packet.typed
    crossed = CROSSED if _crossed(engine, sender) else 0
    tag = MsgTag.of(packet.label, untyped, packet.typed, crossed)
    registers.mr[0 : len(packet.words) + 1] = (int(tag), *packet.words)
    if not packet.parts and not packet.typed:
        return tag
    try:
        _take_items(engine, packet, frames, sender)
    except Cut as cut:
        raise _error(cut, Phase.RECEIVE) from cut
    except ValueError as error:
        raise IpcError(IpcCode.OVERFLOW, Phase.RECEIVE, str(error)) from error
    return tag


def _take_items(engine: "Context", packet: Packet, frames: list[bytes], sender: int) -> None:
    if not packet.typed:
        raise Overflow("its items have no X.2 form: a native message with strings or capabilities")
    carried = _Carried(engine, packet, frames, sender)
    try:
        for item in decode(packet.words[len(packet.words) - packet.typed :]):
            carried.take(item)
    except Cut as cut:
        cut.offset += carried.copied
        raise
    except ValueError as error:
        raise Overflow(str(error), carried.copied) from error


class _Carried:
    """What came with the items of one message, taken item by item."""

    def __init__(self, engine: "Context", packet: Packet, frames: list[bytes], sender: int) -> None:
        self.copied = 0
        """Bytes of strings."""
        registers = engine.registers
        self._engine = engine
        self._sender = sender
        self._space = space_of(engine.environment)
        self._acceptor = Acceptor(registers.br[0])
        self._fpages = [part for part in packet.parts if isinstance(part, FpagePart)]
        self._strings = strings(packet, frames)
        self._buffers: Iterator[StringItem] | None = None
        _, within = split_timeouts(registers.xfer_timeouts)
        _, theirs = split_timeouts(packet.flags >> XFER_AT)
        self._limit = engine.paging.limit(sender=theirs, receiver=within)

    def take(self, item: Item) -> None:
        """Take *item*. Raises Cut, its offset counted from here; ValueError."""
        if isinstance(item, CtrlXferItem):
            if not self._acceptor.c:
                raise Overflow("no control registers are accepted")
            _load_frame(self._engine, item)
        elif isinstance(item, MapItem | GrantItem):
            self._take_fpage(item)
        else:
            self._take_string()

    def _take_fpage(self, item: MapItem | GrantItem) -> None:
        if not self._fpages:
            raise Overflow("a map item came without what it maps")
        sys = self._engine.environment.sys
        self._space.incoming(
            RcvWindow(self._acceptor),
            item,
            self._fpages.pop(0).extents,
            lambda offer, rights: sys.accept(self._sender, offer, rights),
            local=self._sender in self._engine.environment.threads,
        )

    def _take_string(self) -> None:
        if not self._strings:
            raise Overflow("a string item came without its string")
        if self._buffers is None:
            self._buffers = iter(buffers(self._engine.registers.br))
        buffer = next(self._buffers, None)
        if buffer is None:
            raise Overflow("no string is accepted, or no buffer is left")
        self.copied += scatter(self._space, [self._strings.pop(0)], [buffer], self._limit)


def _load_frame(engine: "Context", item: CtrlXferItem) -> None:
    """Take what *item* says of the registers a thread has here. Raises Overflow for any other."""
    values = item.registers
    if item.id or not values.keys() <= _FRAME.keys():
        raise Overflow(f"{item!r}: a thread here has instruction pointer, flags and stack pointer only")
    for register, value in values.items():
        setattr(engine, _FRAME[register], value)
    engine.jumps = engine.jumps or (engine.begins and _IP in values)


def _crossed(engine: "Context", sender: int) -> bool:
    """Say whether *sender* runs on another processor than this thread, as far as both are under a plan."""
    kip = engine.environment.kip
    row, own = kip.thread(sender), engine.environment.number
    if row is None or row.environment == own:
        return False
    theirs, ours = kip.environment(row.environment), kip.environment(own)
    return theirs is not None and ours is not None and -1 < theirs.cpu != ours.cpu > -1


def _error(cut: Cut, phase: Phase) -> IpcError:
    return IpcError(cut.code(phase), phase, str(cut), cut.offset)
