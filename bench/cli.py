"""The command: `exo bench ipc`, and the others that `MEANING` names, and `compare`."""

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from bench import (
    bulk,
    clients,
    compare,
    extents,
    facts,
    heap,
    ipc,
    pairs,
    pingpong,
    plot,
    report,
    rings,
    scale,
    sched,
    sizes,
    transports,
    vm,
)
from bench.errors import BenchError
from bench.harness import Result, run, run_together
from bench.system import System, running
from exo.system import Trouble
from libexo.errors import ExoError

ROUNDS = 20
OVER = 2
"""Exit status with --check when a goal was missed."""
MEANING = {
    "bulk": "64 bytes to 1 GiB one way, by mapping them, beside the ways that copy them",
    "clients": "calls a second that one server answers, with 1 to 32 clients",
    "extents": "carving with up to 16,000 extents of 200 environments in 4 GiB: it must stay flat; what each costs",
    "heap": "memory of one's own, fresh and from the warm heap, each with its goal",
    "ipc": "calls, traps, bindings, memory, spawn: each beside its outside reference",
    "pingpong": "one way of an L4 IPC against the number of words, between environments and between threads",
    "rings": "the ring transport: calls, awake and asleep, streams, mapping, clients, each with its goals",
    "scale": "the null trap with 1 to 200 environments living: it must stay flat",
    "sched": "shares beside the host's own, the core that is given, a switch, overhead: each with its goal",
    "sizes": "a payload of 64 bytes to 1 MiB there and back, beside the ways of others",
    "vm": "a page fault that another program answers, and swap, each with its goal; Appel and Li's measures",
}
EPILOG = """\
Subject and references take turns in blocks in one run; the first round warms up and is thrown away. References
are plain processes in the same placement: a session each, as environments have, and by default nobody pinned.
Where cores are few or busy, --cores (as root) makes runs comparable; pingpong, rings and vm are always pinned, but
for pairs and fault-other; between threads the references of pingpong are two threads, too. A running system
(EXO_RUN) is measured; without one, one is booted and ended. `exo bench compare OLD NEW` tells what changed between
two files that --json wrote."""


def main(argv: list[str]) -> int:
    """Run the benchmark *argv* names; return the exit status."""
    if argv[:1] == ["compare"]:
        return compare.main(argv[1:])
    parser = _parser()
    arguments = parser.parse_args(argv)
    known = KEYS[arguments.what]
    if unknown := set(arguments.only or ()) - set(known):
        parser.error(
            f"no such measure of {arguments.what}: {', '.join(sorted(unknown))}; there are: {', '.join(known)}"
        )
    try:
        if arguments.plot is not None:
            plot.check(arguments.plot)
        return max([RUNS[arguments.what](arguments) for _ in range(arguments.runs)])
    except (BenchError, ExoError, Trouble) as error:
        print(f"exo bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="exo bench", description="Measure the system.", epilog=EPILOG)
    parser.add_argument("what", nargs="?", choices=sorted(MEANING), default="ipc",
                        help="; ".join(f"{name}: {meaning}" for name, meaning in MEANING.items()))  # fmt: skip
    parser.add_argument("--only", type=lambda text: tuple(text.split(",")), metavar="KEY,…",
                        help="measures to run (default: all): " + "; ".join(
                            f"of {name}: {', '.join(keys)}" for name, keys in KEYS.items() if keys))  # fmt: skip
    parser.add_argument(
        "--rounds", type=_positive, default=ROUNDS, help=f"blocks of each (default: {ROUNDS})"
    )
    parser.add_argument("--cores", type=_cores, default=(), metavar="N,…",
                        help="keep both parties, and the kernel, on these cores (default: none is pinned; for "
                             "scale and heap, as root: one core). Of pingpong, rings and vm: the first for both "
                             "parties on the same CPU, and the second for one of them on another (default: the "
                             "first two)")  # fmt: skip
    parser.add_argument("--transport", choices=("ring", "zmq"), default="ring",
                        help="of rings: what its subjects go over (default: ring)")  # fmt: skip
    parser.add_argument("--full", action="store_true", help="of bulk: sizes above "
                        f"{report.show_size(bulk.USUAL)}, too; they take minutes, and memory")  # fmt: skip
    parser.add_argument("--step", type=_positive, help="of pingpong: from one number of words to the next "
                        f"(default: {pingpong.STEP}, with --quick {pingpong.QUICK_STEP})")  # fmt: skip
    parser.add_argument("--trips", type=_positive, help="of pingpong: round trips for each number of words "
                        f"(default: {pingpong.TRIPS}, with --quick {pingpong.QUICK_TRIPS})")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="of pingpong: a look")
    parser.add_argument("--runs", type=_positive, default=1, help="do all of it so often, each time with new "
                        "processes (default: 1); a picture is of the last")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object a measure, times in nanoseconds")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw a picture too: .svg, .png or .pdf")
    parser.add_argument("--check", action="store_true", help=f"exit with status {OVER} when a goal is missed")
    return parser


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
    keys = arguments.only or ipc.KEYS
    _head(arguments, host)
    if "transports" in keys:
        transports.tell_missing(list(transports.WAYS.values()))
    with running() as system, ipc.measures(system, keys, arguments.cores) as measures:
        for measure in measures:
            results.append(run(measure, arguments.rounds))
            _print(arguments, results[-1], host)
    return _judged(arguments, results, host)


