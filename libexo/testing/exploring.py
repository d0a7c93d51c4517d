"""Exploration: a small scenario, run in every order its steps can happen."""

from collections.abc import Callable

Choose = Callable[[int], int]


class TooManyOrders(AssertionError):
    """The scenario has more orders than were allowed."""


def explore(scenario: Callable[[Choose], object], limit: int = 10_000) -> int:
    """Call *scenario* once for every sequence of choices it can be given; return how often.

    *scenario* must do the same whenever the choices are the same: pass them on to `simulated(choose=...)`.
    An exception of the scenario is raised with a note that names the choices that led to it.
    """
    prefix: list[int] = []
    for run in range(1, limit + 1):
        taken = _run(scenario, prefix)
        while taken and taken[-1][0] + 1 >= taken[-1][1]:
            taken.pop()
        if not taken:
            return run
        prefix = [choice for choice, _ in taken]
        prefix[-1] += 1
    raise TooManyOrders(f"more than {limit} orders: make the scenario smaller")


def replay(choices: list[int]) -> Choose:
    """Return a chooser that makes *choices*, as a failed exploration named them, then always the first."""
    return _Script(choices).choose


class _Script:
    """Makes given choices, then the first; notes each with the number of alternatives."""

    def __init__(self, choices: list[int]) -> None:
        self._choices = choices
        self.taken: list[tuple[int, int]] = []

    def choose(self, count: int) -> int:
        at = len(self.taken)
        choice = self._choices[at] if at < len(self._choices) else 0
        self.taken.append((choice, count))
        return choice


def _run(scenario: Callable[[Choose], object], prefix: list[int]) -> list[tuple[int, int]]:
    script = _Script(prefix)
    try:
        scenario(script.choose)
    except BaseException as error:
        error.add_note(f"with choices {[choice for choice, _ in script.taken]}: see libexo.testing.replay")
        raise
    return script.taken
