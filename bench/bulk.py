"""`exo bench bulk`: what it costs to pass bytes one way, 64 B to 1 GiB, by mapping them and by copying them.

A copying sender sends the same piece of memory again and again, which stays in the cache, and forgets it at the
other end: what is measured is the way alone. What is mapped was really written, all of it, before. Every way ends
with an answer. Mapping is measured twice: read at both ends there, and read in every page.
"""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate

import psutil

from bench.errors import BenchError
from bench.harness import Measure, Sampled, Worker, reference
from bench.report import show_size
from bench.system import System
from bench.worker import BULK, sized
from kernel.abi.limits import FRAME_SIZE

WAYS = {
    "pages": "extent, mapped and read in every page",
    "ring": "typed calls over a ring",
    "zmq": "typed calls over ZeroMQ",
    "raw": "raw pyzmq DEALER/ROUTER",
    "pipe": "pipe",
    "connection": "multiprocessing.Pipe",
    "shared": "multiprocessing.shared_memory",
}
"""What mapping is compared with."""
SUBJECT = "extent, mapped"
REFERENCES = {
    "raw": "zmq_stream", "pipe": "pipe_bulk", "connection": "mp_pipe_bulk", "shared": "shared_memory_bulk"
}  # fmt: skip
"""The modules of those that are plain processes."""
KEYS = tuple(WAYS)
USUAL = 64 << 20
"""The largest size, in bytes, unless all are asked for."""
MEMORY = "4 GiB"
"""Of a system that is booted: one environment may have half of it."""
MOST, LEAST = 50, 3
"""Samples of a round: of the smaller sizes and of the larger ones."""
FULL = 64 << 10
"""Bytes up to which a round has the most samples; beyond, the fewer the larger."""
EXTENTS = 1.5
"""Memory that all extents take, in times of the largest: each size is a quarter of the next."""
SHARED = "/dev/shm"  # noqa: S108 - where the standard library makes it


@contextlib.contextmanager
def measures(
    system: System, keys: Sequence[str], sizes: Sequence[int], cores: Sequence[int] = ()
) -> Iterator[dict[int, Measure]]:
    """Give the measure of each of *sizes* bytes on *system*, beside the ways of *keys*."""
    with contextlib.ExitStack() as open_:
        over = "ring" if "ring" in keys else "zmq"
        store, ours = start(system, over)
        others: dict[str, tuple[Worker, str]] = {"pages": (ours, "pages"), over: (ours, "copy")}
        pids = [store, ours.pid]
        if over == "ring" and "zmq" in keys:
            store, second = start(system, "zmq")
            pids += [store, second.pid]
            others["zmq"] = second, "copy"
        system.place(pids, cores)
        for key in REFERENCES.keys() & set(keys):
            module = f"bench.references.{REFERENCES[key]}"
            others[key] = open_.enter_context(reference(module, cores=cores)), "bulk"
        parties = [(WAYS[key], *others[key]) for key in KEYS if key in keys]
        yield {size: _measure(ours, parties, size) for size in sizes}


def start(system: System, transport: str, prefix: str = "") -> tuple[int, Worker]:
    """Start the receiver of bytes, and the sender, by calls over *transport*; their names begin with *prefix*.

    Return the process id of the one, and the other.
    """
    store = f"{prefix}{transport}-store-{os.getpid()}"
    pid = system.start("bench.programs.store", store)
    environ = {"BENCH_STORE": store, "BENCH_TRANSPORT": transport}
    return pid, system.worker("bench.programs.shipper", f"{prefix}{transport}-ship-{os.getpid()}", environ)


def _measure(ours: Worker, parties: Sequence[tuple[str, Worker, str]], size: int) -> Measure:
    others = [Sampled(name, worker, f"{what}-{sized(size)}") for name, worker, what in parties]
    subject = Sampled(SUBJECT, ours, f"ends-{sized(size)}")
    return Measure("bulk", f"{show_size(size)} one way", subject, others, block(size))


def block(size: int) -> int:
    """Return how many samples of *size* bytes a round takes."""
    return max(LEAST, min(MOST, MOST * FULL // size))


def sizes(*, full: bool) -> list[int]:
    """Return the sizes of a run, in bytes."""
    return [size for size in BULK if full or size <= USUAL]


def fitting(system: System, sizes: Sequence[int]) -> list[int]:
    """Return those of *sizes*, ascending, of which one environment of *system* may have an extent each."""
    needs = accumulate(max(size, FRAME_SIZE) for size in sizes)
    return [size for size, need in zip(sizes, needs, strict=True) if need <= system.quota]


def tell_left_out(system: System, sizes: Sequence[int]) -> None:
    """Say which of *sizes* do not fit, where that does not mix with results."""
    if left_out := set(sizes) - set(fitting(system, sizes)):
        print(
            f"{show_size(min(left_out))} and more are left out: an environment of this system may have "
            f"{show_size(system.quota)}; without EXO_RUN, one of {MEMORY} is booted",
            file=sys.stderr, flush=True,
        )  # fmt: skip


def check_host(largest: int, keys: Sequence[str] = ()) -> None:
    """Raise BenchError when the host has no room for *largest* bytes, as often as the ways of *keys* keep them."""
    shared = "shared" in keys
    need, free = largest * (EXTENTS + shared), psutil.virtual_memory().available
    if need > free:
        raise BenchError(
            f"passing {show_size(largest)} takes {show_size(int(need))} of memory, and {show_size(free)} are free"
        )
    if shared and largest > (room := shutil.disk_usage(SHARED).free):
        raise BenchError(f"{show_size(largest)} of shared memory: {SHARED} has room for {show_size(room)}")
