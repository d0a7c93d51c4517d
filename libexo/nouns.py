"""Types of operations' arguments, with their ranges: the words of interfaces.

A range is in the annotation, so that stubs check it before they send, servers as they decode, and the reference
page shows it. An argument that has passed it fits the trap made of it.
"""

from typing import Annotated

from msgspec import Meta

from kernel.abi import trap
from kernel.abi.limits import MAX_NAME, MAX_SLICE_US

LAST_SIGNAL = 64
MAX_SHARE = 1000
"""Parts of a processor that one environment may have, while every other has one."""

ThreadId = Annotated[int, Meta(ge=0, description="a thread id (number and version)")]
Pages = Annotated[int, Meta(ge=1, lt=1 << 40, description="how many frames")]
Frames = Annotated[int, Meta(ge=0, lt=1 << 40, description="how many frames, or none")]
LONGEST_PRESS = 60
"""Seconds a program may be given to give memory back."""
Grace = Annotated[float, Meta(ge=0, le=LONGEST_PRESS, description="seconds until it is taken")]
Microseconds = Annotated[int, Meta(ge=0, le=MAX_SLICE_US, description="microseconds, up to ten seconds")]
FrameNumber = Annotated[trap.Frame, Meta(description="the number of a frame, or -1: any")]
Signal = Annotated[int, Meta(ge=1, le=LAST_SIGNAL, description="a signal of the host")]
Share = Annotated[int, Meta(ge=1, le=MAX_SHARE, description="parts of a processor")]
_PRINTABLE = r"[^\x00-\x1f\x7f-\xa0\u2028\u2029]"
_INK = r"[^\s\x00-\x1f\x7f-\xa0\u2028\u2029]"
Name = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_NAME,
        pattern=rf"\A{_INK}(?:{_PRINTABLE}*{_INK})?\Z",
        description=f"a name: 1 to {MAX_NAME} printable bytes, no blank first or last",
    ),
]
