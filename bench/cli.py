"""The command: `exo bench ipc`, `exo bench scale`."""

import argparse
import os
import sys
from pathlib import Path

from bench import facts, ipc, plot, report, scale
from bench.errors import BenchError
from bench.harness import Result, run
from bench.system import running
from exo.system import Trouble
from libexo.errors import ExoError

ROUNDS = 20
OVER = 2
"""Exit status with --check when a goal was missed."""
MEANING = {
    "ipc": "calls, traps, bindings, memory, spawn: each beside its outside reference",
    "scale": "the null trap with 1 to 200 environments living: it must stay flat",
}
EPILOG = """\
Subject and references take turns in blocks in one run; the first round warms up and is thrown away. References
are plain processes in the same placement: a session each, as environments have, and by default nobody pinned.
Where cores are few or busy, --cores (as root) makes runs comparable. A running system (EXO_RUN) is measured;
without one, one is booted and ended."""


def main(argv: list[str]) -> int:
    """Run the benchmark *argv* names; return the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.plot is not None:
            plot.check(arguments.plot)
        return _scale(arguments) if arguments.what == "scale" else _ipc(arguments)
    except (BenchError, ExoError, Trouble) as error:
        print(f"exo bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exo bench", description="Measure the system.", epilog=EPILOG)
    parser.add_argument("what", nargs="?", choices=sorted(MEANING), default="ipc",
                        help="; ".join(f"{name}: {meaning}" for name, meaning in MEANING.items()))  # fmt: skip
    parser.add_argument("--only", type=_keys, default=ipc.KEYS, metavar="KEY,…",
                        help=f"measures of ipc to run: {', '.join(ipc.KEYS)} (default: all)")  # fmt: skip
    parser.add_argument(
        "--rounds", type=_positive, default=ROUNDS, help=f"blocks of each (default: {ROUNDS})"
    )
    parser.add_argument("--cores", type=_cores, default=(), metavar="N,…",
                        help="keep both parties, and the kernel, on these cores "
                             "(default: nobody is pinned; for scale, as root: one core)")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a measure, times in nanoseconds")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a picture too: .svg, .png or .pdf")
    parser.add_argument("--check", action="store_true", help=f"exit with status {OVER} when a goal is missed")
    return parser


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(text.split(","))
    if unknown := set(keys) - set(ipc.KEYS):
        raise argparse.ArgumentTypeError(f"no such measure: {', '.join(sorted(unknown))}")
    return keys


def _cores(text: str) -> tuple[int, ...]:
    try:
        cores = tuple(int(core) for core in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: cores are numbers, like 0 or 0,1") from None
    if missing := set(cores) - os.sched_getaffinity(0):
        raise argparse.ArgumentTypeError(
            f"this process may not use core {', '.join(map(str, sorted(missing)))}"
        )
    return cores


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: a number from 1")
    return int(text)


def _ipc(arguments: argparse.Namespace) -> int:
    host = facts.gather(arguments.cores)
    results = []
    _head(arguments, host)
    with running() as system, ipc.measures(system, arguments.only, arguments.cores) as measures:
        for measure in measures:
            result = run(measure, arguments.rounds)
            results.append(result)
            _print(arguments, result, host)
    if arguments.plot is not None:
        plot.distributions(results, str(host), arguments.plot)
    missed = [result for result in results if result.met is False]
    return OVER if arguments.check and missed else 0


def _scale(arguments: argparse.Namespace) -> int:
    cores = arguments.cores or scale.default_cores()
    host = facts.gather(cores)
    results: list[Result] = []
    _head(arguments, host)
    with running() as system:
        for count, result in zip(scale.COUNTS, scale.points(system, arguments.rounds, cores), strict=True):
            results.append(result)
            _point(arguments, count, result, host)
    growth = scale.growth(results)
    flat = growth <= scale.FLAT
    if not arguments.json:
        verdict = "PASS" if flat else "over the goal"
        print(
            f"from {scale.COUNTS[0]} to {scale.COUNTS[-1]} environments: {growth:.2f} times, {verdict}",
            end=" ",
        )
        print(f"(goal: at most {scale.FLAT:.2f} times, drift of the reference taken out)")
    if arguments.plot is not None:
        plot.curve(scale.COUNTS, results, "living environments", str(host), arguments.plot)
    return OVER if arguments.check and not flat else 0


def _head(arguments: argparse.Namespace, host: facts.Facts) -> None:
    if not arguments.json:
        print(f"{host}\n", flush=True)


def _print(arguments: argparse.Namespace, result: Result, host: facts.Facts) -> None:
    print(report.line(result, host) if arguments.json else f"{report.table(result)}\n", flush=True)


def _point(arguments: argparse.Namespace, count: int, result: Result, host: facts.Facts) -> None:
    if arguments.json:
        print(report.line(result, host, environments=count), flush=True)
        return
    figures, reference = result.figures, result.references[0]
    ratio = reference.ratio
    print(f"{count:4} environments: null trap p50 {figures.p50 / 1000:6.1f} µs, p90 {figures.p90 / 1000:6.1f}, "
          f"p99 {figures.p99 / 1000:6.1f}, n {figures.n}; {reference.name} p50 {reference.figures.p50 / 1000:.1f}; "
          f"ratio {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
