"""A system that all tests of a run share, each held to leaving its books as it found them."""

import os
from collections.abc import Iterator

import pytest

from tests.system.booted import System, boot, wait_until

AT_ONCE = 0.05
"""For so long it is worth looking whether the books balance by themselves: a program that settles takes longer."""


@pytest.fixture(scope="session")
def shared_system() -> Iterator[System]:
    """The one system of this test run. What servers and the kernel make when first needed, is made."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give each environment a uid")
    with boot() as system:
        system.settle()
        with system.start("input()", name="keeper", restart="on-failure") as keeper:
            keeper.tell("end")
            keeper.finish()
        system.rebase()
        yield system


@pytest.fixture
def booted(shared_system: System) -> Iterator[System]:
    """The shared system; after the test, the books of its kernel must balance."""
    assert shared_system.process.poll() is None, "the shared system ended in an earlier test"
    yield shared_system
    assert shared_system.process.poll() is None, shared_system.log.read_text()
    audit(shared_system)


@pytest.fixture
def own() -> Iterator[System]:
    """A system of the test's own, for it to break."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give each environment a uid")
    with boot() as system:
        system.settle()
        yield system
        assert "Traceback" not in system.log.read_text()
    assert not system.run_directory.exists()


def audit(system: System) -> None:
    """Hold *system* to its baseline. Where it is there already, nobody has to use the servers first."""
    if wait_until(system.balances, AT_ONCE):
        return
    system.settle()
    if wait_until(system.balances, 3):
        return
    before, after = vars(system.baseline), vars(system.books())
    system.rebase()
    lines = [f"{field}: {was} -> {after[field]}" for field, was in before.items() if after[field] != was]
    pytest.fail("the kernel's books do not balance:\n  " + "\n  ".join(lines), pytrace=False)
