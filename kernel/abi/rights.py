"""Kinds of capabilities, and rights of their holders."""

from enum import IntEnum, IntFlag


class Kind(IntEnum):
    """The kinds of resources a capability can be to."""

    RAM = 1
    """A range of frames that may be carved."""
    EXTENT = 2
    """A run of frames that was carved: it can be mapped."""
    CPU = 3
    """A processor: switch it, install its plan."""
    ENVIRONMENT = 4
    """One environment: signal it, destroy it, read how it ended."""
    FACTORY = 5
    """The right to create environments and to publish names."""
    INTERRUPT = 6
    """One interrupt line."""
    RESERVATION = 7
    """So much CPU time in each period of a processor: have an environment run by it, take parts of it."""


class Rights(IntFlag):
    """Bits of a capability. The low three are those of an L4 X.2 fpage (read 4, write 2, execute 1)."""

    EXECUTE = 1
    WRITE = 2
    READ = 4
    CONTROL = 8
    """Use the resource: carve from it, switch it, signal it, bind it."""
    TRANSFER = 16
    """Pass it on, by map or by grant. Memory taken back from one who has it mapped moves under all who have."""


ALL_RIGHTS = Rights(31)
MAP_READ = Rights.READ
