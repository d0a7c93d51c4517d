"""How long an end looks: by where the others woke, and by what looking brought."""

from libexo.transport.ring.duplex import ONCE
from libexo.transport.ring.spinning import OFTEN, SpinPolicy

LOOKS = 100


def test_who_shares_a_processor_sleeps_at_once_and_who_does_not_looks() -> None:
    """As soon as it is known, each time it changes."""
    spinning = SpinPolicy(LOOKS)
    for shares in (True, False, True):
        spinning.share(shares)
        assert len(spinning.spins) == (1 if shares else LOOKS)
        assert spinning.learns is not shares


def test_what_was_learned_apart_is_forgotten_together() -> None:
    """A side that spun without success spins again when the other is on another processor again."""
    spinning = SpinPolicy(LOOKS)
    spinning.slept(1, 2)
    assert spinning.spins is ONCE
    spinning.share(True)
    spinning.share(False)
    assert len(spinning.spins) == LOOKS


def test_looking_in_vain_is_done_less_and_less() -> None:
    """Of many sleeps in a row, one in OFTEN comes after a look."""
    spinning, looked = SpinPolicy(LOOKS), 0
    for time in range(1, 10 * OFTEN):
        looked += spinning.spins is not ONCE
        spinning.slept(time, time)
    assert looked < 20


def test_who_never_looks_does_not_begin_to() -> None:
    """Wherever the others are."""
    spinning = SpinPolicy(0)
    spinning.share(True)
    spinning.share(False)
    assert spinning.spins is ONCE
    assert not spinning.learns
