"""Every transport does what `libexo.testing.conformance` says."""

import select
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from libexo.testing.conformance import CHECKS, Rig
from libexo.transport.base import Source
from libexo.transport.faulty import FaultyTransport
from libexo.transport.inprocess import Hub
from libexo.transport.zmq import ZmqTransport


def inprocess(_: Path) -> Rig:
    return Rig(Hub().transport)


def faultless(_: Path) -> Rig:
    hub = Hub()
    return Rig(lambda: FaultyTransport(hub.transport(), seed=1))


def zeromq(run: Path) -> Rig:
    (run / "ipc").mkdir()

    def listen(address: str) -> int:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as made:
            made.bind(str(run / "ipc" / address))
            made.listen(0)
            return made.detach()

    return Rig(lambda: ZmqTransport(run), listen, pause)


def pause(sources: Sequence[Source]) -> None:
    """Wait until one has something, for a little at most: ZeroMQ's descriptors tell of changes only."""
    select.select(sources, [], [], 0.02)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("make", [inprocess, faultless, zeromq], ids=lambda make: make.__name__)
def test_transport(make: Callable[[Path], Rig], check: Callable[[Rig], None], tmp_path: Path) -> None:
    """The transport passes the check."""
    rig = make(tmp_path)
    try:
        check(rig)
    finally:
        rig.close()
