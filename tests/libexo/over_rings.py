"""A plugin: `pytest -p tests.libexo.over_rings` has every simulated system carry its messages through rings."""

from collections.abc import Iterator

import pytest

from libexo.testing import rings


@pytest.fixture(autouse=True, scope="session")
def _over_rings() -> Iterator[None]:
    with rings.over_rings():
        yield
