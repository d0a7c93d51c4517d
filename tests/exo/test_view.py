"""Common parts of the listings: sizes, times, bars, tables, environments."""

import os
import time
from pathlib import Path

import pytest

from exo import view
from exo.system import Trouble
from kernel.abi.kip import EnvironmentState, Head, SystemState
from libexo.kip import EnvironmentRow
from tests.exo.conftest import Pages


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0.00 ms"),
        (1_500_000, "1.50 ms"),
        (2_000_000_000, "2.0 s"),
        (185_000_000_000, "3m05"),
        (7_800_000_000_000, "2h10m"),
        (356_400_000_000_000, "4d03h"),
    ],
)
def test_times_are_read_at_a_glance(nanoseconds: int, text: str) -> None:
    """Two units at most."""
    assert view.duration(nanoseconds) == text


@pytest.mark.parametrize(
    ("frames", "text"), [(0, "0 B"), (1, "4 KiB"), (256, "1 MiB"), (65535, "256 MiB"), (1 << 20, "4 GiB")]
)
def test_sizes_are_in_bytes(frames: int, text: str) -> None:
    """Frames are counted, bytes are shown."""
    assert view.size(frames) == text


def test_a_bar_shows_what_is_there_at_all() -> None:
    """A little is not nothing, and no bar is longer than its width."""
    assert [view.bar(part, 4) for part in (0, 0.001, 0.5, 1, 1.5)] == ["····", "█···", "██··", "████", "████"]


def test_a_table_lines_up() -> None:
    """Numbers at the right, nothing behind the last column."""
    assert (
        view.table(("NAME", "N"), [("a", 1), ("long name", 22)], ("N",))
        == "NAME        N\na           1\nlong name  22"
    )


def test_an_environment_is_shown_with_all_that_is_known(run: Path, pages: Pages) -> None:
    """Under a plan its time is the kernel's account; the fault comes in words."""
    pages.environment(
        3, "web", EnvironmentState.DEAD, cpu=0, consumed=5, traps=6, frames=7, handles=8, fault=1
    )
    pages.publish()

    (found,) = view.environments(view.open_kip(str(run)))

    assert found.pop("age_ns")
    assert found == {
        "name": "web",
        "thread": "99.1",
        "pid": 0,
        "uid": 1003,
        "state": "dead",
        "processor": 0,
        "cpu_ns": 5,
        "frames": 7,
        "handles": 8,
        "traps": 6,
        "fault": "the bytes sent through the gate are not a trap",
        "family": None,
    }


def test_time_outside_the_plans_is_the_hosts_own() -> None:
    """The kernel does not count it, the host does, by the process."""
    row = EnvironmentRow(0, EnvironmentState.READY, 0, os.getpid(), -1, 1, 0, 0, 0, 0, 0, 0, "me")

    assert 0 < view.consumed(row) <= time.process_time_ns()


@pytest.mark.parametrize(
    ("state", "servers", "ready"),
    [
        (SystemState.BOOTING, {"a": EnvironmentState.READY}, False),
        (SystemState.UP, {"a": EnvironmentState.READY}, True),
        (SystemState.UP, {"a": EnvironmentState.STARTING}, False),
        (SystemState.UP, {"a": EnvironmentState.DEAD}, False),
        (SystemState.UP, {"b": EnvironmentState.READY}, False),
        (SystemState.ENDING, {"a": EnvironmentState.READY}, False),
    ],
)
def test_a_system_is_ready_when_its_servers_are(
    state: SystemState, servers: dict[str, EnvironmentState], *, ready: bool, run: Path, pages: Pages
) -> None:
    """Being up is not enough."""
    for number, (name, its) in enumerate(servers.items()):
        pages.environment(number, name, its)
    pages.head(Head.STATE, state)
    pages.publish()

    assert view.is_ready(view.open_kip(str(run)), ["a"]) is ready


def test_a_page_that_is_none_is_told(run: Path) -> None:
    """An empty file is what a full disk leaves."""
    (run / "kip").touch()

    with pytest.raises(Trouble, match="not a kernel interface page"):
        view.open_kip(str(run))
