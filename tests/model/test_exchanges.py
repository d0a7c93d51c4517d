"""Random exchanges of up to eight threads on the real system: everything they do follows from the model.

Calls, sends, waits, time-outs, aborts, deaths, propagation and redirection, by X.2 and by `libexo.ipc`, over a
transport that is sound, or delays, repeats and cuts messages. No message is delivered twice, lost without an
error, or delivered after its sender was told that it timed out. Where one was cut, these laws alone are checked.
Twenty thousand steps in a run of the tests, the same in each; a million in a soak, others each time.
"""

from collections.abc import Callable

import pytest

from libexo.ipc.peer import Peer
from libexo.transport.faulty import Odds
from tests.libexo.moves import Receiving
from tests.model import campaign as campaigns
from tests.model.campaign import KINDS, Refuted, campaign, judge
from tests.model.script import ANY, NIL, Ipc, Script, Taste

STEPS = {"plain": 8_000, "redirected": 3_000, "delayed": 3_000, "native": 3_000, "cut": 3_000}
FIRST_SEED = 1
SOAK_FACTOR = 50
"""A million steps in all."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_exchanges_follow_from_the_model(kind: str) -> None:
    """Thousands of random steps, and none that the model does not allow."""
    tally = campaign(FIRST_SEED, STEPS[kind], KINDS[kind])

    assert tally.steps >= STEPS[kind]


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kind", KINDS)
def test_a_million(kind: str, seed: int, record_property: Callable[[str, object], None]) -> None:
    """The same, fifty times as long, whatever time it takes."""
    tally = campaign(seed, STEPS[kind] * SOAK_FACTOR, KINDS[kind])

    record_property("scripts", tally.scripts)


def test_a_lost_claim_that_is_ignored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a receiver takes messages that were withdrawn, one is delivered after its sender's time."""
    claim = Receiving._claim
    monkeypatch.setattr(Receiving, "_claim", lambda self, arrival: claim(self, arrival) or True)
    monkeypatch.setattr(campaigns, "SHRINKING", 30)
    with pytest.raises(Refuted, match=r"(?s)delivered after its sender was told: TIMEOUT.*Script\("):
        campaign(1, 2_000, Taste(cancels=0))


def test_a_duplicate_that_is_taken_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where neither sequence numbers nor tickets are looked at, a message that was repeated is delivered twice."""
    monkeypatch.setattr(Peer, "last", property(lambda peer: 0, lambda peer, last: None))
    monkeypatch.setattr(Receiving, "_claim", lambda self, arrival: True)
    twice = (Ipc(NIL, ANY, receive=5_000), Ipc(NIL, ANY, receive=5_000))
    script = Script((0, 1), ((Ipc(1, NIL, payload=1),), twice), odds=Odds(duplicate=1.0))

    assert "delivered twice" in str(judge(script))
