"""Whether a body wants its core, by a record made up here."""

from hwmodel.presence import Absence, Presence

UNKNOWN = -1


def test_who_leaves_last() -> None:
    """It is absent from when its last thread left until one comes, and the time of that adds up."""
    presence = Presence(held=False)
    assert presence.absence(5).since == UNKNOWN
    assert presence.came(1, 10)
    assert presence.came(2, 20)
    presence.went(1, 30)
    assert presence.absence(35) == Absence(0, 0)
    presence.went(2, 40)
    assert presence.absence(45) == Absence(40, 5)
    presence.came(1, 60)
    presence.went(1, 70)
    assert presence.absence(75) == Absence(70, 25)


def test_who_is_stopped() -> None:
    """What is recorded of the time in which it was stopped, or read later, does not count, nor is it slept."""
    presence = Presence(held=True)
    assert not presence.came(1, 5)
    presence.free(10)
    assert not presence.came(1, 9)
    presence.went(1, 9)
    assert presence.absence(12) == Absence(UNKNOWN, 0)
    presence.came(1, 15)
    presence.went(1, 20)
    presence.hold(30)
    presence.went(1, 31)
    assert presence.absence(50) == Absence(UNKNOWN, 10)
    presence.free(60)
    assert presence.absence(70) == Absence(UNKNOWN, 10)


def test_a_thread_that_was_not_seen_to_come() -> None:
    """One that leaves has been there; whether others are is seen when they come or leave."""
    presence = Presence(held=False)
    presence.went(1, 10)
    assert presence.absence(15) == Absence(10, 5)
    presence.came(2, 20)
    assert presence.absence(25) == Absence(0, 10)


def test_a_gap() -> None:
    """After a gap in the record nothing is known, until threads come and go again; what was slept stays."""
    presence = Presence(held=False)
    presence.came(1, 10)
    presence.came(2, 11)
    presence.went(1, 20)
    presence.went(2, 30)
    presence.lose(40)
    assert presence.absence(50) == Absence(UNKNOWN, 10)
    presence.went(2, 35)
    assert presence.absence(50) == Absence(UNKNOWN, 10)
    presence.went(2, 60)
    assert presence.absence(70) == Absence(60, 20)
