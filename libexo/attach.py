"""Attaching a program to a system, and finding its environment again."""

import os
from pathlib import Path

from libexo.environment import Environment, Process
from libexo.host import current
from libexo.host.base import Host
from libexo.services import Servers


def attach(run: Path | str | None = None, name: str | None = None) -> Environment:
    """Return the calling program's environment.

    A program that the kernel started has its gate open already (EXO_TRAP_FD). Any other attaches to the
    system at *run* (default: EXO_RUN) under *name*. Called again without arguments, it returns the same one.
    """
    host = current.get()
    if host is not None:
        known = host.environment
        return known if isinstance(known, Environment) else stand_on(host)
    if Process.environment is None or run is not None or name is not None:
        Process.environment = stand_on(_real_host(run, name))
    return Process.environment


def stand_on(host: Host) -> Environment:
    """Return a new environment on *host*, which other strands find there. Raises TrapRefused, GateClosed."""
    environment = Environment(host)
    environment.services = Servers(environment)
    host.environment = environment
    return environment


def _real_host(run: Path | str | None, name: str | None) -> Host:
    from libexo.host import real  # noqa: PLC0415 - not on the simulated machine

    directory = Path(run) if run is not None else run_directory()
    gate = os.environ.get("EXO_TRAP_FD")
    if gate is not None and run is None:
        return real.inherited(int(gate), directory)
    return real.attached(directory, name or f"program-{os.getpid()}")


def run_directory() -> Path:
    """Return the run directory: EXO_RUN, or `exo` under XDG_RUNTIME_DIR, or under /run or /tmp."""
    if directory := os.environ.get("EXO_RUN"):
        return Path(directory)
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "exo"
    return Path("/run/exo") if os.getuid() == 0 else Path(f"/tmp/exo-{os.getuid()}")  # noqa: S108


Process.attach = attach
