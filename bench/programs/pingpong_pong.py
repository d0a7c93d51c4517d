"""Pong: sends every message back to its sender as it came, and waits for the next."""

import threading
from collections.abc import Callable

import libexo
from libexo import l4

Replying = Callable[[int], tuple[int, l4.MsgTag]]
_NEVER = l4.Timeouts(l4.Never, l4.Never)


def lreply_wait(to: int) -> tuple[int, l4.MsgTag]:
    """Send to *to*, then receive from any thread of this environment, by Lipc.

    Without a time-out, unlike LreplyWait: an answer must not be lost because the caller is only about to wait.
    """
    return l4.Lipc(to, l4.anylocalthread, _NEVER)


LOOPS: tuple[Replying, ...] = (l4.ReplyWait, lreply_wait)
"""What sends back and waits: a thread that begins at `second` is told which by its stack pointer."""


def serve(reply_wait: Replying) -> None:
    """Do so for ever; what came is in the message registers already."""
    sender, _ = l4.Wait()
    while True:
        sender, _ = reply_wait(sender)


def second(loop: int) -> None:
    """Be the second thread of an environment. To the first message it answers what the host calls this thread."""
    sender, _ = l4.Wait()
    l4.LoadMR(0, l4.MsgTag.of(u=1))
    l4.LoadMR(1, threading.get_native_id())
    l4.Reply(sender)
    serve(LOOPS[loop])


if __name__ == "__main__":
    libexo.attach()
    serve(l4.ReplyWait)
