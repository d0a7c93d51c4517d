"""Counter: a server and its client. The interface is one class, and both sides come from it.

    exo serve examples.counter:CounterServer
    exo run examples/counter.py

The client finds the server by its name. Run it again, and the server still knows the total.
"""

import libexo
from libexo.stub import Interface, operation


class Counter(Interface, label=0x41, name="counter"):
    """The operations. Each has a number; its annotations are the types that travel."""

    @operation(1)
    def add(self, n: int) -> int: ...


class CounterServer(Counter):
    """The server implements the operations. Requests come one at a time, so it needs no lock."""

    total = 0

    def add(self, n: int) -> int:
        """Add to the total."""
        self.total += n
        return self.total


if __name__ == "__main__":
    counter = Counter.connect(libexo.attach())
    for number in (1, 20, 300):
        print(f"add {number:3}: the total is {counter.add(number)}")
