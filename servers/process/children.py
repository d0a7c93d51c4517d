"""The programs the process server answers for, as it writes them down."""

import msgspec

from servers.process.api import Exit, ProgramSpec


class Child(msgspec.Struct, array_like=True):
    """A program this server answers for."""

    spec: ProgramSpec
    thread: int
    handle: int
    spawner: int
    """Thread that started it; 0: an operator, or the boot loader."""
    started: int = 0
    short_runs: int = 0
    family: int = 0
    """Thread of the first of its family, which divides one part of the processor; 0: a server of the topology."""
    part: int = 1
    """The family's part of the processor, in shares."""
    restarts: int = 0
    parent: int = 0
    """Thread of its nearest ancestor that has not ended for good; 0: there is none."""
    first: str = ""
    """The name of the first of its family."""
    ending: bool = False
    """It is being ended with its family: it may start nothing."""
    over: bool = False
    """It has ended, as the kernel told, and is kept only to be restarted."""
    told: int = 0
    """The last signal that ends programs, sent to this incarnation on request; 0: none."""

    def successor(self, to: "Child") -> None:
        """Take over from *to*, our predecessor, its history and its family."""
        self.short_runs, self.restarts = to.short_runs, to.restarts + 1
        self.family, self.part, self.first, self.parent = to.family, to.part, to.first, to.parent


class State(msgspec.Struct, array_like=True):
    """The part of the server's state that outlives it, in its estate."""

    children: list[Child]
    exits: dict[int, Exit]


def essence(child: Child) -> Child:
    """Return the part of *child* that must be remembered."""
    if child.spec.restart != "never":
        return child
    spec = msgspec.structs.replace(child.spec, argv=(), environ=())
    return msgspec.structs.replace(child, spec=spec)
