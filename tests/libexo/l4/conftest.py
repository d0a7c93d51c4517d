"""Common part of the tests of X.2 formats."""

from collections.abc import Iterator

import pytest

from libexo.l4.format import registers as virtual


@pytest.fixture
def registers() -> Iterator[virtual.Registers]:
    """Virtual registers of the test's own thread, taken away at the end."""
    own = virtual.Registers(global_id=0x61_00000001, local_id=0x1000, processor=lambda: 3)
    virtual.use(own)
    yield own
    virtual.use(None)
