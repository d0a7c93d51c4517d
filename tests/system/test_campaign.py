"""Servers die, are stopped and block at random under load: all are back, soon, and nothing is lost or left."""

import os
import statistics
from collections.abc import Callable

import pytest

from tests.system.booted import wait_until
from tests.system.campaign import blockable, wage

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

PATIENCE_MS = 500
"""Within this 99 of 100 servers that were struck answer again,"""
BARE = 20
"""or within so many times what a bare Python takes to start in the same run, where that is more."""


def holds(seed: int, blows: int, report_line: Callable[[str], None]) -> None:
    """Wage a campaign, and hold what it must hold."""
    with blockable() as system:
        system.rebase()
        report = wage(system, seed, blows)
        system.settle()
        report_line(f"campaign of {blows} blows: {report.text()}")

        assert system.process.poll() is None
        assert wait_until(lambda: system.books() == system.baseline), (system.baseline, system.books())
        errors = {"NoPartner", "RemoteError", "IpcError"}
        assert set(report.said) <= {"done", "freed well", *errors, *(f"freed {each}" for each in errors)}
        assert report.said["done"] > blows
        patience = max(PATIENCE_MS, BARE * statistics.median(report.bare_ms))
        assert report.quantile(0.99) < patience, report.text()


@pytest.mark.timeout(240)
def test_a_hundred_blows(seed: int, report: Callable[[str], None]) -> None:
    """A hundred servers are killed, stopped or blocked: the kernel goes on, 99 are back in half a second."""
    holds(seed, 100, report)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_five_hundred_blows(seed: int, report: Callable[[str], None]) -> None:
    """Five hundred."""
    holds(seed, 500, report)
