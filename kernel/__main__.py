"""`python -m kernel`: boot the system on the real machine and serve until told to stop."""

import argparse
import sys
from pathlib import Path

from hwmodel.real.machine import RealMachine
from kernel.abi.topology import TopologyError, load
from kernel.boot import boot


def main() -> int:
    """Boot; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m kernel", description="Boot the kernel and its servers.")
    parser.add_argument("--config", type=Path, required=True, help="the topology, a system.toml")
    parser.add_argument("--run", type=Path, required=True, help="the run directory to make (EXO_RUN)")
    arguments = parser.parse_args()
    try:
        topology = load(arguments.config)
        machine = RealMachine(topology, arguments.run, log=_log)
    except (TopologyError, OSError) as error:
        _log(f"exo: {error}")
        return 1
    loader = boot(machine, topology, _log)
    try:
        machine.run(loader.kernel)
    finally:
        loader.close()
    return 0


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
