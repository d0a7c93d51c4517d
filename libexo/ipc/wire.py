"""Packets as they travel: plain numbers for their kinds and flags, and how they are encoded.

msgspec writes plain numbers faster than members of an enum, and Python compares them faster.
"""

import msgspec

from kernel.abi.gate import UNDECODABLE
from kernel.abi.messages import Packet, PacketFlags, PacketKind

SEND, CALL, REPLY, TAKEN, REFUSED, TURN, TURNED, RING, TELL = (int(kind) for kind in PacketKind)
TIMED, TELLS, PROPAGATED = (int(flag) for flag in PacketFlags)
ENCODE = msgspec.msgpack.Encoder().encode
DECODE = msgspec.msgpack.Decoder(Packet).decode
MALFORMED = (*UNDECODABLE, IndexError, ValueError)
"""What reading a packet raises: also where a message has no frame."""
ENDS = {CALL: REPLY, SEND: TAKEN, REPLY: TAKEN, TURN: TURNED, RING: TAKEN}
"""What ends a message, by its kind. REFUSED ends each of them, but a TURN, otherwise than well."""
