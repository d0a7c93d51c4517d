"""Which family asked for what, on the simulated machine."""

import pytest

from libexo.environment import Environment
from servers.memory import asked
from servers.memory.api import Memory
from servers.memory.asked import Asked
from tests.servers.rig import command, servers


def test_what_is_carved_anew_is_forgotten() -> None:
    """Frames that are asked for again were free: their earlier owner, of all or a part, has them no more."""
    with servers() as system:

        def look(env: Environment) -> tuple[int, ...]:
            known = Asked(env)
            known.add(7, 10, 10)
            known.add(7, 20, 10)
            known.add(7, 30, 10)
            before = len(known)
            known.add(8, 19, 2)
            between = len(known)
            known.add(0, 0, 100)
            return before, between, len(known)

        assert command(system, look) == (3, 2, 0)


def test_what_is_free_is_not_known_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many extents, those that are free are forgotten, and those whose families have ended."""
    monkeypatch.setattr(asked, "_SWEEP", 8)
    with servers() as system:

        def look(env: Environment) -> int:
            extent = Memory.connect(env).allocate(1)
            known = Asked(env)
            known.add(0xDEAD, extent.first, 1)
            for first in range(100, 108):
                known.add(7, first, 1)
            return len(known)

        assert command(system, look) == 0
