"""`python -m kernel`: boot the system on the real machine and serve until told to stop."""

import argparse
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import msgspec

from hwmodel.real.machine import RealMachine
from hwmodel.real.run import RunError, check_way
from hwmodel.real.writer import Writer
from kernel.abi.logs import LAST_LINE
from kernel.abi.topology import Confinement, Topology, TopologyError, dump, load
from kernel.boot import boot

LAST_WORDS = 1.0
"""Seconds that the reader of our log gets for its last lines."""


def main() -> int:
    """Boot; return the exit status."""
    arguments = _parser().parse_args()
    writer = Writer(sys.stderr.fileno(), arguments.log)
    sys.excepthook = _panic(writer)
    status = _run(arguments, writer.say)
    if status == 0:
        writer.say(LAST_LINE)
    writer.close(LAST_WORDS)
    return status


def _run(arguments: argparse.Namespace, log: Callable[[str], None]) -> int:
    phase = (lambda name: log(f"phase: {name}")) if arguments.profile else bool
    phase("imports")
    try:
        topology = _topology(arguments)
        check_way(arguments.run)
        machine = RealMachine(topology, arguments.run, log=log)
        Path(arguments.run, "system.toml").write_text(dump(topology), encoding="utf-8")
    except (TopologyError, msgspec.ValidationError, RunError, OSError) as error:
        log(f"exo: {error}")
        return 1
    phase("machine")
    try:
        loader = boot(machine, topology, log)
    except OSError as error:
        log(f"exo: cannot open what a server needs: {error}")
        machine.close()
        return 1
    phase("kernel")
    try:
        machine.run(loader.supervisor)
    finally:
        loader.close()
    return 0


def _topology(arguments: argparse.Namespace) -> Topology:
    topology = load(arguments.config)
    if not arguments.may_lack:
        return topology
    lacks = {"may_lack": [*topology.confinement.may_lack, *arguments.may_lack]}
    return msgspec.structs.replace(topology, confinement=msgspec.convert(lacks, Confinement))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m kernel", description="Boot the kernel and its servers.")
    parser.add_argument("--config", type=Path, required=True, help="the topology, a system.toml")
    parser.add_argument("--run", type=Path, required=True, help="the run directory to make (EXO_RUN)")
    parser.add_argument(
        "--may-lack", action="append", metavar="LAYER", help="as confinement.may_lack; may be given again"
    )
    parser.add_argument("--log", help="the file that standard error is: a long one is rotated")
    parser.add_argument("--profile", action="store_true", help="say which phase of the boot is done")
    return parser


def _panic(writer: Writer) -> Callable[[type[BaseException], BaseException, TracebackType | None], None]:
    """Return a hook that writes what ended us to *writer*: an interpreter would wait for a reader that is slow."""

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        writer.say("".join(traceback.format_exception(kind, error, trace)).rstrip())
        writer.close(LAST_WORDS)

    return show


if __name__ == "__main__":
    sys.exit(main())
