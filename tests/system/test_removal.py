"""A processor that is taken out of a real system, with programs that run on it, and put back."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.privileges import may_place_others
from tests.system.command import DEGRADED, ROOT, Command, place, until

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif((psutil.cpu_count() or 1) < 2, reason="needs two host cores"),
]

BURN = "while True: pass\n"
NAMES = ("one", "two", "three")


@pytest.fixture
def running() -> Iterator[Command]:
    """A system with two processors, and three programs that compute."""
    with place(Command) as made:
        text = (ROOT / "system.toml").read_text(encoding="utf-8")
        assert "cpus = [-1]" in text
        config = made.write("two.toml", text.replace("cpus = [-1]", "cpus = [0, -1]"))
        made.exo("up", "-d", "--config", config, *DEGRADED)
        made.write("burn.py", BURN)
        for name in NAMES:
            made.exo("run", "-d", "--name", name, "burn.py")
        yield made


def places(system: Command) -> list[int]:
    listed = system.listed()
    return [listed[name]["processor"] for name in NAMES]


def cores(system: Command, name: str) -> set[int]:
    """The host cores on which a program may run."""
    return set(psutil.Process(system.listed()[name]["pid"]).cpu_affinity())


def used(system: Command) -> list[int]:
    """CPU time of each, by the host's account, in ns."""
    return [
        int(Path(f"/proc/{each['pid']}/schedstat").read_text().split()[0])
        for each in map(system.listed().__getitem__, NAMES)
    ]


def all_run(system: Command) -> None:
    """Wait until each has had 20 ms more."""
    before = used(system)
    until(lambda: all(now - was > 20_000_000 for was, now in zip(before, used(system), strict=True)))


def test_out_and_back(running: Command) -> None:
    """Members and what fits of their reservations go to the other core, and return; nobody stands still.

    Where the kernel may not place others, they go to the other plan, and stay on their core.
    """
    running.exo("sched", "reserve", "one", "2ms/10ms")
    before = cores(running, "one")
    said = running.exo("cpu", "off", "0").stdout.splitlines()
    out = places(running), cores(running, "one")
    all_run(running)
    states = [each["state"] for each in json.loads(running.exo("cpu", "--json").stdout)]
    refused = running.exo("cpu", "off", "1", status=1).stderr
    running.exo("cpu", "on", "0")
    until(lambda: places(running) == [0] * 3)

    assert said == [
        "processor 0 is off",
        *(f"{name} is moved to processor 1" for name in NAMES),
        "one has its reservation there: 2 ms in 10 ms, 20.0 %",
    ]
    assert out[0] == [1] * 3
    assert (out[1] != before) == may_place_others()
    assert states == ["off", "on"]
    assert "processor 1 is the last one that is on" in refused
    assert cores(running, "one") == before
    all_run(running)


def test_while_the_scheduler_stands_still(running: Command) -> None:
    """The kernel, or the next server, moves them, and they run; programs start on what is left."""
    pid = running.listed()["scheduler"]["pid"]
    psutil.Process(pid).send_signal(signal.SIGSTOP)
    running.exo("cpu", "off", "0")
    found = places(running)
    all_run(running)

    assert found == [1] * 3
    running.exo("run", "-d", "--name", "late", "burn.py")
    assert running.listed()["late"]["processor"] == 1
