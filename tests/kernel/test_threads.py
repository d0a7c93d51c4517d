"""Threads: their ids and their listening sockets."""

import pytest

from kernel.abi.errors import Refusal
from kernel.abi.ids import next_version, thread_id, thread_number, thread_version
from kernel.errors import Panic, Refused
from kernel.thread import Thread
from kernel.threads import Threads
from tests.kernel.puppets import theatre


def test_versions_are_odd() -> None:
    """Versions are odd, so that their low six bits are never zero, and they wrap to one."""
    assert [next_version(-1), next_version(1), next_version((1 << 32) - 1)] == [1, 3, 1]


def test_the_end_point_stays_while_the_number_is_kept() -> None:
    """An end point outlives an environment that keeps its things, and goes with one that does not."""
    with theatre() as stage:
        root, a, b = stage.puppet("root"), stage.puppet("a", keeps=True), stage.puppet("b")
        handle = stage.system.give(root.task, a.environment).handle
        for puppet in (a, b):
            puppet.host.close_descriptor(puppet.sys.endpoint()[1])
        before = stage.kernel.threads.open_endpoints()
        stage.kill(a, b)
        kept = stage.kernel.threads.open_endpoints()
        root.sys.drop(handle)
        stage.settle()

        assert (before, kept, stage.kernel.threads.open_endpoints()) == (2, 1, 0)


def test_the_end_point_is_the_callers() -> None:
    """The trap says the caller's own thread number."""
    with theatre() as stage:
        a = stage.puppet()
        number, descriptor = a.sys.endpoint()
        a.host.close_descriptor(descriptor)

        assert number == thread_number(a.thread)


def test_numbers_asked_for() -> None:
    """A server's number is given out as asked for, each time in its next version."""
    with theatre() as stage:
        threads = Threads(stage.kernel)

        assert [threads.allocate(96), threads.allocate(96)] == [thread_id(96, 1), thread_id(96, 3)]
        assert thread_version(threads.renew(thread_id(96, 3))) == 5


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
