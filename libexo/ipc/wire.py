"""Packets as they travel: plain numbers for their kinds and flags, and how they are encoded.

msgspec writes plain numbers faster than members of an enum, and Python compares them faster.
"""

from collections.abc import Sequence

import msgspec

from kernel.abi.gate import UNDECODABLE
from kernel.abi.messages import Packet, PacketFlags, PacketKind, ShortPart
from libexo.transport.ring.layout import WORDS, short
from libexo.transport.ring.line import Short

SEND, CALL, REPLY, TAKEN, REFUSED, TURN, TURNED, RING, TELL = (int(kind) for kind in PacketKind)
TIMED, TELLS, PROPAGATED = (int(flag) for flag in PacketFlags)
ENCODE = msgspec.msgpack.Encoder().encode
DECODE = msgspec.msgpack.Decoder(Packet).decode
MALFORMED = (*UNDECODABLE, IndexError, ValueError)
"""What reading a packet raises: also where a message has no frame."""
ENDS = {CALL: REPLY, SEND: TAKEN, REPLY: TAKEN, TURN: TURNED, RING: TAKEN}
"""What ends a message, by its kind. REFUSED ends each of them, but a TURN, otherwise than well."""
_PLAIN = short(0, 0)


def read_plain(frames: Sequence[bytes]) -> Short | None:
    """Return of a plain message what `Line.get` would; None: it is another."""
    try:
        packet = DECODE(frames[0])
        (word,), (part,) = packet.words, packet.parts
    except MALFORMED:
        return None
    if (
        packet.flags
        or packet.typed
        or packet.intended
        or word >= WORDS
        or len(frames) > 1
        or type(part) is not ShortPart
    ):
        return None
    return _PLAIN | packet.kind << 48 | word << 16, packet.sequence, packet.label, part.string
