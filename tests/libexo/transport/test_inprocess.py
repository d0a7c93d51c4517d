"""What the in-process transport does beyond what all transports do."""

import io
import threading

import pytest

from libexo.transport.inprocess import Hub

TOKEN = b"t" * 16


def test_messages_wait_for_a_receiver() -> None:
    """What is sent before anybody listens waits, as in a listening socket's backlog."""
    hub = Hub()
    assert hub.transport().channel(1, TOKEN).send([b"early"])
    assert hub.transport().inbox(1, None).receive() == (TOKEN, [b"early"])


def test_what_a_closed_inbox_had_is_lost_and_counted() -> None:
    """A receiver that ends loses what it had not taken; what is sent later waits for its successor."""
    hub = Hub()
    channel, inbox = hub.transport().channel(1, TOKEN), hub.transport().inbox(1, None)
    channel.send([b"lost"])
    inbox.close()
    channel.send([b"kept"])
    assert hub.lost == 1
    assert hub.transport().inbox(1, None).receive() == (TOKEN, [b"kept"])


def test_one_inbox_a_thread() -> None:
    """A second inbox for a number is an error, as a second listener would be."""
    hub = Hub()
    hub.transport().inbox(1, None)
    with pytest.raises(ValueError, match="thread 1"):
        hub.transport().inbox(1, None)


def test_sent_before_close_arrives() -> None:
    """Closing a channel does not take back what was sent; the answer finds nobody."""
    hub = Hub()
    channel, inbox = hub.transport().channel(1, TOKEN), hub.transport().inbox(1, None)
    channel.send([b"last"])
    channel.close()
    assert channel.send([b"too late"]) is False
    assert (inbox.receive(), inbox.send(TOKEN, [b"answer"])) == ((TOKEN, [b"last"]), False)


def test_what_nobody_listened_to_goes_with_its_sender() -> None:
    """A sender that ends before anybody listens takes its messages along; those of others stay."""
    hub = Hub()
    gone, other = hub.transport().channel(1, TOKEN), hub.transport().channel(1, b"o" * 16)
    for channel in (gone, other, gone):
        channel.send([b"x"])
    gone.close()
    inbox = hub.transport().inbox(1, None)
    assert (hub.lost, inbox.receive(), inbox.receive()) == (2, (b"o" * 16, [b"x"]), None)


def test_ready_follows_the_queues() -> None:
    """A key is ready while its end has something to receive, and not after it closed."""
    hub = Hub()
    channel, inbox = hub.transport().channel(1, TOKEN), hub.transport().inbox(1, None)
    channel.send([b"x"])
    assert (hub.ready(inbox.fileno()), hub.ready(channel.fileno())) == (True, False)
    inbox.receive()
    inbox.send(TOKEN, [b"y"])
    assert (hub.ready(inbox.fileno()), hub.ready(channel.fileno())) == (False, True)
    channel.close()
    assert not hub.ready(channel.fileno())


def test_transport_closes_what_it_opened() -> None:
    """Nothing of a party is left at the hub after its transport closed, its descriptor included."""
    hub, descriptor = Hub(), io.BytesIO()
    transport = hub.transport()
    transport.channel(1, TOKEN)
    transport.inbox(2, descriptor)
    transport.close()
    assert (hub.open_ends(), descriptor.closed) == (0, True)


def test_forgotten_number_drops_its_queue() -> None:
    """When an end point goes, what waited there goes too."""
    hub = Hub()
    hub.transport().channel(1, TOKEN).send([b"x"])
    hub.forget(1)
    assert (hub.lost, hub.transport().inbox(1, None).receive()) == (1, None)


def test_threads_may_share_a_hub() -> None:
    """Senders on several host threads lose nothing."""
    hub = Hub(bound=10_000)
    inbox = hub.transport().inbox(1, None)
    channels = [hub.transport().channel(1, bytes([n]) * 16) for n in range(4)]
    threads = [threading.Thread(target=lambda c=c: [c.send([b"x"]) for _ in range(500)]) for c in channels]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(inbox.receive() is not None for _ in range(2_001)) == 2_000
