"""The border of the real machine: whichever host call fails, it is Exhausted, says why, and leaves nothing."""

import array
import errno
import fcntl
import mmap
import os
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hwmodel.errors import ADVICE
from hwmodel.machine import Deed, Exhausted, do
from hwmodel.real.descriptor import RealDescriptor, own_numbers, pipe, ticket
from hwmodel.real.endpoint import RealEndpoint
from hwmodel.real.loop import Loop
from hwmodel.real.machine import RealMachine
from hwmodel.real.memory import RealBacking
from hwmodel.real.page import RealPage
from hwmodel.real.port import RealPort

pytestmark = pytest.mark.system
ERRORS = (
    *(errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EFBIG, errno.EPERM, errno.ETOOMANYREFS),
    errno.EIO,
)
HOST = [
    *(
        (os, name)
        for name in ("memfd_create", "ftruncate", "fchmod", "dup", "open", "eventfd", "pipe2", "pwrite")
    ),
    *((os, name) for name in ("pread", "lseek", "chmod", "rename")),
    (fcntl, "fcntl"),
    (mmap, "mmap"),
    (socket, "socket"),
]
"""What the border asks of the host."""


class Failing:
    """Counts host calls, and fails one of them."""

    def __init__(self, at: int, number: int) -> None:
        self.left, self.number = at, number
        self.made = 0

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def made(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any host call
            self.made += 1
            self.left -= 1
            if self.left == 0:
                raise OSError(self.number, os.strerror(self.number))
            return call(*arguments, **named)

        return made


@contextmanager
def failing(monkeypatch: pytest.MonkeyPatch, at: int, number: int) -> Iterator[Failing]:
    """Have the *at*-th host call fail."""
    made = Failing(at, number)
    with monkeypatch.context() as patch:
        for module, name in HOST:
            patch.setattr(module, name, made.wrap(getattr(module, name)))
        yield made


def backing() -> RealBacking:
    """Three frames, of which one was used before, with something in them."""
    made = RealBacking(0, 3, [range(4096, 8192)])
    os.pwrite(made._number, b"here", 0)
    return made


def copied(made: RealBacking) -> None:
    do(made.copy())
    made.forget_copy()


class Rig:
    """The objects on which the methods are tried."""

    def __init__(self, folder: Path) -> None:
        self.memory = backing()
        self.page = RealPage("page", 4096)
        self.loop, self.folder = Loop(), str(folder)
        self.number, self.numbers = RealDescriptor(os.eventfd(0)), own_numbers()
        self.cut: Deed = iter(())

    def seal(self) -> None:
        """Seal the memory; the old is cut at the end, which no host should refuse."""
        descriptor, self.cut = self.memory.seal()
        descriptor.close()

    def close(self) -> None:
        do(self.cut)
        do(self.memory.release())
        self.page.close()
        self.number.close()
        self.numbers.close()
        self.loop.close()


def close_all(*descriptors: RealDescriptor) -> None:
    for descriptor in descriptors:
        descriptor.close()


METHODS: dict[str, Callable[[Rig], object]] = {
    "carve": lambda _: do(RealBacking(0, 3).release()),
    "fill": lambda rig: do(rig.memory.fill()),
    "copy": lambda rig: copied(rig.memory),
    "seal": Rig.seal,
    "map": lambda rig: rig.memory.descriptor(writable=True).close(),
    "map read-only": lambda rig: rig.memory.descriptor(writable=False).close(),
    "page": lambda _: RealPage("page", 4096).close(),
    "map page": lambda rig: rig.page.descriptor(writable=False).close(),
    "end point": lambda rig: RealEndpoint(rig.loop, rig.folder, 1, lambda: None).close(),
    "duplicate": lambda rig: rig.number.duplicate().close(),
    "bell": lambda _: close_all(*pipe()),
    "ticket": lambda rig: close_all(*ticket(rig.numbers)),
    "spare": RealMachine.spare,  # type: ignore[dict-item]
}


HEARD = [(errno.EAGAIN, False), (errno.EPIPE, True), *((number, None) for number in ERRORS)]


def descriptors() -> set[str]:
    return {path.name for path in Path("/proc/self/fd").iterdir()}


@pytest.mark.parametrize("method", METHODS)
def test_every_host_call_fails(method: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each call in turn, with each error: Exhausted, which names it, nothing is left, and again it works."""
    rig, at, calls = Rig(tmp_path), 0, 1
    while at <= calls:
        for number in ERRORS:
            before = descriptors(), [*tmp_path.iterdir()], os.pread(rig.memory._number, 4, 0)
            with failing(monkeypatch, at, number) as host:
                if at:
                    with pytest.raises(Exhausted, match=errno.errorcode[number]):
                        METHODS[method](rig)
                else:
                    METHODS[method](rig)
                    calls = host.made
                    rig.close()
                    rig = Rig(tmp_path)
                    break
            assert before == (descriptors(), [*tmp_path.iterdir()], os.pread(rig.memory._number, 4, 0))
        at += 1
    METHODS[method](rig)
    rig.close()

    assert calls > 0


@pytest.mark.parametrize("number", ERRORS)
def test_errors_say_what_to_do(number: int) -> None:
    """An error in the table brings its advice, any other the host's text; both with the host's name for it."""
    from hwmodel.errors import exhausted  # noqa: PLC0415 - the function under test

    text = str(exhausted(number))

    assert text.endswith(f"[{errno.errorcode[number]}]")
    assert (ADVICE.get(number) or os.strerror(number)) in text


@pytest.mark.parametrize(("number", "told"), HEARD)
def test_what_the_host_counts_against_us(
    number: int,
    told: bool | None,  # noqa: FBT001 - what `send` returns
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A packet that has no room is the peer's fault, one that has no reader nobody's; every other error is ours."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    loop = Loop()
    port, given = RealPort(loop, ours), RealDescriptor(os.eventfd(0))

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hwmodel.real.port.send_packet", refuse)
    try:
        heard: bool | str = port.send(b"answer", [given])
    except Exhausted as exhausted:
        heard = str(exhausted)

    assert heard is told if told is not None else errno.errorcode[number] in str(heard)
    assert given.number == -1
    assert port.send(b"answer without")
    port.close()
    theirs.close()
    loop.close()


def test_a_held_port_is_not_read() -> None:
    """The peer's packets wait, and its end too, until the port is read again."""
    heard: list[bytes] = []

    class Supervisor:
        def trap(self, _body: object, data: bytes, _descriptors: object) -> None:
            heard.append(data)

        broke = trap

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    loop = Loop()
    port = RealPort(loop, ours)
    port.open(None, Supervisor(), lambda: heard.append(b"end"))  # type: ignore[arg-type]
    port.hold()
    theirs.send(b"one")
    theirs.close()
    loop.alarm(loop.now(), loop.stop)
    loop.run(loop.stop)
    held = list(heard)
    port.resume()
    port.resume()
    loop.alarm(loop.now(), lambda: loop.soon(loop.stop))
    loop.run(loop.stop)

    assert (held, heard[:1]) == ([], [b"one"])
    port.close()
    port.resume()
    loop.close()


def test_too_many_descriptors_are_closed(tmp_path: Path) -> None:
    """However many come with a packet, none stays open."""
    heard: list[object] = []

    class Supervisor:
        def trap(self, _body: object, _data: bytes, given: list[RealDescriptor]) -> None:
            heard.append(len(given))

        broke = trap

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    loop = Loop()
    port = RealPort(loop, ours)
    port.open(None, Supervisor(), lambda: None)  # type: ignore[arg-type]
    before = descriptors()
    with (tmp_path / "file").open("w") as file:
        numbers = array.array("i", [file.fileno()] * 253)
        theirs.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)])
    loop.alarm(loop.now(), loop.stop)
    loop.run(loop.stop)

    assert (heard, descriptors()) == ([0], before)
    port.close()
    theirs.close()
    loop.close()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 0
