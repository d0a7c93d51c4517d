"""Fences: what the host's layers keep programs from, beyond one another: its user's things, and its own.

A layer is there or not. What that means for a terminal, a signal or a socket depends on the others,
and on the ABI of the host's Landlock.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import landlockpy

from libexo.launch.confine import credentials
from libexo.launch.confine.forked import ChildError, in_child
from libexo.launch.confine.policy import Layer

SCOPES = 6
"""The Landlock ABI with signals and abstract sockets."""
PATHNAME_SOCKETS = 9
"""The Landlock ABI with sockets by path."""
YOUNGER = "boot Linux {} or newer, with Landlock ABI {}"


@dataclass(frozen=True, slots=True)
class Fence:
    """One thing that programs are, or are not, kept from."""

    name: str
    holds: bool
    detail: str
    remedy: str


def fences(layers: Sequence[Layer]) -> list[Fence]:
    """Return the fences of a host that has these *layers*, as `probe` found them."""
    available = {layer.name for layer in layers if layer.available}
    abi = landlockpy.abi_version() if "landlock" in available else 0
    return list_fences(own_uid="uid" in available, abi=abi, own_network=_leaves_network())


def list_fences(*, own_uid: bool, abi: int, own_network: bool) -> list[Fence]:
    """Return the fences if each environment has a uid, or none has; by the ABI of Landlock, 0 for none."""
    files = own_uid or abi > 0
    as_root = "boot the system as root"
    return [
        _fence("operators' secret", files, "no program can read it", "programs are operators", as_root),
        _fence(
            "your files",
            files,
            "shut, except what you hand over" if abi else "as their modes say",
            "all open",
            as_root,
        ),
        _fence("your terminals", files, "shut, except a program's own", "all open", as_root),
        _fence(
            "your processes",
            own_uid or abi >= SCOPES,
            "no signal reaches them",
            "can be signalled",
            YOUNGER.format("6.12", SCOPES),
        ),
        _fence("shared memory", own_uid, "read-only stays so", "read-only can be reopened", as_root),
        _fence(
            "abstract sockets",
            own_network or abi >= SCOPES,
            "no program connects to the host's",
            "programs can connect to all",
            YOUNGER.format("6.12", SCOPES),
        ),
        _fence(
            "abstract names",
            own_network,
            "no program takes one of the host's",
            "programs can take free ones",
            "boot the system as root with SYS_ADMIN",
        ),
        _fence(
            "sockets by path",
            abi >= PATHNAME_SOCKETS,
            "shut, except the system's",
            "those any uid may use are open" if own_uid else "all of yours are open",
            YOUNGER.format("7.1", PATHNAME_SOCKETS),
        ),
    ]


def _fence(name: str, holds: bool, so: str, otherwise: str, remedy: str) -> Fence:  # noqa: FBT001 - a row of a table
    return Fence(name, holds, so if holds else otherwise, remedy)


def _leaves_network() -> bool:
    """Whether we may have a network namespace of our own."""

    def leave() -> str:
        credentials.leave_network()
        return ""

    try:
        in_child(leave)
    except (OSError, ChildError):
        return False
    return True
