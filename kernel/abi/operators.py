"""Who may command the system: by uid and, where that says nothing, by a secret.

A uid that programs may have too proves nothing: in a system that has no uids to give away every program is the
user who booted it. Who comes with that uid shows the operators' secret, which stands in the run directory in a
file of mode 0600 that no confined program can open.
"""

from kernel.abi.gate import Record

OPERATOR_FILE = "operator"
"""The file of the secret, in the run directory."""
SECRET_BYTES = 32
NO_UID = -1


class Operators(Record):
    """Who may command the system."""

    uids: tuple[int, ...]
    common: int
    """The one uid that programs may have too, `NO_UID`: there is none."""
    secret: bytes

    def __repr__(self) -> str:
        """Show all but the secret: this may come into a log."""
        return f"Operators(uids={self.uids}, common={self.common})"

    def knows(self, uid: int, shown: bytes) -> bool:
        """Whether *uid*, with the secret that was *shown*, says who somebody is."""
        if uid != self.common:
            return True
        from hmac import compare_digest  # noqa: PLC0415 - 4 ms, for the one system that needs it

        return compare_digest(shown, self.secret)

    def admits(self, uid: int, shown: bytes) -> bool:
        """Whether somebody of *uid*, who has *shown* this secret (or nothing), is an operator."""
        return uid in self.uids and self.knows(uid, shown)
