"""Tickets of the real machine: what one party can do to the other, and what it cannot."""

import fcntl
import os
import resource

import psutil
import pytest

from hwmodel.machine import Exhausted
from hwmodel.real import descriptor
from hwmodel.real.descriptor import RealDescriptor, own_numbers
from hwmodel.real.descriptor import ticket as make
from libexo.host.eventfds import RealTicket
from tests.calls import calls


def ticket() -> tuple[RealDescriptor, RealDescriptor]:
    """Return the ends of a new ticket."""
    return make(own_numbers())


def pair() -> tuple[RealTicket, RealTicket]:
    """Return the ends of one ticket as two programs have them."""
    one, other = (RealTicket(os.dup(end.number)) for end in ticket())
    return one, other


def test_either_posts_and_either_claims() -> None:
    """Either end takes what one posted; it comes out once, first posted first, and nothing is 0."""
    one, other = pair()
    for number in (7, 8, (1 << 64) - 1):
        one.post(number)

    assert [other.claim(), one.claim(), other.claim(), one.claim(), other.claim()] == [
        7,
        8,
        (1 << 64) - 1,
        0,
        0,
    ]
    one.close()
    other.close()


def test_neither_makes_the_other_wait() -> None:
    """Whatever flags one party gives its descriptor, the other's are as they were: neither call waits."""
    mine, theirs = ticket()
    before = fcntl.fcntl(mine.number, fcntl.F_GETFL)
    os.set_blocking(theirs.number, True)
    fcntl.fcntl(theirs.number, fcntl.F_SETFL, os.O_APPEND)
    end = RealTicket(os.dup(mine.number))

    assert fcntl.fcntl(mine.number, fcntl.F_GETFL) == before
    assert end.claim() == 0
    end.post(5)
    assert end.claim() == 5
    end.close()


def test_a_full_one_loses_what_is_posted() -> None:
    """A party that fills it to the brim makes the other lose what it posts, and wait for nothing."""
    mine, theirs = ticket()
    end = RealTicket(os.dup(mine.number))
    os.set_blocking(theirs.number, False)
    room = os.write(theirs.number, bytes(1 << 20))
    end.post(5)
    os.read(theirs.number, 1 << 20)

    assert (room, end.claim()) == (4096, 0)
    end.close()


@pytest.mark.parametrize("junk", [b"", b"x", bytes(7)])
def test_what_is_no_number_is_nothing(junk: bytes) -> None:
    """An end that writes anything but eight bytes gets nothing for it, and the other goes on."""
    mine, theirs = ticket()
    end = RealTicket(os.dup(mine.number))
    os.write(theirs.number, junk)
    first = end.claim()
    end.post(5)

    assert (first, end.claim()) == (0, 5)
    end.close()


def test_a_host_with_no_descriptors_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, and none is left over."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptor.RESERVE, 0))
    before = psutil.Process().num_fds()
    with pytest.raises(Exhausted):
        ticket()

    assert psutil.Process().num_fds() == before


def test_what_making_one_asks_of_the_host() -> None:
    """Nothing but a pipe, its size, two descriptors of it in place of the first two, and a look at the limit."""
    numbers = own_numbers()
    asked = {name: count for name, count in calls(lambda: make(numbers)).items() if name.endswith("()")}
    ours = 2  # closed with the last references to them

    assert asked == {"pipe2()": 1, "fcntl()": 1, "open()": 2, "getrlimit()": 1, "close()": 2 + ours}
