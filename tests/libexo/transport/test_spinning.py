"""How long an end looks: by where the others woke, and by what looking brought."""

from libexo.transport.ring.line import ONCE
from libexo.transport.ring.spinning import OFTEN, Patience

LOOKS = 100


def test_who_shares_a_processor_sleeps_at_once_and_who_does_not_looks() -> None:
    """As soon as it is known, each time it changes."""
    patience = Patience(LOOKS)
    for shares in (True, False, True):
        patience.share(shares)
        assert len(patience.looks) == (1 if shares else LOOKS)
        assert patience.learns is not shares


def test_what_was_learned_apart_is_forgotten_together() -> None:
    """Who had looked in vain looks again when the other is on another processor anew."""
    patience = Patience(LOOKS)
    patience.slept(1, 2)
    assert patience.looks is ONCE
    patience.share(True)
    patience.share(False)
    assert len(patience.looks) == LOOKS


def test_looking_in_vain_is_done_less_and_less() -> None:
    """Of many sleeps in a row, one in OFTEN comes after a look."""
    patience, looked = Patience(LOOKS), 0
    for time in range(1, 10 * OFTEN):
        looked += patience.looks is not ONCE
        patience.slept(time, time)
    assert looked < 20


def test_who_never_looks_does_not_begin_to() -> None:
    """Wherever the others are."""
    patience = Patience(0)
    patience.share(True)
    patience.share(False)
    assert patience.looks is ONCE
    assert not patience.learns
