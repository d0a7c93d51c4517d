"""The system as containers, up once for each file of tests, and gone without a trace after it."""

from collections.abc import Iterator

import pytest

from tests.containers.engine import Deployment, missing


@pytest.fixture(scope="module")
def deployment() -> Iterator[Deployment]:
    """A deployment of docker-compose.yml, all healthy."""
    if reason := missing():
        pytest.skip(reason)
    made = Deployment()
    try:
        made.up()
        yield made
    finally:
        made.down()
    assert made.remains() == []
