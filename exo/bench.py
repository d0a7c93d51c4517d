"""Measure: 'exo bench ipc', and others that 'exo bench --help' names, each beside its outside reference.

The benchmarks are in the source tree, beside this package.
"""

from argparse import ArgumentParser, Namespace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from exo.system import Trouble

ARGUMENTS = "[BENCHMARK] [OPTION]..."
EXAMPLES = """\
  exo bench ipc
  exo bench ipc --json
  exo bench ipc --plot ipc.svg
  exo bench pingpong --quick
  exo bench sizes --plot sizes.svg
  exo bench rings --check
  exo bench heap --check
  exo bench extents --check
  exo bench vm --check
  exo bench clients --plot clients.svg
  exo bench bulk --full --plot bulk.svg
  exo bench compare old.jsonl new.jsonl"""

PLACES = ("bench.cli", "bench.__main__")


def configure(parser: ArgumentParser) -> None:
    """Leave all options to the benchmarks."""
    parser.add_argument("benchmark", nargs="?", metavar="BENCHMARK")


def main(options: Namespace) -> int:
    """Do as `dispatch` for a command line that only names a benchmark."""
    return dispatch([options.benchmark] if options.benchmark else [])


def dispatch(arguments: list[str]) -> int:
    """Have the benchmarks read the rest of the command line. Raises Trouble when they are not installed."""
    beside = Path(__file__).resolve().parent.parent / "bench"  # not a bench.py of the current directory
    package = find_spec("bench") if beside.is_dir() else None
    is_ours = package is not None and str(beside) in (package.submodule_search_locations or ())
    found = next((place for place in PLACES if is_ours and find_spec(place)), None)
    if found is None:
        raise Trouble(
            "the benchmarks are not installed: they come with the source tree, 'make bench' runs them there"
        )
    status: int | None = import_module(found).main(arguments)
    return status or 0
