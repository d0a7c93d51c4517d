"""The host's layers, found by putting each on in a forked child."""

from collections.abc import Callable

import landlockpy

from libexo.launch.confine import credentials, landlock, seccomp
from libexo.launch.confine.forked import ChildError, in_child
from libexo.launch.confine.policy import LAYERS, REMEDIES, Layer, LayerName, Policy

NOBODY = 65534


def probe() -> list[Layer]:
    """Try each layer, in their order; the calling process is left as it was.

    Call it before children are reaped by a signal handler, which would take the probe's.
    """
    return [_try(name) for name in LAYERS]


def _try(name: LayerName) -> Layer:
    """Put one layer on in a child and note the outcome."""
    try:
        if name == "seccomp":
            seccomp.compile_filter("program")
        return Layer(name, available=True, detail=in_child(TRIALS[name]), remedy=REMEDIES[name])
    except (OSError, ChildError) as error:
        return Layer(name, available=False, detail=str(error), remedy=REMEDIES[name])


def _uid() -> str:
    credentials.become(NOBODY, NOBODY)
    return "each environment has its own"


def _no_new_privs() -> str:
    credentials.renounce_privileges()
    return "set"


def _dumpable() -> str:
    credentials.forbid_dumps()
    return "cleared"


def _landlock() -> str:
    credentials.renounce_privileges()
    landlock.restrict(landlock.make_ruleset(Policy()))
    return f"Landlock ABI {landlockpy.abi_version()}"


def _seccomp() -> str:
    credentials.renounce_privileges()
    instructions = seccomp.compile_filter("program")
    seccomp.load(instructions)
    return f"filter of {len(instructions) // 8} instructions"


TRIALS: dict[LayerName, Callable[[], str]] = {
    "uid": _uid,
    "no_new_privs": _no_new_privs,
    "dumpable": _dumpable,
    "landlock": _landlock,
    "seccomp": _seccomp,
}
