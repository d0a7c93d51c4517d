"""Ipc and Lipc, and every call that is one of them with some parameters fixed (X.2, 5.6 and the table of 5.7).

The message is in the calling thread's registers. A result that a C program gets through a pointer comes first:
``sender, tag = l4.Wait()``.
"""

from libexo.l4.engine.lipc import lipc
from libexo.l4.engine.start import engine
from libexo.l4.format.tag import MsgTag
from libexo.l4.format.threadids import anylocalthread, anythread, nilthread
from libexo.l4.format.times import Never, Timeouts, ZeroTime

__all__ = [
    "Call",
    "Call_Timeouts",
    "Ipc",
    "Lcall",
    "Lipc",
    "LreplyWait",
    "Receive",
    "Receive_Timeout",
    "Reply",
    "ReplyWait",
    "ReplyWait_Timeout",
    "Send",
    "Send_Timeout",
    "Sleep",
    "Wait",
    "Wait_Timeout",
]

_NEVER = Timeouts(Never, Never)
_REPLY = Timeouts(ZeroTime, Never)


def Ipc(to: int, FromSpecifier: int, Timeouts: int) -> tuple[int, MsgTag]:
    """Send to *to*, then receive from *FromSpecifier*, either of which may be nilthread.

    Returns the sender (nilthread on an error) and the tag, whose E bit means that ErrorCode holds the reason.
    """
    return engine().ipc(to, FromSpecifier, Timeouts)


def Lipc(to: int, FromSpecifier: int, Timeouts: int) -> tuple[int, MsgTag]:
    """Do Ipc with a thread of one's own environment: from hand to hand if the partner waits already."""
    return lipc(engine(), to, FromSpecifier, Timeouts)


def Call(to: int) -> MsgTag:
    """Send to *to* and receive its answer."""
    return engine().ipc(to, to, _NEVER)[1]


def Call_Timeouts(to: int, SndTimeout: int, RcvTimeout: int) -> MsgTag:
    """Do the same, within these times."""
    return engine().ipc(to, to, Timeouts(SndTimeout, RcvTimeout))[1]


def Send(to: int) -> MsgTag:
    """Send to *to*."""
    return engine().ipc(to, nilthread, _NEVER)[1]


def Send_Timeout(to: int, SndTimeout: int) -> MsgTag:
    """Do the same, within this time."""
    return engine().ipc(to, nilthread, Timeouts(SndTimeout, Never))[1]


def Reply(to: int) -> MsgTag:
    """Send to *to*, if it is ready to receive."""
    return engine().ipc(to, nilthread, _REPLY)[1]


def Receive(from_: int) -> MsgTag:
    """Receive from *from_*."""
    return engine().ipc(nilthread, from_, _NEVER)[1]


def Receive_Timeout(from_: int, RcvTimeout: int) -> MsgTag:
    """Do the same, within this time."""
    return engine().ipc(nilthread, from_, Timeouts(Never, RcvTimeout))[1]


def Wait() -> tuple[int, MsgTag]:
    """Receive from any thread; return its id and the tag."""
    return engine().ipc(nilthread, anythread, _NEVER)


def Wait_Timeout(RcvTimeout: int) -> tuple[int, MsgTag]:
    """Do the same, within this time."""
    return engine().ipc(nilthread, anythread, Timeouts(Never, RcvTimeout))


def ReplyWait(to: int) -> tuple[int, MsgTag]:
    """Send to *to*, if it is ready to receive, then receive from any thread; return its id and the tag."""
    return engine().ipc(to, anythread, _REPLY)


def ReplyWait_Timeout(to: int, RcvTimeout: int) -> tuple[int, MsgTag]:
    """Do the same; receive within this time."""
    return engine().ipc(to, anythread, Timeouts(ZeroTime, RcvTimeout))


def Sleep(time: int) -> None:
    """Sleep for *time*: wait for oneself, which sends nothing."""
    own = engine()
    own.ipc(nilthread, own.thread.id, Timeouts(Never, time))


def Lcall(to: int) -> MsgTag:
    """Send to *to*, a thread of one's own environment, and receive its answer."""
    return lipc(engine(), to, to, _NEVER)[1]


def LreplyWait(to: int) -> tuple[int, MsgTag]:
    """Send to *to*, if it is ready, then receive from any thread of one's own environment."""
    return lipc(engine(), to, anylocalthread, _REPLY)