def _judged(arguments: argparse.Namespace, results: list[Result], host: facts.Facts) -> int:
    """Draw *results*, if that was asked for, but for counts; return the exit status."""
    timed = [result for result in results if not result.measure.unit]
    if arguments.plot is not None and timed:
        plot.distributions(timed, str(host), arguments.plot)
    elif arguments.plot is not None:
        print(f"{arguments.plot} is not written: what was counted has no distribution", file=sys.stderr)
    missed = [result for result in results if result.met is False]
    return OVER if arguments.check and missed else 0


def _sizes(arguments: argparse.Namespace) -> int:
    host = facts.gather(arguments.cores)
    keys = arguments.only or sizes.USUAL
    points: dict[int, Result] = {}
    _head(arguments, host)
    transports.tell_missing([transports.WAYS[key] for key in keys])
    with running() as system, sizes.measures(system, keys, arguments.cores) as measures:
        for size, measure in measures.items():
            points[size] = run(measure, arguments.rounds)
            _print(arguments, points[size], host, size)
    if arguments.plot is not None:
        plot.sizes(points, str(host), arguments.plot)
    return 0


def _rings(arguments: argparse.Namespace) -> int:
    cores = arguments.cores or pingpong.default_cores()
    wanted = arguments.only or (*rings.KEYS, "pairs")
    others = [key for key in wanted if key != "pairs"]
    keys = rings.possible(others, cores) if others else []
    host = facts.gather(cores if keys else arguments.cores)
    results = []
    _head(arguments, host)
    with running(rings.MEMORY) as system:
        for key in rings.fitting(system, keys):
            with rings.measure(system, key, cores, arguments.transport) as measure:
                results.append(run(measure, arguments.rounds))
            _print(arguments, results[-1], host)
        if "pairs" in wanted:
            results.append(_worst_pair(arguments, system))
            _print(arguments, results[-1], host)
    return _judged(arguments, results, host)


def _worst_pair(arguments: argparse.Namespace, system: System) -> Result:
    """Run all pairs, a line each; return the result of the worst."""
    found = []
    for number, result in enumerate(pairs.each(system, arguments.transport, arguments.rounds)):
        found.append(result)
        if not arguments.json:
            print(pairs.text(number, result), flush=True)
    return max(found, key=pairs.ratio)


def _heap(arguments: argparse.Namespace) -> int:
    cores = arguments.cores or scale.default_cores()
    host = facts.gather(cores)
    results = []
    _head(arguments, host)
    with running() as system, heap.measures(system, arguments.only or heap.KEYS, cores) as measures:
        for measure in measures:
            results.append(run(measure, arguments.rounds))
            _print(arguments, results[-1], host)
    return _judged(arguments, results, host)


def _vm(arguments: argparse.Namespace) -> int:
    cores = arguments.cores or pingpong.default_cores()
    keys = vm.possible(arguments.only or vm.KEYS, cores)
    host = facts.gather(cores)
    results = []
    _head(arguments, host)
    with running(swaps=True) as system, contextlib.closing(vm.measures(system, keys, cores)) as measures:
        for measure in measures:
            results.append(run(measure, arguments.rounds))
            _print(arguments, results[-1], host)
    return _judged(arguments, results, host)


def _clients(arguments: argparse.Namespace) -> int:
    host = facts.gather(arguments.cores)
    points: dict[int, Result] = {}
    _head(arguments, host)
    with (
        running(clients.MEMORY) as system,
        clients.measures(system, arguments.only or clients.KEYS, arguments.cores, clients.COUNTS) as measures,
    ):
        for count, measure in measures.items():
            points[count] = run(measure, arguments.rounds)
            text = clients.text(count, points[count])
            print(report.line(points[count], host, clients=count) if arguments.json else text, flush=True)
    kept = clients.kept(points)
    if not arguments.json:
        verdict = "PASS" if kept >= clients.KEPT else "below the goal"
        print(f"{max(points)} clients have {kept:.2f} of the throughput of {min(points)}: {verdict}", end=" ")
        print(f"(goal: at least {clients.KEPT})")
    if arguments.plot is not None:
        plot.clients(points, str(host), arguments.plot)
    return OVER if arguments.check and kept < clients.KEPT else 0


