"""Threads: their ids."""

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.ids import next_version, thread_id, thread_version
from kernel.environment import Thread
from kernel.errors import Panic, Refused
from kernel.threads import Threads
from tests.kernel.puppets import theatre


def test_versions_are_odd() -> None:
    """Versions are odd, so that their low six bits are never zero, and they wrap to one."""
    assert [next_version(-1), next_version(1), next_version((1 << 32) - 1)] == [1, 3, 1]


def test_numbers_asked_for() -> None:
    """A server's number is given out as asked for, each time in its next version."""
    with theatre() as stage:
        threads = Threads(stage.kernel.exposure, stage.kernel.bindings)

        assert [threads.allocate(96), threads.allocate(96)] == [thread_id(96, 1), thread_id(96, 3)]
        assert thread_version(threads.allocate(96)) == 5


def test_nobody_lives_twice() -> None:
    """Two living threads of one number are the kernel's own mistake: a panic."""
    with theatre() as stage:
        a, b = stage.pair()
        double = Thread(a.environment.thread, b.environment)

        with pytest.raises(Panic, match="lives twice"):
            stage.kernel.threads.enter(double)


def test_no_number_is_left() -> None:
    """When every thread number is in use no environment can be created, and the kernel has room again after."""
    with theatre() as stage:
        threads = stage.kernel.threads
        free = list(threads._free)
        threads._free.clear()
        with pytest.raises(Refused) as refused:
            stage.puppet("one more")
        threads._free.extend(free)

        assert refused.value.refusal == Refusal.TOO_MANY_ENVIRONMENTS
        assert stage.puppet("one more").alive
