"""Policy of a confined environment, the layers that enforce it, and the one error."""

import os
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from libexo.errors import ExoError

LayerName: TypeAlias = Literal["uid", "no_new_privs", "dumpable", "landlock", "seccomp"]
LAYERS: tuple[LayerName, ...] = get_args(LayerName)
"""In the order in which they are put on: each needs rights that a later one takes away."""

Profile: TypeAlias = Literal["program", "foreign"]
"""`program` runs Python that is already in the process; `foreign` executes any file and may fork."""

Place: TypeAlias = str | os.PathLike[str] | int
"""A file or directory with all below it: a path, or an open descriptor of it."""

REMEDIES: dict[LayerName, str] = {
    "uid": "run as root (in a container: with SETUID and SETGID)",
    "no_new_privs": "use a container profile that passes prctl",
    "dumpable": "use a container profile that passes prctl",
    "landlock": "boot Linux 5.14 or newer with landlock in its lsm= list, and use a container profile that "
    "passes the landlock system calls",
    "seccomp": "install libseccomp.so.2 (Debian: libseccomp2) and pyseccomp, on an x86_64 or aarch64 kernel "
    "with CONFIG_SECCOMP_FILTER",
}


class ConfinementError(ExoError):
    """A layer could not be put on, so no user code may run in this process."""

    def __init__(self, layer: LayerName, why: str) -> None:
        self.layer = layer
        self.why = why
        self.remedy = REMEDIES[layer]
        super().__init__(f"no confinement by {layer}: {why}; {self.remedy}, or list {layer!r} in may_lack")


@dataclass(frozen=True, slots=True)
class Layer:
    """The host's version of one layer, and how to get it if it lacks it."""

    name: LayerName
    available: bool
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Policy:
    """The reach of an environment beyond the system's own directories, which it may read.

    `terminals` are descriptors of the program's terminals: it may open each again, with that
    descriptor's rights. No other terminal is open to it, nor is /dev/tty.
    `connectable` are directories of pathname sockets, such as $EXO_RUN/ipc; hosts before Landlock ABI 9
    leave those to the permissions of the socket file. `may_lack` names layers to go without if the host
    lacks them; a present layer is always used.
    """

    profile: Profile = "program"
    readable: tuple[Place, ...] = ()
    writable: tuple[Place, ...] = ()
    terminals: Collection[int] = ()
    connectable: tuple[Place, ...] = ()
    may_lack: Collection[str] = ()

    def __post_init__(self) -> None:
        """Refuse an unknown name: a misspelt one must not weaken the policy unnoticed."""
        if self.profile not in get_args(Profile):
            raise ValueError(f"no profile {self.profile!r}: choose from {', '.join(get_args(Profile))}")
        if unknown := sorted(set(self.may_lack) - set(LAYERS)):
            raise ValueError(f"may_lack has no layer {', '.join(unknown)}: choose from {', '.join(LAYERS)}")