def _bulk(arguments: argparse.Namespace) -> int:
    host = facts.gather(arguments.cores)
    keys, wanted = arguments.only or bulk.KEYS, bulk.sizes(full=arguments.full)
    points: dict[int, Result] = {}
    bulk.check_host(wanted[-1], keys)
    _head(arguments, host)
    with running(bulk.MEMORY) as system:
        bulk.tell_left_out(system, wanted)
        with bulk.measures(system, keys, bulk.fitting(system, wanted), arguments.cores) as measures:
            for size, measure in measures.items():
                points[size] = run(measure, arguments.rounds)
                _print(arguments, points[size], host, size)
    if arguments.plot is not None:
        plot.sizes(points, str(host), arguments.plot, "a payload one way, against its size")
    return 0


def _pingpong(arguments: argparse.Namespace) -> int:
    cores = arguments.cores or pingpong.default_cores()
    keys = pingpong.possible(arguments.only or pingpong.KEYS, cores)
    host = facts.gather(cores)
    sweeps: dict[pingpong.Variant, dict[int, Result]] = {}
    _head(arguments, host)
    with running() as system, pingpong.variants(system, keys, cores) as variants:
        for variant in variants:
            sweeps[variant] = _sweep(arguments, variant, host)
    if arguments.plot is not None:
        plot.sweeps(pingpong.panels(sweeps), str(host), arguments.plot)
    return 0


def _sweep(arguments: argparse.Namespace, variant: pingpong.Variant, host: facts.Facts) -> dict[int, Result]:
    """Run *variant* with each count of words, side by side; print the results, and what a word more costs."""
    quick = arguments.quick
    trips = arguments.trips or (pingpong.QUICK_TRIPS if quick else pingpong.TRIPS)
    counts = pingpong.counts(arguments.step or (pingpong.QUICK_STEP if quick else pingpong.STEP))
    block = pingpong.block(trips, arguments.rounds)
    results = run_together([variant.measure(words, block) for words in counts], arguments.rounds)
    points = dict(zip(counts, results, strict=True))
    if arguments.json:
        for words, result in points.items():
            print(report.line(result, host, words=words))
        print(report.slope_line(variant.title, points, host), flush=True)
    else:
        print(f"{report.sweep(variant.title, points)}\n", flush=True)
    return points


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


def _extents(arguments: argparse.Namespace) -> int:
    cores = arguments.cores or scale.default_cores()
    host = facts.gather(cores)
    cost, points = extents.Cost(), dict[int, Mapping[str, Result]]()
    _head(arguments, host)
    with running(extents.MEMORY) as system:
        for count, results in extents.points(system, arguments.rounds, cores, extents.counts(), cost):
            points[count] = results
            if not arguments.json:
                print(extents.text(count, results, cost), flush=True)
            for result in results.values() if arguments.json else ():
                print(report.line(result, host, extents=count), flush=True)
    verdicts = extents.verdicts(points, cost)
    for sentence, met in verdicts.items() if not arguments.json else ():
        print(f"{sentence}: {'PASS' if met else 'over the goal'}")
    if arguments.plot is not None:
        carved = [results["carve"] for results in points.values()]
        plot.curve(list(points), carved, "extents", str(host), arguments.plot)
    return OVER if arguments.check and not all(verdicts.values()) else 0


def _sched(arguments: argparse.Namespace) -> int:
    host = facts.gather()
    missed = False
    _head(arguments, host)
    with running() as system:
        for found in sched.findings(system, arguments.only or sched.KEYS):
            print(sched.line(found, host) if arguments.json else sched.text(found), flush=True)
            missed |= found.met is False
    return OVER if arguments.check and missed else 0


def _head(arguments: argparse.Namespace, host: facts.Facts) -> None:
    if not arguments.json:
        print(f"{host}\n", flush=True)


def _print(arguments: argparse.Namespace, result: Result, host: facts.Facts, size: int | None = None) -> None:
    line = report.line(result, host, size=size) if arguments.json else f"{report.table(result)}\n"
    print(line, flush=True)


def _point(arguments: argparse.Namespace, count: int, result: Result, host: facts.Facts) -> None:
    if arguments.json:
        print(report.line(result, host, environments=count), flush=True)
        return
    figures, reference = result.figures, result.references[0]
    ratio = reference.ratio
    print(f"{count:4} environments: null trap p50 {figures.p50 / 1000:6.1f} µs, p90 {figures.p90 / 1000:6.1f}, "
          f"p99 {figures.p99 / 1000:6.1f}, n {figures.n}; {reference.name} p50 {reference.figures.p50 / 1000:.1f}; "
          f"ratio {ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]", flush=True)  # fmt: skip


KEYS = {
    "bulk": bulk.KEYS, "clients": clients.KEYS, "extents": (), "heap": heap.KEYS, "ipc": ipc.KEYS,
    "pingpong": pingpong.KEYS, "rings": (*rings.KEYS, "pairs"), "scale": (), "sched": sched.KEYS,
    "sizes": sizes.KEYS, "vm": vm.KEYS,
}  # fmt: skip
"""What --only may name."""
RUNS = {
    "bulk": _bulk, "clients": _clients, "extents": _extents, "heap": _heap, "ipc": _ipc, "pingpong": _pingpong,
    "rings": _rings, "scale": _scale, "sched": _sched, "sizes": _sizes, "vm": _vm,
}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
