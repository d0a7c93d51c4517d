"""Messages on the way: packets, in which strings travel, and capabilities are offered and accepted.

A capability stays in its owner's table until the receiver takes it: what the packet names is an offer. So a
message that is withdrawn or refused gives nothing away, and nobody fills another's table unasked.

Kinds and flags are plain numbers here: msgspec writes them faster than members of an enum, and Python compares them
faster.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import msgspec

from kernel.abi.errors import Refusal
from kernel.abi.gate import UNDECODABLE
from kernel.abi.ids import show_thread
from kernel.abi.limits import MAX_BATCH, SHORT_STRING
from kernel.abi.messages import (
    XFER_AT,
    FpagePart,
    GrantPart,
    IpcCode,
    MapPart,
    Packet,
    PacketFlags,
    PacketKind,
    Part,
    Phase,
    ShortPart,
    StringPart,
)
from kernel.abi.rights import ALL_RIGHTS
from kernel.abi.traps import Drop
from libexo.errors import IpcError, NoPartner, TrapRefused, error_word, transfer_error
from libexo.ipc.message import FpageItem, GrantItem, Item, MapItem, Message, Origin
from libexo.transport.ring.duplex import Short
from libexo.transport.ring.layout import WORDS, short

if TYPE_CHECKING:
    from libexo.sys import Sys

SEND, CALL, REPLY, TAKEN, REFUSED, TURN, TURNED, RING, TELL = (int(kind) for kind in PacketKind)
TIMED, TELLS, PROPAGATED = (int(flag) for flag in PacketFlags)
ENCODE = msgspec.msgpack.Encoder().encode
DECODE = msgspec.msgpack.Decoder(Packet).decode
MALFORMED = (*UNDECODABLE, IndexError, ValueError)
"""Raised when a packet is read; IndexError: a message without a frame."""
ENDS = {CALL: REPLY, SEND: TAKEN, REPLY: TAKEN, TURN: TURNED, RING: TAKEN}
"""The packet that ends a message well, by its kind. REFUSED ends each of them, except a TURN, with an error."""
NO_ROOM, GONE_ON = (error_word(code, Phase.SEND) for code in (IpcCode.OVERFLOW, IpcCode.ABORTED))
"""Reasons for a refusal: the message does not fit; its sender waits no longer."""
WITHDRAWABLE = 1 << 64
"""In the mark of a plain message that was read: it is TIMED. It is written as a packet, never by `Duplex.put`."""
_PLAIN = short(0, 0)
NOBODY = (Refusal.NO_SUCH_THREAD, Refusal.STALE_THREAD)
_HANDLES = 1 << 32
"""Every handle is below this."""


def outgoing(
    sys: "Sys",
    message: Message,
    kind: int,
    sequence: int,
    to: int,
    flags: int = 0,
    virtual: int = 0,
    intended: int = 0,
) -> tuple[Sequence[bytes], tuple[int, ...]]:
    """Return the frames that *message* becomes as number *sequence* of *kind* to thread *to*, and the offers made.

    *virtual*: the thread it is sent for; *intended*: the one it is meant for, where *to* is a redirector. Raises
    TrapRefused, NoPartner; then nothing is offered.
    """
    parts, strings, given = pack(sys, message.items, to)
    words, typed = message.words, message.typed
    packet = Packet(
        kind,
        sequence,
        message.label,
        words + typed if typed else words,
        parts,
        flags | (PROPAGATED if virtual else 0) | message.xfer << XFER_AT,
        len(typed),
        virtual,
        intended,
    )
    encoded = ENCODE(packet)
    return (encoded, *strings) if strings else (encoded,), given


def note(kind: int, sequence: int, *words: int) -> tuple[bytes]:
    """Return the frames of a packet that reports on a message."""
    return (ENCODE(Packet(kind, sequence, 0, words)),)


def pack(
    sys: "Sys", items: Sequence[Item], to: int
) -> tuple[tuple[Part, ...], Sequence[bytes], tuple[int, ...]]:
    """Return what *items* become for thread *to*: parts, strings in frames of their own, the offers made."""
    if not items:
        return (), (), ()
    if len(items) == 1 and type(items[0]) is bytes and len(items[0]) <= SHORT_STRING:
        return (ShortPart(items[0]),), (), ()  # what stubs send, nearly always
    parts: list[Part] = []
    strings: list[bytes] = []
    given: list[int] = []
    try:
        for item in items:
            if isinstance(item, MapItem | GrantItem):
                given.append(sys.transfer(item.handle, to, item.rights, grant=isinstance(item, GrantItem)))
                parts.append((GrantPart if isinstance(item, GrantItem) else MapPart)(given[-1]))
            elif isinstance(item, FpageItem):
                parts.append(_offer_extents(sys, item, to, given))
            elif len(item) <= SHORT_STRING:
                parts.append(ShortPart(bytes(item)))
            else:
                parts.append(StringPart(len(item)))
                strings.append(item)
    except TrapRefused as refused:
        take_back(sys, given)
        if refused.refusal in NOBODY:
            raise NoPartner(Phase.SEND, f"thread {show_thread(to)}: {refused}") from refused
        raise
    return tuple(parts), strings, tuple(given)


def _offer_extents(sys: "Sys", item: FpageItem, to: int, given: list[int]) -> FpagePart:
    offered = []
    for offset, size, handle, rights in item.extents:
        given.append(sys.transfer(handle, to, rights, grant=item.grant))
        offered.append((offset, size, given[-1]))
    return FpagePart(tuple(offered))


def take_back(sys: "Sys", given: Sequence[int]) -> None:
    """Offer no longer what was *given*, but for what was accepted, or went with what it was of."""
    for first in range(0, len(given), MAX_BATCH):
        sys.batch([Drop(offer) for offer in given[first : first + MAX_BATCH]])


def plain(packet: Packet, frames: Sequence[bytes]) -> tuple[Item, ...] | None:
    """Return the items of *packet* if it has none, or one short string: what stubs send, nearly always.

    None: it has others, or typed words; `check` and `unpack` are for those.
    """
    parts = packet.parts
    if packet.typed or len(frames) != 1 or len(parts) > 1:
        return None
    if not parts:
        return ()
    part = parts[0]
    return (part.string,) if type(part) is ShortPart else None


def refused(packet: Packet, thread: int) -> IpcError:
    """Return the error of a message that *thread* refused with *packet*."""
    text = f"thread {show_thread(thread)} could not take the whole message"
    return transfer_error(packet.words[0] if packet.words else 0, Phase.SEND, text)


def read_plain(frames: Sequence[bytes]) -> Short | None:
    """Return of a plain message (`libexo.ipc.plain`) what `Duplex.get` would; None: it is another."""
    try:
        packet = DECODE(frames[0])
        (word,), (part,) = packet.words, packet.parts
    except MALFORMED:
        return None
    flags = packet.flags
    if (
        (flags and flags != TIMED)
        or packet.typed
        or packet.kind >> 16
        or packet.intended
        or word >= WORDS
        or len(frames) > 1
        or type(part) is not ShortPart
    ):
        return None
    mark = _PLAIN | packet.kind << 48 | word << 16
    return mark | WITHDRAWABLE if flags else mark, packet.sequence, packet.label, part.string


def check(packet: Packet) -> None:
    """Raise ValueError when *packet* contradicts itself, or names what can be no offer.

    To ask the kernel for such an offer would be a malformed trap, and our end.
    """
    if not 0 <= packet.typed <= len(packet.words):
        raise ValueError(f"{packet.typed} of {len(packet.words)} words are typed")
    for part in packet.parts:
        if isinstance(part, FpagePart):
            highest = max((offer for _, _, offer in part.extents), default=0)
        else:
            highest = part.offer if isinstance(part, MapPart | GrantPart) else 0
        if highest >= _HANDLES:
            raise ValueError(f"{highest:#x} is no handle")


def strings(packet: Packet, frames: Sequence[bytes]) -> list[bytes]:
    """Return the strings of *packet*, in order. Raises ValueError when one is not what its part says."""
    return [each for each in _walk(packet, frames) if isinstance(each, bytes)]


def unpack(
    sys: "Sys", packet: Packet, frames: Sequence[bytes], sender: int, accepts: int
) -> tuple[Item, ...]:
    """Return the items of *packet*, taking what thread *sender* offers. Raises ValueError, TrapRefused.

    *accepts* is how many capabilities it may bring. Where one item cannot be taken, none is kept: nobody would
    know of what had come.
    """
    found = list(_walk(packet, frames))  # before anything is accepted
    brings = sum(
        len(p.extents) if isinstance(p, FpagePart) else isinstance(p, MapPart | GrantPart) for p in found
    )
    if brings > accepts:
        raise ValueError(f"{brings} capabilities came where {accepts} are wanted")
    taken: list[int] = []
    try:
        return tuple(each if isinstance(each, bytes) else _accept(sys, each, sender, taken) for each in found)
    except TrapRefused:
        take_back(sys, taken)
        raise


def incoming(packet: Packet, items: tuple[Item, ...], origin: Origin | None = None) -> Message:
    """Return the message that *packet* is, with these *items*."""
    words, typed = packet.words, packet.typed
    if not typed:
        return Message(packet.label, words, items, origin)
    untyped = len(words) - typed
    return Message(packet.label, words[:untyped], items, origin, words[untyped:])


def handles(items: Iterable[Item]) -> list[int]:
    """Return the handles of the capabilities among *items*."""
    found: list[int] = []
    for item in items:
        if isinstance(item, FpageItem):
            found += (handle for _, _, handle, _ in item.extents)
        elif isinstance(item, MapItem | GrantItem):
            found.append(item.handle)
    return found


def _walk(packet: Packet, frames: Sequence[bytes]) -> Iterator[bytes | Part]:
    rest = iter(frames[1:])
    for part in packet.parts:
        if isinstance(part, ShortPart):
            yield part.string
        elif isinstance(part, StringPart):
            string = next(rest, None)
            if string is None or len(string) != part.size:
                raise ValueError("a string was cut")
            yield string
        else:
            yield part
    if next(rest, None) is not None:
        raise ValueError("a frame that no part speaks of")


def _accept(sys: "Sys", part: Part, sender: int, taken: list[int]) -> Item:
    """Take what *part* offers; the handles go into *taken*. Raises TrapRefused."""

    def accept(offer: int) -> tuple[int, int]:
        accepted = sys.accept(sender, offer, ALL_RIGHTS)
        taken.append(accepted.handle)
        return accepted.handle, accepted.rights

    if isinstance(part, FpagePart):
        return FpageItem(tuple((offset, size, *accept(offer)) for offset, size, offer in part.extents))
    assert isinstance(part, MapPart | GrantPart)
    return (GrantItem if isinstance(part, GrantPart) else MapItem)(*accept(part.offer))
