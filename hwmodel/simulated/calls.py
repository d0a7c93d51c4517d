"""Host calls of the simulated machine: each has a name and is counted, and any can be made to fail.

The names are those of the real machine. A method of the machine makes its host calls here before it
changes anything, or undoes what it had changed.
"""

from collections import Counter

from hwmodel.errors import exhausted
from hwmodel.failures import Failures


class HostCalls:
    """Counts calls, and fails those that are due."""

    def __init__(self, failures: Failures | None = None) -> None:
        """Fail the calls that *failures* plans."""
        self.failures = failures or Failures()
        self.count = 0
        """The number of calls."""
        self.names: list[str] = []
        """Their names, in order, if a test listens."""
        self.listening = False
        self._of_name: Counter[str] = Counter()

    def make(self, *names: str) -> None:
        """Make calls. Raises Exhausted when one of them fails."""
        for name in names:
            number = self.ask(name)
            if number:
                raise exhausted(number)

    def ask(self, name: str) -> int:
        """Make a call; return the error number with which it fails, 0: it does not."""
        self.count += 1
        self._of_name[name] += 1
        if self.listening:
            self.names.append(name)
        return self.failures.due_call(name, self.count, self._of_name[name])
