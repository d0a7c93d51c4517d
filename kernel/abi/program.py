"""The program of an environment, and the descriptors it starts with."""

from enum import IntEnum

from kernel.abi.gate import Record, Small


class Role(IntEnum):
    """The purpose of a descriptor that comes with `EnvironmentCreate`."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    DIRECTORY = 3
    """Working directory."""
    SOURCE = 4
    """The program text of a Python program."""
    IMPORTS = 5
    """First on the import path."""

    ARGUMENTS = 6
    """Its argv and environ, instead of those in `Program`, as a file that can be read from its beginning.

    Pieces of bytes, each with a zero byte behind it: how many arguments there are, in decimal; the arguments;
    then the environ, NAME=VALUE each. For what is too long for a packet, or no UTF-8. MAX_ARGUMENTS at most.
    """
    SWAP = 7
    """The file in which a pager keeps pages that are not in memory."""
    WRITABLE = 8
    """A directory in which it may write, too, as far as its uid may."""


class ProgramKind(IntEnum):
    """How a program is started."""

    PYTHON = 1
    """argv[0] is the path of Python source; its text comes as Role.SOURCE, or is read by the new uid."""
    SERVER = 2
    """argv[0] is `module:Class` of a server, or a package that has a `__main__`."""
    FOREIGN = 3
    """argv[0] is an executable."""


class Activity(IntEnum):
    """The activity of an environment's body, as the host shows it. `Inspection.count` has it."""

    ENDED = 0
    RUNS = 1
    """It runs, or wants to, in one of its threads at least; or the kernel has a trap of it to answer."""
    WAITS = 2
    """Each of its threads waits for something."""
    STOPPED = 3
    """A signal stopped it."""
    TRACED = 4
    """A debugger has it."""


class Back(IntEnum):
    """The start a successor repeats, where no descriptors come for it."""

    SAME = 0
    """Its predecessor's."""
    BEFORE = 1
    """The one before others came for a successor: that is undone."""
    FIRST = 2
    """The very first."""


class Program(Record):
    """The program of an environment."""

    kind: Small
    argv: tuple[str, ...]
    environ: tuple[tuple[str, str], ...] = ()
    roles: tuple[Small, ...] = ()
    """The role of each descriptor that comes along, in order."""
    paged: bool = False
    """It may have windows onto paged objects, and not fork: see `kernel.abi.traps.Window`. No executable."""

    def having(self, roles: tuple[Small, ...]) -> "Program":
        """Return the same program with other descriptors."""
        return Program(self.kind, self.argv, self.environ, roles, self.paged)
