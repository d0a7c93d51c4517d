"""The standard streams of a program that is run: whose flags are whose."""

import os
import pty
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from fcntl import F_GETFL, F_SETFL, fcntl

import pytest

from exo import streams
from exo.streams import Streams

Pair = tuple[int, int]


@contextmanager
def standing(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> Iterator[Streams]:
    """Streams that are *numbers*, which are closed after."""
    monkeypatch.setattr(streams, "STREAMS", numbers)
    made = Streams()
    try:
        yield made
    finally:
        made.given()
        for number in numbers:
            with suppress(OSError):
                os.close(number)


def sockets() -> Pair:
    ends = socket.socketpair()
    return ends[0].detach(), ends[1].detach()


def file() -> Pair:
    number, path = tempfile.mkstemp()
    os.unlink(path)  # noqa: PTH108
    return number, os.dup(number)


def is_blocking(number: int) -> bool:
    return not fcntl(number, F_GETFL) & os.O_NONBLOCK


def change(number: int) -> None:
    fcntl(number, F_SETFL, fcntl(number, F_GETFL) ^ os.O_NONBLOCK)


@pytest.mark.parametrize("make", [os.pipe, pty.openpty])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_and_a_terminal_are_opened_anew(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], Pair], which: int, *, blocking: bool
) -> None:
    """The program's changes to its flags are not made to ours; it starts with ours."""
    pair = make()
    ours = pair[which] if make is os.pipe else pair[1]
    os.set_blocking(ours, blocking)
    with standing(monkeypatch, *pair) as made:
        theirs = made.descriptors[pair.index(ours)]
        begins = is_blocking(theirs)
        change(theirs)

        assert theirs != ours
        assert (begins, is_blocking(theirs), is_blocking(ours)) == (blocking, not blocking, blocking)
        assert os.fstat(theirs).st_ino == os.fstat(ours).st_ino


@pytest.mark.parametrize("make", [sockets, file])
def test_others_are_shared_and_put_back(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Pair]) -> None:
    """A socket and a file cannot be opened again; when the program has ended they have their old flags."""
    with standing(monkeypatch, *make()) as made:
        given = made.descriptors
        ours, other = made.roles
        change(ours)
        made.restore()

        assert given == [ours, other]
        assert is_blocking(ours)


def test_what_cannot_be_opened_anew_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal or a pipe of another's, say."""

    def refuse(*_: object) -> int:
        raise PermissionError

    reading, writing = os.pipe()
    monkeypatch.setattr(os, "open", refuse)
    with standing(monkeypatch, reading, writing) as made:
        given = made.descriptors
        change(reading)
        made.restore()

        assert (given, is_blocking(reading)) == ([reading, writing], True)


def test_the_end_of_a_pipe_is_still_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reopened streams are closed when the program has them: a reader sees the end as before."""
    reading, writing = os.pipe()
    with standing(monkeypatch, writing) as made:
        os.write(made.descriptors[0], b"said")
        made.given()
        os.close(writing)
        said = os.read(reading, 9), os.read(reading, 9)

    os.close(reading)
    assert said == (b"said", b"")


def test_a_pipe_whose_other_end_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened again without waiting, and is at its end."""
    reading, writing = os.pipe()
    os.close(writing)
    with standing(monkeypatch, reading) as made:
        [theirs] = made.descriptors

        assert (theirs != reading, os.read(theirs, 1)) == (True, b"")


def test_closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed stream is not given, nor anything else in its place."""
    reading, writing = os.pipe()
    os.close(writing)
    with standing(monkeypatch, reading, writing) as made:
        assert made.roles == [reading]
        assert len(made.descriptors) == 1
