"""What a capability can be to, and what it hears about its holders."""

from typing import TYPE_CHECKING

from kernel.abi.rights import Kind

if TYPE_CHECKING:
    from kernel.capability import Capability, Table
    from kernel.environment import Environment
    from kernel.jobs import Steps
    from kernel.kernel import Kernel


class Resource:
    """What a capability can be to. One that does not say otherwise does not care who holds it."""

    kind: Kind

    def describe(self) -> tuple[int, int, int, int, str]:
        """Return first, count, status, fault, text of `traps.Inspection`."""
        return 0, 0, 0, 0, ""

    def gained(self, capability: "Capability") -> None:
        """*capability* to it is now somebody's."""

    def moved(self, kernel: "Kernel", capability: "Capability", giver: "Table") -> None:
        """*capability*, that was in the table of *giver*, is in another one."""

    def inherited(self, kernel: "Kernel", heir: "Environment") -> None:
        """What *heir* holds of it was its predecessor's."""

    def lost(self, kernel: "Kernel", capability: "Capability") -> "Steps[None] | None":
        """*capability* to it is no more; return what is to be done about that."""
        return None
