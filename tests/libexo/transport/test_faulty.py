"""The faulty transport does to messages what its seed says, and counts it."""

from collections.abc import Callable

import pytest

from libexo.transport.base import Channel, Inbox
from libexo.transport.faulty import FaultyTransport, Odds
from libexo.transport.inprocess import Hub, Listener

TOKEN = b"t" * 16


def pair(odds: Odds, seed: int = 0, **options: object) -> tuple[FaultyTransport, Channel, Inbox]:
    hub = Hub()
    faulty = FaultyTransport(hub.transport(), seed=seed, odds=odds, **options)  # type: ignore[arg-type]
    channel, inbox = faulty.channel("a", TOKEN), hub.transport().inbox(lambda token, why: None)
    inbox.admit(TOKEN, Listener("a"), 1)
    return faulty, channel, inbox


def everything(inbox: Inbox) -> list[list[bytes]]:
    found = []
    while (message := inbox.receive()) is not None:
        found.append(message[1])
    return found


def history(seed: int) -> list[str]:
    faulty, channel, _ = pair(Odds(drop=0.2, delay=0.2, duplicate=0.2, cut=0.2), seed)
    for number in range(200):
        channel.send([b"%d" % number, b"tail"])
    return faulty.fate.history


def test_seed_decides() -> None:
    """Two runs of one seed do the same to the same messages; another seed does something else."""
    assert history(1) == history(1)
    assert history(1) != history(2)


def test_every_fault_happens_about_as_often_as_asked() -> None:
    """With one fifth each, each fate befalls a fifth of the messages, more or less."""
    counts = {fate: history(3).count(fate) for fate in set(history(3))}
    assert set(counts) == {"passed", "dropped", "delayed", "duplicated", "cut"}
    assert all(20 <= count <= 60 for count in counts.values())


def test_drop() -> None:
    """A dropped message was sent, as far as its sender knows, and never arrives."""
    faulty, channel, inbox = pair(Odds(drop=1))
    assert channel.send([b"x"])
    assert (everything(inbox), faulty.fate.did["dropped"]) == ([], 1)


def test_duplicate() -> None:
    """A duplicated message arrives twice."""
    _, channel, inbox = pair(Odds(duplicate=1))
    channel.send([b"x"])
    assert everything(inbox) == [[b"x"], [b"x"]]


def test_delay_until_later_operations() -> None:
    """A delayed message arrives whole after some operations of its sender, and is not held any more."""
    faulty, channel, inbox = pair(Odds(delay=1), operations=4)
    channel.send([b"x", b"y"])
    assert everything(inbox) == []
    for _ in range(4):
        channel.receive()
    assert (everything(inbox), faulty.held) == ([[b"x", b"y"]], 0)


def test_delay_on_a_clock() -> None:
    """With a clock, a delayed message arrives when its alarm goes off."""
    alarms: list[tuple[int, Callable[[], None]]] = []
    later = lambda delay, call: alarms.append((delay, call))  # noqa: E731 - shorter than a function
    _, channel, inbox = pair(Odds(delay=1), later=later, nanoseconds=50)
    channel.send([b"x"])
    [(delay, call)] = alarms
    assert (1 <= delay <= 50, everything(inbox)) == (True, [])
    call()
    assert everything(inbox) == [[b"x"]]


@pytest.mark.parametrize("seed", range(20))
def test_cut(seed: int) -> None:
    """A cut message lacks frames at its end, or bytes at the end of one frame."""
    _, channel, inbox = pair(Odds(cut=1), seed)
    channel.send([b"head", b"body", b"tail"])
    [frames] = everything(inbox)
    assert frames != [b"head", b"body", b"tail"]
    assert all(
        whole.startswith(part) for whole, part in zip([b"head", b"body", b"tail"], frames, strict=False)
    )


@pytest.mark.parametrize("odds", [{"drop": -0.1}, {"drop": 0.6, "cut": 0.6}])
def test_odds_are_probabilities(odds: dict[str, float]) -> None:
    """Probabilities below zero, or beyond one together, are an error."""
    with pytest.raises(ValueError, match="probabilities"):
        Odds(**odds)


def test_held_back_when_its_channel_closes() -> None:
    """It is lost, as what a socket has not sent: nothing is sent by a channel that is closed."""
    faulty, channel, inbox = pair(Odds(delay=1), operations=4)
    channel.send([b"x"])
    channel.close()
    for _ in range(4):
        faulty.operate()

    assert (everything(inbox), faulty.held) == ([], 0)


def test_held_back_when_the_connection_of_a_peer_closes() -> None:
    """An answer goes out first, as from a socket that lingers."""
    hub = Hub()
    faulty = FaultyTransport(hub.transport(), odds=Odds(delay=1), later=lambda span, put: None)
    channel, inbox = hub.transport().channel("a", TOKEN), faulty.inbox(lambda token, why: None)
    inbox.admit(TOKEN, Listener("a"), 1)
    inbox.send(TOKEN, [b"x"])
    assert channel.receive() is None
    inbox.close_peer(TOKEN)

    assert (channel.receive(), faulty.held) == ([b"x"], 0)
