"""The counter of the design: an interface, and its server."""

from libexo.stub import Interface, operation


class Counter(Interface, label=0x41, name="tour-counter"):
    """A total to add to."""

    @operation(1)
    def add(self, n: int) -> int: ...  # type: ignore[empty-body] # the stub has it


class CounterServer(Counter):
    """Serves `Counter`."""

    total = 0

    def add(self, n: int) -> int:
        """Add."""
        self.total += n
        return self.total
