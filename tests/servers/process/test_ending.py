"""Whether an end was what somebody asked for: plain values."""

from signal import SIGHUP, SIGKILL, SIGSEGV, SIGTERM

import pytest

from servers.process.ending import as_asked


@pytest.mark.parametrize(
    ("told", "status", "fault", "expected"),
    [
        (0, -9, 0, False),
        (0, 1, 0, False),
        (SIGTERM, -SIGTERM, 0, True),
        (SIGTERM, 3, 0, True),
        (SIGTERM, -SIGKILL, 0, True),
        (SIGKILL, -SIGTERM, 0, True),
        (SIGTERM, -SIGSEGV, 0, False),
        (SIGKILL, -SIGKILL, 7, False),
        (SIGHUP, -SIGHUP, 0, True),
        (SIGHUP, 1, 0, False),
    ],
)
def test_who_ends_as_asked(told: int, status: int, fault: int, expected: bool) -> None:  # noqa: FBT001
    """By the signal it was sent, or by itself after one that asks for the end; not by a fault, nor by another."""
    assert as_asked(told, status, fault) is expected
