"""The tests of the rendezvous run twice: over queues, and over rings."""

from collections.abc import Iterator

import pytest

from libexo.testing.rings import over_rings

BOTH = (
    "test_ipc", "test_rendezvous", "test_stub", "test_failures", "test_passing", "test_withdrawing", "test_turning",
    "test_hostile", "test_leaving", "test_rerouting",
)  # fmt: skip
QUEUES_ONLY = {
    "test_a_full_queue": "a ring is full of bytes, not of a thousand messages",
    "test_a_full_queue_takes_nothing": "as test_a_full_queue",
    "test_full_of_answers": "as test_a_full_queue",
    "test_a_sender_that_is_gone": "the ring of one who is gone is not looked into",
    "test_no_frame_at_all": "a record of no frames is none: the ring is broken",
}
"""What is different over a ring, and how."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each test of BOTH a transport."""
    if metafunc.module.__name__.rpartition(".")[2] in BOTH:
        names = ["queues"] if metafunc.function.__name__ in QUEUES_ONLY else ["queues", "rings"]
        metafunc.fixturenames.append("carrier")
        metafunc.parametrize("carrier", names, indirect=True)


@pytest.fixture
def carrier(request: pytest.FixtureRequest) -> Iterator[None]:
    """Carry the messages of simulated systems so."""
    if request.param == "queues":
        yield
        return
    with over_rings():
        yield
