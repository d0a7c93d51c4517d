"""The record of a core's switches: as the host writes it, and made up where the host writes it too seldom."""

import os
import signal
import time
from collections.abc import Iterator
from typing import cast

import pytest

from hwmodel.presence import Presence
from hwmodel.real import switches
from hwmodel.real.body import RealBody
from hwmodel.real.port import RealPort
from hwmodel.real.switches import RealSwitches, Ring

LEADER, CHILD, OTHER = 1 << 23, (1 << 23) + 1, (1 << 23) + 2
"""Numbers of no process."""
IDLE = 0
OUT, PREEMPTED = 1 << 13, 1 << 14
UNKNOWN = -1


class Script:
    """A ring with what a test writes."""

    def __init__(self) -> None:
        self.data: bytes | None = b""

    def add(self, kind: int, flags: int, *rest: int) -> None:
        """Write a record."""
        self.data = (self.data or b"") + switches._RECORD.pack(kind, flags, switches._RECORD.size, *rest)

    def switch(self, left: int, follows: int, at: int, *, preempted: bool = False) -> None:
        """Write a switch between processes of one thread each: both halves, but from idle the second alone."""
        if left != IDLE:
            self.add(15, OUT | PREEMPTED * preempted, follows, follows, left, left, at)
        self.add(15, 0, left, left, follows, follows, at + 1)

    def take(self) -> bytes | None:
        data, self.data = self.data, b""
        return data


def followed(*, group: bool) -> tuple[Script, RealSwitches, RealBody]:
    """A core with one body."""
    body = RealBody(cast("RealPort", None), 0, owned=True, group=group, paused=False)
    body.pid = LEADER
    made, script = RealSwitches(0), Script()
    made.close()
    made._ring = cast("Ring", script)
    made.follow(body)
    return script, made, body


def since(body: RealBody, now: int) -> int:
    assert body.presence is not None
    return body.presence.absence(now).since


def test_who_comes_and_who_waits() -> None:
    """Who leaves without being preempted waits; who was preempted, or comes, wants the core."""
    script, made, body = followed(group=False)
    script.switch(OTHER, LEADER, 10)
    script.switch(LEADER, OTHER, 20, preempted=True)
    assert made.read() == {body}
    assert since(body, 30) == 0
    script.switch(OTHER, LEADER, 40)
    script.switch(LEADER, IDLE, 50)
    assert made.read() == {body}
    assert since(body, 60) == 50
    assert made.read() == set()


def test_who_wakes_an_idle_core() -> None:
    """Who came to a core on which nobody was is in the second half only (findings/switch_from_idle.sh)."""
    script, made, body = followed(group=True)
    script.switch(LEADER, IDLE, 10)
    script.switch(IDLE, LEADER, 30)
    assert made.read() == {body}
    assert since(body, 40) == 0
    begun = time.monotonic_ns()
    script.add(7, 0, CHILD, LEADER, CHILD, LEADER, begun)
    script.switch(LEADER, IDLE, begun)
    script.switch(IDLE, CHILD, begun + 99)  # its second half is at 100
    script.switch(CHILD, IDLE, begun + 150)
    made.read()
    assert cast("Presence", body.presence).lent == 50


def test_children_count_where_signals_go_to_them() -> None:
    """A child is the program as long as it lives, if it is of its group; its number may then be another's."""
    for group in (True, False):
        script, made, body = followed(group=group)
        script.switch(LEADER, IDLE, 10)
        script.add(7, 0, CHILD, LEADER, CHILD, LEADER, 11)
        script.switch(IDLE, CHILD, 12)
        assert made.read() == ({body} if group else set())
        assert since(body, 20) == (0 if group else 10)
        script.switch(CHILD, OTHER, 30)
        script.add(4, 0, CHILD, LEADER, CHILD, LEADER, 31)
        script.switch(OTHER, CHILD, 32)
        assert made.read() == set()


@pytest.mark.parametrize("group", [True, False])
def test_what_children_use(*, group: bool) -> None:
    """All that children had of the core counts, stopped or not, until one that has ended has left it for good."""
    script, made, body = followed(group=group)
    script.switch(OTHER, LEADER, 10)
    for start in (20, 1020):
        script.add(7, 0, CHILD, LEADER, CHILD, LEADER, start)
        script.switch(LEADER, CHILD, start + 100)
        script.add(4, 0, CHILD, LEADER, CHILD, LEADER, start + 400)
        script.switch((1 << 32) - 1, LEADER, start + 410)
    made.read()
    presence = cast("Presence", body.presence)
    assert presence.lent == 620 * group
    body.pause()
    now = time.monotonic_ns()
    script.add(7, 0, CHILD, LEADER, CHILD, LEADER, now)
    script.switch(LEADER, CHILD, now + 10)
    script.switch(CHILD, OTHER, now + 30, preempted=True)
    made.read()
    assert presence.lent == 640 * group


