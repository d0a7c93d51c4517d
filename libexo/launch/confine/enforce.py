"""Confinement in two steps: prepared once, in the parent; applied in each child."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import landlockpy

from libexo.launch.confine import credentials, landlock, seccomp
from libexo.launch.confine.policy import ConfinementError, Layer, LayerName, Policy
from libexo.launch.confine.probing import probe


@dataclass(frozen=True, slots=True)
class Prepared:
    """A policy with all costly preparations done; holds one descriptor until closed."""

    policy: Policy
    layers: frozenset[LayerName]
    ruleset: landlockpy.Ruleset | None
    instructions: bytes

    def close(self) -> None:
        """Close the descriptor."""
        if self.ruleset is not None:
            self.ruleset.close()


def prepare(policy: Policy, host: Sequence[Layer] | None = None) -> Prepared:
    """Check that the host has all that *policy* asks for, and prepare it.

    *host* is a result of `probe`, for a caller that prepares often. Raises ConfinementError for the first layer
    that the host lacks and the policy requires; OSError for a missing place.
    """
    host = probe() if host is None else host
    for layer in host:
        if not layer.available and layer.name not in policy.may_lack:
            raise ConfinementError(layer.name, layer.detail)
    layers = frozenset(layer.name for layer in host if layer.available)
    return Prepared(
        policy,
        layers,
        landlock.make_ruleset(policy) if "landlock" in layers else None,
        seccomp.compile_filter(policy.profile) if "seccomp" in layers else b"",
    )


def apply(prepared: Prepared, *, uid: int, gid: int, parent: int | None) -> None:
    """Confine this process for good; after an error it is half confined and must only leave.

    *parent* is the pid of the process whose end shall be ours too, or None. If the
    host cannot give a uid and the policy does without, *uid* and *gid* are not used.
    """
    _require_one_thread()
    _put_on(prepared, "uid", lambda: credentials.become(uid, gid))
    credentials.drop_capabilities()
    if parent is not None:
        credentials.die_with(parent)
    credentials.forbid_core_dumps()
    _put_on(prepared, "no_new_privs", credentials.renounce_privileges)
    _put_on(prepared, "dumpable", credentials.forbid_dumps)
    if prepared.ruleset is not None:
        ruleset = prepared.ruleset
        _put_on(prepared, "landlock", lambda: landlock.restrict(ruleset))
    _put_on(prepared, "seccomp", lambda: seccomp.load(prepared.instructions))


def _put_on(prepared: Prepared, layer: LayerName, step: Callable[[], None]) -> None:
    """Put on one layer, if it is among those prepared."""
    if layer not in prepared.layers:
        return
    try:
        step()
    except OSError as error:
        raise ConfinementError(layer, str(error)) from error


def _require_one_thread() -> None:
    """Refuse other threads: Landlock and seccomp bind the calling thread and those it makes later."""
    if (count := len(os.listdir("/proc/self/task"))) != 1:
        raise RuntimeError(f"only a process of one thread can be confined; this one has {count}")
