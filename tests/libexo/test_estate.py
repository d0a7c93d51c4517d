"""An estate: state that outlives its server, whatever moment that dies in."""

import pytest

from libexo.errors import ExoError
from libexo.estate import Estate

SIZE = 256


def test_what_was_stored_is_found() -> None:
    """A successor finds the last state stored; before the first there is none."""
    memory = memoryview(bytearray(SIZE))
    first = Estate(memory)
    empty = (bool(first), first.load())
    for n in range(5):
        first.store(b"state %d" % n)

    assert empty == (False, b"")
    assert Estate(memory).load() == b"state 4"


@pytest.mark.parametrize("refused", [0, 1])
def test_killed_in_the_middle_of_a_write(refused: int) -> None:
    """Whatever byte of a write was the last, the successor finds the new state or the one before."""
    memory = bytearray(SIZE)
    estate = Estate(memoryview(memory))
    estate.store(b"old")
    before = bytes(memory)
    for _ in range(refused):
        with pytest.raises(ExoError):
            estate.store(bytes(SIZE))
    estate.store(b"new state")
    changed = [at for at in range(SIZE) if memory[at] != before[at]]
    for cut in range(len(changed) + 1):
        torn = bytearray(before)
        for at in changed[:cut]:
            torn[at] = memory[at]
        assert Estate(memoryview(torn)).load() in (b"old", b"new state"), cut


def test_too_much_state() -> None:
    """State that does not fit is refused, and the one before stays."""
    estate = Estate(memoryview(bytearray(SIZE)))
    estate.store(b"kept")
    with pytest.raises(ExoError, match="the estate holds"):
        estate.store(bytes(SIZE))

    assert estate.load() == b"kept"


def test_a_state_after_one_refused() -> None:
    """After a refused state the next goes on where it should, and a successor finds it."""
    memory = memoryview(bytearray(SIZE))
    estate = Estate(memory)
    estate.store(b"one")
    with pytest.raises(ExoError):
        estate.store(bytes(SIZE))
    estate.store(b"two")

    assert (estate.load(), Estate(memory).load()) == (b"two", b"two")