def test_a_child_that_has_the_core() -> None:
    """What it has used counts at each look, though it has not left the core; and nothing of it counts twice."""
    script, made, body = followed(group=True)
    begun = time.monotonic_ns()
    script.add(7, 0, CHILD, LEADER, CHILD, LEADER, begun)
    script.switch(OTHER, CHILD, begun)
    made.read()
    presence = cast("Presence", body.presence)
    assert 0 < presence.lent <= time.monotonic_ns() - begun
    ended = time.monotonic_ns()
    script.switch(CHILD, OTHER, ended)
    made.read()
    assert presence.lent == ended - begun


def test_a_birth_that_is_read_late() -> None:
    """Who is followed already stays so when the record of its own fork is read."""
    script, made, body = followed(group=False)
    script.add(7, 0, LEADER, OTHER, LEADER, OTHER, 5)
    script.switch(OTHER, LEADER, 10)
    assert made.read() == {body}


def test_a_process_that_was_reaped() -> None:
    """The host writes -1 for its last switch, which is nobody's number (findings/switch_of_the_ending.sh)."""
    script, made, body = followed(group=True)
    script.switch(LEADER, (1 << 32) - 1, 10)
    script.switch((1 << 32) - 1, LEADER, 20)
    assert made.read() == {body}


@pytest.mark.parametrize("missing", [None, b"lost"])
def test_what_is_missing(missing: bytes | None) -> None:
    """Where records were lost, or are too many to read, it says so; nothing is known until new ones come."""
    script, made, body = followed(group=False)
    script.switch(OTHER, LEADER, 10)
    script.switch(LEADER, IDLE, 20)
    made.read()
    assert since(body, 30) == 20
    script.data = missing
    if missing:
        script.data = b""
        script.add(2, 0, 1, 0, 0, 0, 40)
    assert made.read() is None
    assert since(body, 50) == UNKNOWN
    script.switch(OTHER, LEADER, time.monotonic_ns() + 1)
    assert made.read() == {body}


def test_who_is_followed_no_more() -> None:
    """It is nobody's any longer, and has no presence."""
    script, made, body = followed(group=True)
    made.leave(body)
    assert body.presence is None
    script.switch(OTHER, LEADER, 10)
    assert made.read() == set()


def test_a_host_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the host does not give the record, nothing is ever known, and it is said why."""

    def refuse(core: int) -> int:
        raise PermissionError(13, f"not of core {core}")

    monkeypatch.setattr(switches, "record", refuse)
    made = RealSwitches(3)
    body = RealBody(cast("RealPort", None), 0, owned=True, group=False, paused=False)
    made.follow(body)
    assert (body.presence, made.read(), "not of core 3" in made.refused) == (None, None, True)
    made.close()


# ------------------------------------------------------------------------------------------- as the host has it


@pytest.fixture
def child() -> Iterator[tuple[int, int]]:
    """A process that waits for bytes and answers each; its pid, and our end."""
    ours, theirs = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ours[1])
        while byte := os.read(ours[0], 1):
            os.write(theirs[1], byte)
        os._exit(0)
    os.close(ours[0])
    yield pid, ours[1]
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    for number in (ours[1], *theirs):
        os.close(number)


def test_a_real_record(child: tuple[int, int]) -> None:
    """The host tells when a process comes to a core and when it leaves it, by our clock, whoever runs there too."""
    pid, wake = child
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(pid, (core,))
    made = RealSwitches(core)
    if made.refused:
        pytest.skip(f"this host does not tell of switches: {made.refused}")
    body = RealBody(cast("RealPort", None), 0, owned=True, group=False, paused=False)
    body.pid = pid
    try:
        made.follow(body)
        presence = cast("Presence", body.presence)
        before, after = time.monotonic_ns(), 0
        os.write(wake, b"x")
        while presence.absence(0).since <= 0:
            made.read()
            after = time.monotonic_ns()
        assert before < presence.absence(after).since < after
    finally:
        made.close()
