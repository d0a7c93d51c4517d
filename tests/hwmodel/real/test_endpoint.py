"""End points of bindings on the real machine: one connection, under a name nobody can find."""

import errno
import gc
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from hwmodel.machine import Exhausted
from hwmodel.real import descriptor
from hwmodel.real.endpoint import RealEndpoint
from hwmodel.real.loop import Loop


class Place:
    """A directory for end points, and a loop that hears of connections."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.loop = Loop()
        self.told: list[str] = []
        self._serial = 0

    def listen(self) -> RealEndpoint:
        self._serial += 1
        endpoint = RealEndpoint(
            self.loop, str(self.directory), self._serial, lambda: self.told.append(endpoint.name)
        )
        return endpoint

    def connect(self, name: str) -> socket.socket:
        end = socket.socket(socket.AF_UNIX)
        end.setblocking(False)
        try:
            end.connect(str(self.directory / name))
        except OSError:
            end.close()
            raise
        return end

    def turn(self) -> None:
        """Let the loop hear what there is."""
        self.loop.alarm(self.loop.now(), self.loop.stop)
        self.loop.run(lambda: None)

    def names(self) -> list[str]:
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.loop.close()


def open_descriptors() -> int:
    gc.collect()
    return int(psutil.Process().num_fds())


def refused(call: Callable[[], socket.socket]) -> str:
    with pytest.raises(OSError) as caught:  # noqa: PT011 - which one is compared
        call()
    return errno.errorcode[caught.value.errno or 0]


def test_one_connection(place: Place) -> None:
    """The first to connect gets in, all later ones do not; the listener is told once, and accepts that one."""
    endpoint = place.listen()
    one = place.connect(endpoint.name)
    second = refused(lambda: place.connect(endpoint.name))
    place.turn()
    place.turn()
    late = refused(lambda: place.connect(endpoint.name))
    taken = endpoint.take()
    with one, socket.socket(fileno=os.dup(taken.number)) as listener:
        accepted, _ = listener.accept()
        with accepted:
            one.send(b"x")

            assert accepted.recv(9) == b"x"
            with pytest.raises(BlockingIOError):
                listener.accept()
    assert (second, late, place.told) == ("EAGAIN", "ENOENT", [endpoint.name])


def test_the_name_goes_with_the_connection(place: Place) -> None:
    """It is there while nobody has connected, for everybody to connect to, and gone before anybody is told."""
    endpoint = place.listen()
    before = place.names(), (place.directory / endpoint.name).stat().st_mode & 0o777
    with place.connect(endpoint.name):
        place.turn()
        after = place.names()
        endpoint.close()

    assert (before, after) == (([endpoint.name], 0o666), [])


def test_what_the_host_shows_is_not_the_name(place: Place) -> None:
    """Everybody can read under what paths sockets were bound: the name is not among them."""
    endpoint = place.listen()
    shown = Path("/proc/net/unix").read_text(encoding="ascii", errors="replace")
    endpoint.close()

    assert str(place.directory) in shown
    assert endpoint.name not in shown


def test_names_are_long_and_differ(place: Place) -> None:
    """Each has 16 bytes nobody can guess."""
    endpoints = [place.listen() for _ in range(20)]
    names = {endpoint.name for endpoint in endpoints}
    for endpoint in endpoints:
        endpoint.close()

    assert (len(names), {len(name) for name in names}, place.names()) == (20, {22}, [])


def test_one_that_is_not_wanted_any_more(place: Place) -> None:
    """Closing it twice is harmless; nobody is told of it, and a connected peer is hung up on."""
    endpoint = place.listen()
    with place.connect(endpoint.name) as end:
        endpoint.close()
        endpoint.close()
        place.turn()
        end.setblocking(True)

        with pytest.raises(ConnectionResetError):
            end.recv(1)
    assert (place.told, place.names()) == ([], [])


def test_a_host_with_no_descriptors_left(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, with no name and no descriptor left over."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptor.RESERVE, 0))
    before = open_descriptors()
    with pytest.raises(Exhausted):
        place.listen()

    assert (place.names(), open_descriptors()) == ([], before)


def test_a_directory_that_takes_no_name(place: Place) -> None:
    """Where the host makes no name, it is refused, with its reason, and nothing is left."""
    before = open_descriptors()
    with pytest.raises(Exhausted, match="No such file"):
        RealEndpoint(place.loop, str(place.directory / "missing"), 1, lambda: None)

    assert open_descriptors() == before
