"""Rings: the same calls through memory that client and server share, chosen by one word.

    exo run examples/rings.py

The program starts this file a second time, as the server, and calls it over ZeroMQ and over a ring. Only the word
`transport` differs: the interface, the server and the results are the same. The client pays for the ring's memory,
which is given back when the binding ends. `exo bench rings` tells what that buys.
"""

import sys
from pathlib import Path

import libexo
from kernel.abi.program import ProgramKind
from libexo.environment import Environment
from libexo.stub import Interface, operation, serve
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec


class Counter(Interface, label=0x41, name="rings-counter"):
    """The counter of counter.py, which may run beside it, and one more operation, without an answer."""

    @operation(1)
    def add(self, n: int) -> int: ...

    @operation(2, oneway=True)
    def note(self, n: int) -> None: ...


class CounterServer(Counter):
    """It cannot tell over which transport a request came, and need not."""

    total = 0

    def add(self, n: int) -> int:
        """Add to the total."""
        self.total += n
        return self.total

    def note(self, n: int) -> None:
        """Add to the total; the client has gone on already."""
        self.total += n


def count(counter: Counter) -> list[int]:
    """Have the counter count, and leave it at 0."""
    totals = [counter.add(n) for n in (1, 20, 300)]
    for n in range(1000):
        counter.note(n)
    totals.append(counter.add(0))  # earlier requests are done earlier
    counter.add(-totals[-1])
    return totals


def compare(env: Environment) -> None:
    """Start the server, count over both, and print the results."""
    me = str(Path(__file__).absolute())
    server = Processes.connect(env).spawn(
        ProgramSpec(ProgramKind.PYTHON, (me, "server"), name=Counter.default_name)
    )
    env.lookup(Counter.default_name, timeout=5)
    memory = Memory.connect(env)
    free = memory.statistics().free

    results = {name: count(Counter.connect(env, transport=name)) for name in ("zmq", "ring")}
    for name, totals in results.items():
        print(f"{name:4}", *totals)
    print(f"the same: {results['zmq'] == results['ring']}")
    print(f"the ring is paid for with {free - memory.statistics().free} pages")

    Processes.connect(env).kill(server)


if __name__ == "__main__":
    if "server" in sys.argv:
        serve(CounterServer(), environment=libexo.attach())
    else:
        compare(libexo.attach())
