"""Steps that wait: a generator yields a *request* for what it waits for, and goes on with the outcome.

What is done for an object is such a generator, so that the pager serves others meanwhile.
"""

from collections.abc import Callable, Generator

from libexo.errors import TrapRefused

Request = Callable[[Callable[[int], object]], object]
"""Begins something, and has what it is given called with its outcome."""
Steps = Generator[Request, int, None]


class Walk:
    """Takes steps, one after another, whenever there are any to take."""

    def __init__(
        self, begin: Callable[[], Steps], lost: Callable[[], object], rested: Callable[[], object]
    ) -> None:
        """Take the steps that *begin* returns.

        *lost* is called when a step finds that its memory was taken, *rested* when nothing is under way any more
        after `stop`.
        """
        self._begin, self._lost, self._rested = begin, lost, rested
        self._steps: Steps | None = None
        self._stopped = self._begins = self._waits = False
        self._outcome: int | None = None

    def go(self) -> None:
        """Begin, unless it is under way, or stopped."""
        if self._steps is None and not self._stopped:
            self._steps = self._begin()
            self._advance(0, begins=True)

    def stop(self) -> None:
        """Take no more steps; what is under way ends first."""
        self._stopped = True
        if not self._waits:
            self._rested()

    def _advance(self, outcome: int, *, begins: bool = False) -> None:
        """Go on with *outcome* until something must be waited for, or all is done."""
        steps = self._steps
        assert steps is not None
        while not self._stopped:
            try:
                request = next(steps) if begins else steps.send(outcome)
            except StopIteration:
                self._steps = None
                return
            except (TrapRefused, ValueError):  # it was taken; on the simulated machine accesses raise
                self._steps = None
                self._lost()
                return
            begins, found = False, self._ask(request)
            if found is None:
                self._waits = True
                return
            outcome = found

    def _ask(self, request: Request) -> int | None:
        """Begin what is asked for; return its outcome, if it has one already."""
        self._begins, self._outcome = True, None
        request(self._done)
        self._begins = False
        return self._outcome

    def _done(self, outcome: int) -> None:
        if self._begins:
            self._outcome = outcome
            return
        self._waits = False
        if self._stopped:
            self._rested()
        else:
            self._advance(outcome)
