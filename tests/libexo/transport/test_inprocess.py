"""The in-process transport's properties beyond those of all transports."""

import threading

import pytest

from libexo.transport.inprocess import Hub, InprocessChannel, InprocessInbox, Listener

TOKEN = b"t" * 16


def open_inbox(hub: Hub) -> InprocessInbox:
    return hub.transport().inbox(lambda token, why: None)


def pair(hub: Hub) -> tuple[InprocessChannel, InprocessInbox]:
    channel, inbox = hub.transport().channel("a", TOKEN), open_inbox(hub)
    inbox.admit(TOKEN, Listener("a"), 1)
    return channel, inbox


def test_what_a_closed_inbox_had_is_lost_and_counted() -> None:
    """A receiver that ends loses what it had not taken, and hears no more."""
    hub = Hub()
    channel, inbox = pair(hub)
    channel.send([b"lost"])
    inbox.close()
    channel.send([b"for nobody"])
    assert (hub.lost, inbox.receive()) == (1, None)


def test_one_connection_an_address() -> None:
    """A second channel to an address is an error while nobody has admitted the first."""
    hub = Hub()
    hub.transport().channel("a", TOKEN)
    with pytest.raises(ValueError, match="to a already"):
        hub.transport().channel("a", TOKEN)


def test_who_cares_is_told_of_connections() -> None:
    """The machine is told the address of each channel that is opened."""
    hub, told = Hub(), list[str]()
    hub.connected = told.append
    hub.transport().channel("a", TOKEN)
    assert told == ["a"]


def test_sent_before_close_arrives() -> None:
    """Closing a channel does not take back what was sent; the answer finds nobody."""
    hub = Hub()
    channel, inbox = pair(hub)
    channel.send([b"last"])
    channel.close()
    assert channel.send([b"too late"]) is False
    assert (inbox.receive(), inbox.send(TOKEN, [b"answer"])) == ((TOKEN, [b"last"]), False)


def test_what_nobody_admitted_goes_with_its_sender() -> None:
    """A sender that ends before it is admitted takes its messages along; an inbox that admits it gets nothing."""
    hub = Hub()
    channel, inbox = hub.transport().channel("a", TOKEN), open_inbox(hub)
    channel.send([b"x"])
    waited = hub.queues()
    channel.close()
    inbox.admit(TOKEN, Listener("a"), 1)
    assert (waited, hub.queues(), hub.lost) == (["a"], [], 1)
    assert (inbox.receive(), inbox.send(TOKEN, [b"answer"])) == (None, False)


def test_ready_follows_the_queues() -> None:
    """A key is ready while its end has something to receive, and not after it closed."""
    hub = Hub()
    channel, inbox = pair(hub)
    channel.send([b"x"])
    assert (hub.ready(inbox.fileno()), hub.ready(channel.fileno())) == (True, False)
    inbox.receive()
    inbox.send(TOKEN, [b"y"])
    assert (hub.ready(inbox.fileno()), hub.ready(channel.fileno())) == (False, True)
    channel.close()
    assert not hub.ready(channel.fileno())


@pytest.mark.parametrize("close", ["inbox", "peer"])
def test_descriptors_close_with_their_binding(close: str) -> None:
    """An inbox keeps the listening socket of each binding, until that or itself is closed."""
    hub, listener = Hub(), Listener("a")
    hub.transport().channel("a", TOKEN)
    inbox = open_inbox(hub)
    inbox.admit(TOKEN, listener, 1)
    before = listener.closed
    inbox.close() if close == "inbox" else inbox.close_peer(TOKEN)
    assert (before, listener.closed) == (False, True)


def test_transport_closes_what_it_opened() -> None:
    """Nothing of a party is left at the hub after its transport closed."""
    hub = Hub()
    transport = hub.transport()
    transport.channel("a", TOKEN)
    transport.inbox(lambda token, why: None)
    transport.close()
    assert hub.open_ends() == 0


def test_forgotten_address_drops_its_queue() -> None:
    """When an end point goes, what waited there goes too."""
    hub = Hub()
    hub.transport().channel("a", TOKEN).send([b"x"])
    hub.forget("a")
    assert (hub.lost, hub.queues()) == (1, [])


def test_threads_may_share_a_hub() -> None:
    """Senders on several host threads lose nothing."""
    hub = Hub(bound=10_000)
    inbox = open_inbox(hub)
    channels = [hub.transport().channel(str(n), bytes([n]) * 16) for n in range(4)]
    for n in range(4):
        inbox.admit(bytes([n]) * 16, Listener(str(n)), n)
    threads = [threading.Thread(target=lambda c=c: [c.send([b"x"]) for _ in range(500)]) for c in channels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(inbox.receive() is not None for _ in range(2_001)) == 2_000
