"""The slices of this program: when one began, how much of it is left, and critical sections.

    with slices.critical(env):          # the slice does not end in here, for a millisecond at most
        table.swap(old, new)
    if (slices.left(env) or 0) < 200_000:
        finish_later()

The kernel writes when a slice began and when it ends into the environment page, so that to look costs no trap. Who
would be told, asks: `on_begin`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from kernel.abi.kip import Page
from kernel.abi.messages import Label
from libexo.errors import ExoError

if TYPE_CHECKING:
    from kernel.abi.gate import Upcall
    from libexo.environment import Environment

LATE = 200_000
"""CPU time left of a slice, in ns, below which its end is due: the kernel ends it a little early."""


def begun(environment: "Environment") -> int:
    """Return how many slices have begun: another number than last time says that one has, meanwhile."""
    return environment.page[Page.SLICES]


def began(environment: "Environment") -> int:
    """Return when the slice began, in ns of the clock; 0: none has."""
    return environment.page[Page.SLICE_BEGAN]


def left(environment: "Environment") -> int | None:
    """Return the CPU time that is left of the slice, in ns; None: the program is under no plan.

    It is what the program has if others want the processor, and no less if nobody does. What it sleeps in the slice
    counts to it as well, and is not seen here.
    """
    ends = environment.page[Page.SLICE_ENDS]
    return max(ends - environment.host.consumed(), 0) if ends else None


@contextmanager
def critical(environment: "Environment") -> Iterator[None]:
    """Ask that the slice does not end in here. The kernel puts its end off once, for a millisecond.

    That is charged to the slices that follow. If the end was put off, the program gives up the processor at the end
    of the section. Sections may be nested, and entered by several threads: the outermost counts.
    """
    page = environment.page
    with environment.lock:
        page[Page.CRITICAL] += 1
    try:
        yield
    finally:
        with environment.lock:
            page[Page.CRITICAL] = outer = max(page[Page.CRITICAL] - 1, 0)
            overdue = not outer and page[Page.OVERDUE]
            if overdue:
                page[Page.OVERDUE] = 0
        if overdue and (left(environment) or 0) < LATE:  # otherwise another slice has begun since
            with suppress(ExoError):  # without a scheduler the kernel ends the slice all the same
                environment.services.switch(0)


def on_begin(environment: "Environment", handler: Callable[[int, int], object] | None) -> None:
    """Have *handler* called for slices that begin, with when it began and the CPU time at which it ends; None: not.

    It is called in the middle of any IPC, and then once for all slices since the last time. There is at most one
    message under way, so a program that does not look costs the kernel nothing.
    """

    def told(upcall: "Upcall") -> None:
        if handler is not None:
            environment.page[Page.SLICE_ASKED] = 1
            handler(*upcall.words)

    environment.on(Label.SLICE, told)
    environment.page[Page.SLICE_ASKED] = handler is not None
