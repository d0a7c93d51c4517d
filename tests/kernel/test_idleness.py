"""What the owner of a slice is charged for sleep, where its machine tells at times only."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from kernel.idleness import UNKNOWN, Idleness

if TYPE_CHECKING:
    from hwmodel.machine import Body


class Told:
    """A presence that tells what a test says: since when it sleeps, and for how long by now."""

    def __init__(self) -> None:
        self.says = (0, 0)

    def absence(self, _now: int) -> tuple[int, int]:
        return self.says


@pytest.mark.parametrize("said", [(0, 10**15), (0, 0), (UNKNOWN, 0)])
def test_no_more_than_the_time_there_was(said: tuple[int, int]) -> None:
    """When the record begins anew, or was not there before, a slice is charged for none of the time before it."""
    presence = Told()
    body = SimpleNamespace(presence=presence, consumed=lambda: 0, activity=lambda: None)
    idle = Idleness()
    presence.says = (0, 5000)
    idle.begin(cast("Body", body), 1000, 0)
    presence.says = said
    idle.look(cast("Body", body), 3000)

    assert 0 <= idle.total <= 2000
