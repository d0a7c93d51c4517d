"""What a capability can be to, and what it hears about its holders."""

from typing import TYPE_CHECKING, Protocol

from kernel.abi.rights import Kind

if TYPE_CHECKING:
    from kernel.capability import Capability
    from kernel.environment import Environment
    from kernel.kernel import Kernel


class Thing(Protocol):
    """What a capability can be to."""

    kind: Kind

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return first, count, status, fault, text of `traps.Inspection`."""

    def gained(self, capability: "Capability") -> None:
        """*capability* to this thing is now somebody's."""

    def inherited(self, kernel: "Kernel", dead: "Environment", heir: "Environment") -> None:
        """What *dead* held of this thing is now held by its successor."""

    def lost(self, kernel: "Kernel", capability: "Capability") -> None:
        """*capability* to this thing is no more."""


class Lasting:
    """A thing that does not care who holds it."""

    kind: Kind

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return nothing of note."""
        return 0, 0, 0, 0, ""

    def gained(self, capability: "Capability") -> None:
        """Nothing to do."""

    def inherited(self, kernel: "Kernel", dead: "Environment", heir: "Environment") -> None:
        """Nothing to do."""

    def lost(self, kernel: "Kernel", capability: "Capability") -> None:
        """Nothing to do."""
