"""A function in a forked child: for actions that cannot be undone, such as applying a layer."""

import os
import signal
from collections.abc import Callable


class ChildError(Exception):
    """The function raised, or its process was killed."""


def in_child(work: Callable[[], str]) -> str:
    """Return what *work* returns in a child of its own; raises ChildError with its error's text.

    The child leaves by _exit: nothing of the parent's is flushed, closed or torn down twice.
    """
    receiving, sending = os.pipe()
    pid = os.fork()
    if pid == 0:
        _report(work, sending)
    os.close(sending)
    with os.fdopen(receiving, "rb") as stream:
        text = stream.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code < 0:
        raise ChildError(f"killed by {signal.Signals(-code).name}")
    if code > 0:
        raise ChildError(text)
    return text


def _report(work: Callable[[], str], sending: int) -> None:
    """Run *work*, write its result or error to the pipe, and end the process."""
    code = 1
    try:
        text = work()
        code = 0
    except BaseException as error:  # noqa: BLE001  the parent is told of any error
        text = str(error) or type(error).__name__
    try:
        os.write(sending, text.encode())
    finally:
        os._exit(code)
