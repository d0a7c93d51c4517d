"""The three kinds of error, as exceptions: a refusal goes back to the caller, a fault ends it, a panic ends us."""

from kernel.abi.errors import Fault, Refusal


class Refused(Exception):
    """The trap is not done; the caller gets the number and goes on."""

    def __init__(self, refusal: Refusal, detail: str = "") -> None:
        """Refuse with *refusal*; *detail* gives the value that was wrong."""
        super().__init__(refusal, detail)
        self.refusal = refusal
        self.detail = detail


class Faulted(Exception):
    """The caller broke the contract and is ended; a record is kept."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        """Fault with *fault*; *detail* goes into the record."""
        super().__init__(fault, detail)
        self.fault = fault
        self.detail = detail


class Panic(Exception):
    """Our own invariant is broken. Never sent to a caller: the system stops."""
