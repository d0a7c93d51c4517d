"""Upcalls: what the kernel tells an environment waits for it, in order, up to a bound."""

from hwmodel.simulated.ports import PORT_PACKETS
from kernel.abi.budget import Item
from kernel.abi.events import RECORD, Event
from kernel.abi.kip import Counter, Page
from kernel.abi.messages import Label
from tests.kernel.puppets import Puppet, Theatre, theatre


def told(stage: Theatre, puppet: Puppet, numbers: range) -> None:
    for n in numbers:
        stage.kernel.exposure.tell(puppet.environment, Label.MOVED, (n,))


def heard(puppet: Puppet) -> list[int]:
    return [upcall.words[0] for upcall in puppet.upcalls()]


def test_in_order() -> None:
    """Upcalls arrive in the order they were sent."""
    with theatre() as stage:
        a = stage.puppet()
        told(stage, a, range(5))

        assert heard(a) == [0, 1, 2, 3, 4]


def test_a_full_gate_is_tried_again() -> None:
    """Upcalls that a full gate does not take wait with the kernel, are shown as pending, and follow in order."""
    with theatre() as stage:
        a = stage.puppet()
        page, many = a.env.page, PORT_PACKETS // 2 + 40
        told(stage, a, range(many))
        pending, first = page[Page.PENDING], heard(a)
        told(stage, a, range(many, many + 1))
        stage.pass_time(6)

        assert (pending > 0, page[Page.PENDING]) == (True, 0)
        assert first + heard(a) == list(range(many + 1))


def test_what_nobody_reads_is_dropped_and_counted() -> None:
    """Beyond the bound, upcalls are dropped, counted and traced; those kept are the oldest."""
    with theatre() as stage:
        a = stage.puppet()
        told(stage, a, range(PORT_PACKETS + Item.UPCALLS.server + 3))
        dropped = stage.kernel.kip.counter(Counter.UPCALLS_DROPPED)
        trace = stage.kernel.exposure.trace
        last = RECORD.unpack_from(trace._buffer, 4096 + (trace._written - 1) * RECORD.size)

        assert dropped >= 3
        assert (last[1], last[3], last[4]) == (Event.UPCALL_DROPPED, a.environment.number, Label.MOVED)
        assert heard(a)[:3] == [0, 1, 2]


def test_upcalls_leave_room_for_answers() -> None:
    """A receiver of more upcalls than its gate holds still gets the answer to its next trap."""
    with theatre() as stage:
        a = stage.puppet()
        told(stage, a, range(PORT_PACKETS + 10))

        assert a.sys.inventory() == ()


def test_the_dead_are_told_nothing() -> None:
    """An upcall to an environment that ended is no upcall, and what waited for it is gone."""
    with theatre() as stage:
        a = stage.puppet()
        told(stage, a, range(PORT_PACKETS + 10))
        stage.kill(a)
        before = stage.kernel.kip.counter(Counter.UPCALLS)
        told(stage, a, range(1))
        stage.pass_time(10)

        assert stage.kernel.kip.counter(Counter.UPCALLS) == before


def test_still_full() -> None:
    """A gate that stays full is tried again and again until its program reads."""
    with theatre() as stage:
        a = stage.puppet()
        many = PORT_PACKETS * 2 + 10
        told(stage, a, range(many))
        stage.pass_time(30)
        found = heard(a)
        for _ in range(5):
            stage.pass_time(6)
            found += heard(a)

        assert found == list(range(many))
