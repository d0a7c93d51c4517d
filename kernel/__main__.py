"""`python -m kernel`: boot the system on the real machine and serve until told to stop."""

import argparse
import contextlib
import sys
from pathlib import Path

import msgspec

from hwmodel.real.machine import RealMachine
from hwmodel.real.run import RunError
from kernel.abi.topology import Confinement, TopologyError, load
from kernel.boot import boot


def main() -> int:
    """Boot; return the exit status."""
    arguments = _parser().parse_args()
    phase = _log_phase if arguments.profile else _say_nothing
    phase("imports")
    try:
        topology = load(arguments.config)
        if arguments.may_lack:
            lacks = {"may_lack": [*topology.confinement.may_lack, *arguments.may_lack]}
            topology = msgspec.structs.replace(topology, confinement=msgspec.convert(lacks, Confinement))
        machine = RealMachine(topology, arguments.run, log=_log)
    except (TopologyError, msgspec.ValidationError, RunError, OSError) as error:
        _log(f"exo: {error}")
        return 1
    phase("machine")
    try:
        loader = boot(machine, topology, _log)
    except OSError as error:
        _log(f"exo: a server cannot be read: {error}")
        machine.close()
        return 1
    phase("kernel")
    try:
        machine.run(loader.kernel)
    finally:
        loader.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kernel", description="Boot the kernel and its servers.")
    parser.add_argument("--config", type=Path, required=True, help="the topology, a system.toml")
    parser.add_argument("--run", type=Path, required=True, help="the run directory to make (EXO_RUN)")
    parser.add_argument(
        "--may-lack", action="append", metavar="LAYER", help="as confinement.may_lack; may be given again"
    )
    parser.add_argument("--profile", action="store_true", help="say which phase of the boot is done")
    return parser


def _log(line: str) -> None:
    with contextlib.suppress(OSError):  # whoever started us no longer reads
        print(line, file=sys.stderr, flush=True)


def _log_phase(name: str) -> None:
    _log(f"phase: {name}")


def _say_nothing(_name: str) -> None:
    """Be the phases nobody asked for."""


if __name__ == "__main__":
    sys.exit(main())
