"""Everything libexo raises, by what went wrong.

- ExoError
    - TrapRefused: the kernel refused a trap; `refusal` is the number
    - GateClosed: the kernel is gone
    - IpcError: a message did not make it; `code` and `phase` as X.2 has them
        - IpcTimeout: nobody took it, or answered, in time
        - NoPartner: the thread is gone, was restarted, or never was
    - NotFound: no thread has that name
    - RemoteError: the server could not do it; `kind` says what it raised
"""

from kernel.abi.errors import Refusal
from kernel.abi.messages import IpcCode, Phase


class ExoError(Exception):
    """The base of all."""


class TrapRefused(ExoError):
    """The kernel refused a trap; nothing was changed."""

    def __init__(self, trap: str, number: int, detail: str) -> None:
        """Make the error of refusal *number* of *trap*; unknown numbers keep their number."""
        known = number in tuple(Refusal)
        self.refusal: Refusal | int = Refusal(number) if known else number
        self.detail = detail
        meaning = self.refusal.text if isinstance(self.refusal, Refusal) else f"refusal {number}"
        super().__init__(f"{trap}: {meaning}" + (f" ({detail})" if detail else ""))


class GateClosed(ExoError):
    """The kernel is gone, or ended this environment."""


class IpcError(ExoError):
    """An IPC failed."""

    def __init__(self, code: IpcCode, phase: Phase, text: str) -> None:
        """Make the error of X.2 *code* in *phase*."""
        super().__init__(text)
        self.code = code
        self.phase = phase

    @property
    def word(self) -> int:
        """The X.2 error word: phase in bit 0, code in bits 3..1."""
        return self.code << 1 | self.phase


class IpcTimeout(IpcError):
    """Nobody took the message (send phase), or nothing came (receive phase), in time."""

    def __init__(self, phase: Phase, text: str) -> None:
        """Make the time-out of *phase*."""
        super().__init__(IpcCode.TIMEOUT, phase, text)


class NoPartner(IpcError):
    """The partner is gone, or its id is of an earlier incarnation."""

    def __init__(self, phase: Phase, text: str) -> None:
        """Make the error of *phase*."""
        super().__init__(IpcCode.NO_PARTNER, phase, text)


class NotFound(ExoError, LookupError):
    """No thread has that name."""


class RemoteError(ExoError):
    """The server raised; its exception is named by `kind`."""

    def __init__(self, kind: str, text: str) -> None:
        """Make the error a server sent: the name of its exception and its text."""
        super().__init__(f"{kind}: {text}" if text else kind)
        self.kind = kind
        self.text = text
