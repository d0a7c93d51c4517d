"""Operators: the uids and the secret that let their bearers command the system.

A uid that programs may have too proves nothing: a system that has no uids to give away runs every program as the
user who booted it. An operator with that uid shows the operators' secret, which is in a file of the run directory,
of mode 0600, that no confined program can open.
"""

from kernel.abi.gate import Record

OPERATOR_FILE = "operator"
"""The file of the secret, in the run directory."""
SECRET_BYTES = 32
NO_UID = -1


class Operators(Record):
    """The operators of a system."""

    uids: tuple[int, ...]
    common: int
    """The operators' uid that programs may have too; `NO_UID`: there is none."""
    secret: bytes

    def __repr__(self) -> str:
        """Show all but the secret, as this may be logged."""
        return f"Operators(uids={self.uids}, common={self.common})"

    def knows(self, uid: int, shown: bytes) -> bool:
        """Whether *uid*, with the secret that was *shown*, proves who its bearer is."""
        if uid != self.common:
            return True
        from hmac import compare_digest  # noqa: PLC0415 - 4 ms, for the one system that needs it

        return compare_digest(shown, self.secret)

    def admits(self, uid: int, shown: bytes) -> bool:
        """Whether *uid*, with the secret that was *shown* (or none), is an operator's."""
        return uid in self.uids and self.knows(uid, shown)
