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
    """That part, in shares."""
    restarts: int = 0
    parent: int = 0
    """Thread of the program it came of, the nearest that has not ended for good; 0: there is none."""
    first: str = ""
    """What the first of its family is called, or was."""
    ending: bool = False
    """It is being ended with its family: it may start nobody."""
    over: bool = False
    """It has ended, as we heard, and is there to be restarted only."""
    told: int = 0
    """The last signal this incarnation was sent on request, by which programs end; 0: none."""

    def successor(self, to: "Child") -> None:
        """Go on where *to*, our predecessor, was: what is known of how it fared, and whose it is."""
        self.short_runs, self.restarts = to.short_runs, to.restarts + 1
        self.family, self.part, self.first, self.parent = to.family, to.part, to.first, to.parent


class State(msgspec.Struct, array_like=True):
    """What outlives this server, in its estate."""

    children: list[Child]
    exits: dict[int, Exit]


def essence(child: Child) -> Child:
    """Return what must be remembered of *child*."""
    if child.spec.restart != "never":
        return child
    spec = msgspec.structs.replace(child.spec, argv=(), environ=())
    return msgspec.structs.replace(child, spec=spec)
