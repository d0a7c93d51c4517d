"""All errors of libexo, by cause.

- ExoError
    - TrapRefused: the kernel refused a trap; `refusal` is the number
    - GateClosed: the kernel is gone
    - IpcError: a message was not delivered; `code` and `phase` as X.2 has them
        - IpcTimeout: the partner did not take it, or answer, in time
        - NoPartner: the thread is gone, was restarted, or never existed
            - NoRedirector: the redirector that must see this environment's messages first is gone
    - NoThread: a thread of the host cannot have an IPC thread of its own
    - ForkedProcess: the calling process was forked from an environment, and is not one
    - BrokenRing: the other side of a ring breaks its rules
    - Impossible: what a predicate reads was taken
    - NotFound: no thread has that name
    - NoMemory: a heap gets no more memory
    - BadArgument: an argument does not fit its operation's declaration; nothing was sent
        - TrapArgument: the same of a trap
    - RemoteError: the server could not do it; `kind` names its exception
    - OperationRefused: raised by servers that decline; the caller gets it as a RemoteError

All of them pickle and copy, with their attributes.
"""

from typing import Any

from kernel.abi.errors import Refusal
from kernel.abi.messages import IpcCode, Phase


class ExoError(Exception):
    """The base of all."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy by the attributes: the arguments of the constructor are not kept."""
        return _remake, (type(self), self.args, dict(self.__dict__))


def _remake(kind: type[ExoError], args: tuple[Any, ...], held: dict[str, Any]) -> ExoError:
    """Return the pickled error of *kind*."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(held)
    return error


class TrapRefused(ExoError):
    """The kernel refused a trap; nothing was changed."""

    def __init__(self, trap: str, number: int, detail: str) -> None:
        """Make the error of refusal *number* of *trap*; unknown numbers are kept as they are."""
        known = number in tuple(Refusal)
        self.refusal: Refusal | int = Refusal(number) if known else number
        self.detail = detail
        meaning = self.refusal.text if isinstance(self.refusal, Refusal) else f"refusal {number}"
        super().__init__(f"{trap}: {meaning}" + (f" ({detail})" if detail else ""))


class GateClosed(ExoError):
    """The kernel is gone, or ended this environment."""


class Ended(BaseException):
    """The calling thread was deleted, and its environment goes on without it."""


class IpcError(ExoError):
    """An IPC failed."""

    def __init__(self, code: IpcCode, phase: Phase, text: str, offset: int = 0) -> None:
        """Make the error of X.2 *code* in *phase*; *offset*: bytes of strings that were transferred."""
        super().__init__(text)
        self.code = code
        self.phase = phase
        self.offset = offset

    @property
    def word(self) -> int:
        """The X.2 error word: phase in bit 0, code in bits 3..1, offset above."""
        return error_word(self.code, self.phase, self.offset)


def error_word(code: IpcCode, phase: Phase, offset: int = 0) -> int:
    """Return the X.2 error word: phase in bit 0, code in bits 3..1, offset in bytes above."""
    return offset << 4 | code << 1 | phase


def transfer_error(word: int, phase: Phase, text: str) -> IpcError:
    """Return the error that a partner reports by *word*: of any code, it happened during the transfer."""
    code = word >> 1 & 7
    known = IpcCode(code) if code in _TRANSFER_CODES else IpcCode.OVERFLOW
    return IpcError(known, phase, text, word >> 4)


_TRANSFER_CODES = (
    IpcCode.OVERFLOW,
    IpcCode.XFER_TIMEOUT_HERE,
    IpcCode.XFER_TIMEOUT_THERE,
    IpcCode.ABORTED,
)


class IpcTimeout(IpcError):
    """The partner did not take the message (send phase), or nothing came (receive phase), in time."""

    def __init__(self, phase: Phase, text: str) -> None:
        """Make the time-out of *phase*."""
        super().__init__(IpcCode.TIMEOUT, phase, text)


class NoPartner(IpcError):
    """The partner is gone, or its id is of an earlier incarnation."""

    def __init__(self, phase: Phase, text: str, status: int | None = None, fault: int = 0) -> None:
        """Make the error of *phase*; *status* and *fault*: how the partner's environment ended, if it did."""
        super().__init__(IpcCode.NO_PARTNER, phase, text)
        self.status = status
        """Exit status as `os.waitstatus_to_exitcode` counts (negative: a signal); None: unknown, or it lives."""
        self.fault = fault
        """The `Fault` it ended with, or 0."""


class NoRedirector(NoPartner):
    """The messages of this environment wait for another redirector: the one it had is gone."""


class NoThread(ExoError):
    """A thread of the host cannot have an IPC thread of its own."""


class ForkedProcess(ExoError):
    """The calling process was forked from an environment, and is not one."""


class BrokenRing(ExoError):
    """The other side of a ring breaks its rules: the ring must not be used any more."""


class Impossible(ExoError):
    """All that a predicate reads was taken from the program, so it will not come true."""


class BadArgument(ExoError, ValueError):
    """An argument does not fit its operation's declaration; nothing was sent."""


class TrapArgument(BadArgument):
    """An argument does not fit its trap: the kernel would have ended the caller for it, so nothing was sent."""


class MemoryTaken(ExoError):
    """The owner of memory took it back while it was used: what was read may have been zeros."""


class NoMemory(ExoError):
    """A heap gets no more memory: free some of it, or ask for smaller blocks."""


class BrokenStream(ExoError):
    """The other side of a connection breaks its rules: it must not be used any more."""


class NotFound(ExoError, LookupError):
    """No thread has that name."""


class OperationRefused(ExoError):
    """A server declines: its caller is told, and the server's log is not."""


class RemoteError(ExoError):
    """The server raised; its exception is named by `kind`."""

    def __init__(self, kind: str, text: str, traceback: str = "") -> None:
        """Make the error a server sent: the name of its exception, its text, and its traceback there, if any."""
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind
        self.text = text
        self.traceback = traceback
        if traceback:
            self.add_note(f"The server raised it here:\n{traceback.rstrip()}")


class TooSlow(BaseException):
    """Code of somebody else computes too long here. No `except Exception` of its own catches this."""
