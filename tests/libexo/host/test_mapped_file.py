"""Files of the host, mapped by a real process."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from libexo.host.memory import reserve, unmap
from libexo.host.memory import sync as sync_at
from libexo.host.real import RealHost

pytestmark = pytest.mark.system


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RealHost]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host = RealHost(ours, tmp_path)
    yield host
    host.gate.close()
    theirs.close()


def test_stores_are_in_the_file(host: RealHost, tmp_path: Path) -> None:
    """At once, and on its device when asked, from any byte on; the view to be read sees them."""
    file = tmp_path / "file"
    file.write_bytes(bytes(9000))
    view, other = (host.map_file(str(file), writable=writable) for writable in (True, False))
    view[4095:4097] = b"ab"
    host.sync(view, 4095, 2)

    assert (file.read_bytes()[4095:4097], bytes(other[4095:4097]), other.readonly) == (b"ab", b"ab", True)


def test_what_is_not_written_is_told(host: RealHost) -> None:
    """The host's error is raised, as where nothing lies any more."""
    address = reserve(4096)
    unmap(address, 4096)

    with pytest.raises(OSError, match="not all was written: Cannot allocate memory"):
        sync_at(address, 4096)
    with pytest.raises(ValueError, match="no mapping"):
        host.sync(memoryview(b"x"), 0, 1)


def test_a_file_with_holes(host: RealHost, tmp_path: Path) -> None:
    """It is mapped to be read; to be written, once it is filled. No descriptor stays."""
    file = tmp_path / "file"
    with file.open("wb") as made:
        made.truncate(1 << 16)
    assert len(host.map_file(str(file), writable=False)) == 1 << 16
    with pytest.raises(OSError, match="it has holes, for which there may be no room: fill them first"):
        host.map_file(str(file), writable=True)

    file.write_bytes(bytes(1 << 16))
    assert not host.map_file(str(file), writable=True).readonly
