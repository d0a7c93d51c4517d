"""Ping: calls pong, another environment (BENCH_PONG) or another thread of its own, and times the round trips."""

import os
from collections.abc import Callable
from functools import partial

import libexo
from bench.programs import pingpong_pong as pong
from bench.worker import Sampler, sweep, timed, work
from libexo import l4
from libexo.environment import Environment

LABEL = 0x7F
PATIENCE = 10.0
"""Seconds for the other environment to be there."""


def main() -> None:
    """Measure what is asked for until stdin ends."""
    environment = libexo.attach()
    threads: dict[str, int] = {}

    def start(name: str, loop: int) -> Sampler:
        threads[name], host_thread = _start(environment, loop)
        return lambda count: [host_thread] * count

    work(
        {
            **sweep("inter-ipc", lambda words: _round_trips(l4.Call, _other(environment), words)),
            **sweep("intra-ipc", lambda words: _round_trips(l4.Call, threads["intra-ipc"], words)),
            **sweep("intra-lipc", lambda words: _round_trips(l4.Lcall, threads["intra-lipc"], words)),
            "intra-ipc": partial(start, "intra-ipc", pong.LOOPS.index(l4.ReplyWait)),
            "intra-lipc": partial(start, "intra-lipc", pong.LOOPS.index(pong.lreply_wait)),
        }
    )


def _other(environment: Environment) -> int:
    return environment.lookup(os.environ["BENCH_PONG"], PATIENCE)


def _start(environment: Environment, loop: int) -> tuple[int, int]:
    """Start a second thread; return its id and what the host calls it."""
    thread = environment.start_thread(pong.second, loop)
    l4.LoadMR(0, l4.MsgTag.of())
    assert not l4.Call(thread).E
    return thread, l4.StoreMR(1)


def _round_trips(call: Callable[[int], l4.MsgTag], to: int, words: int) -> Sampler:
    """Return a sampler of round trips of *words* untyped words, which stay in the message registers throughout."""
    tag, values = l4.MsgTag.of(label=LABEL, u=words), tuple(range(1, words + 1))
    trips = timed(lambda: call(to))

    def sample(count: int) -> list[int]:
        l4.LoadMR(0, tag)
        l4.LoadMRs(1, values)
        samples = trips(count)
        # A failed call leaves another tag, and every later one would carry it on.
        if l4.StoreMR(0) != tag or l4.StoreMRs(1, words) != values:
            raise RuntimeError(
                f"{words} words came back otherwise (tag {l4.MsgTag()!r}, error {l4.ErrorCode()})"
            )
        return samples

    return sample


if __name__ == "__main__":
    main()
