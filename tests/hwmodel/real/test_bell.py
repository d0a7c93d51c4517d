"""Doorbells of the real machine: what the holder of one end can, and cannot, do to the other."""

import fcntl
import os
import select

import psutil
import pytest

from hwmodel.machine import Exhausted
from hwmodel.real import descriptor
from hwmodel.real.descriptor import pipe
from kernel.abi.limits import FRAME_SIZE


def test_what_is_rung_arrives() -> None:
    """A byte written at one end is read at the other, and neither end waits."""
    wait, ring = pipe()
    with pytest.raises(BlockingIOError):
        os.read(wait.number, 1)
    os.write(ring.number, b"x")

    assert os.read(wait.number, 10) == b"x"


def test_a_full_doorbell_neither_waits_nor_costs_more_than_a_page() -> None:
    """A side that rings without end is told that the doorbell is full after a page."""
    wait, ring = pipe()
    assert os.write(ring.number, bytes(1 << 20)) == FRAME_SIZE
    with pytest.raises(BlockingIOError):
        os.write(ring.number, b"x")

    assert len(os.read(wait.number, 1 << 20)) == FRAME_SIZE


def test_neither_end_makes_the_other_wait() -> None:
    """The flags of each end are its own: one that waits leaves the other as it was."""
    wait, ring = pipe()
    for changed, other in ((wait, ring), (ring, wait)):
        before = fcntl.fcntl(other.number, fcntl.F_GETFL)
        os.set_blocking(changed.number, True)

        assert fcntl.fcntl(other.number, fcntl.F_GETFL) == before


def test_the_ring_end_takes_nothing() -> None:
    """The ringing end cannot read what was rung, and the waiting end cannot ring."""
    wait, ring = pipe()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(ring.number, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.write(wait.number, b"x")


def test_it_hangs_up_with_the_last_copy() -> None:
    """While one copy of the ring end is open it is quiet; with the last it reads as hung up."""
    wait, ring = pipe()
    copy = ring.duplicate()
    poll = select.poll()
    poll.register(wait.number, select.POLLIN)
    ring.close()
    quiet = poll.poll(0)
    copy.close()

    assert (quiet, poll.poll(0)) == ([], [(wait.number, select.POLLHUP)])
    assert os.read(wait.number, 1) == b""


def test_programs_do_not_inherit_it() -> None:
    """Both ends close when a program is executed."""
    assert not any(os.get_inheritable(end.number) for end in pipe())


def test_no_end_is_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel has too few descriptors left, none of the two is kept."""
    before = psutil.Process().num_fds()
    monkeypatch.setattr(descriptor, "RESERVE", 1 << 40)
    with pytest.raises(Exhausted):
        pipe()

    assert psutil.Process().num_fds() == before
