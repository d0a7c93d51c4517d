"""Reservations on a real system: periodic programs keep their deadlines at 90 % of a core, beside loops."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.command import Command, family, place, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

BEAT = """
import json, sys, time

work, period, seconds, kernel = (int(word) for word in sys.argv[1:])
MS = 1_000_000
clock, cpu = time.monotonic_ns, time.process_time_ns


def delay():  # how long the host kept us, and the kernel, waiting for a core
    total = 0
    for who in ("self", kernel):
        with open(f"/proc/{who}/schedstat") as file:
            total += int(file.read().split()[1])
    return total


while clock() // MS % 4000 > 20:  # so that all begin together
    time.sleep(0.001)
jobs = []
arrival = clock()
for _ in range(seconds * 1000 // period):
    before, begin = delay(), cpu()
    while cpu() - begin < work * MS:
        pass
    done = clock()
    jobs.append([(done - arrival) / MS - period, (delay() - before) / MS])
    arrival += period * MS
    time.sleep(max(arrival - clock(), 0) / 1e9)
print(json.dumps(jobs))
"""
BURN = "while True: pass\n"
CAST = {"short": (4, 8, 40), "middle": (18, 24, 80), "long": (56, 64, 160)}
"""Work, runtime and period in ms: 67.5 % of a core are used, 90 % reserved."""


@pytest.fixture
def crowded() -> Iterator[Command]:
    """A system with two programs that compute."""
    with place(Command) as made:
        made.up()
        made.write("beat.py", BEAT)
        made.write("burn.py", BURN)
        for name in ("one", "two"):
            made.exo("run", "-d", "--name", name, "burn.py")
        yield made


def favour(system: Command) -> None:
    """Have the host give this system's processes the cores, whatever else runs, where it lets us."""
    for process in family(system.pid()):
        with contextlib.suppress(OSError, psutil.Error):
            process.nice(-20)
            Path(f"/proc/{process.pid}/autogroup").write_text("-20")


def jobs(system: Command, seconds: int, overloads: str) -> dict[str, list[list[float]]]:
    """Have each of the cast do its jobs; return by name how late each was, and how late the host made it, in ms."""
    kernel = system.pid()
    for name, (work, runtime, period) in CAST.items():
        words = [999_999 if name == overloads else work, period, seconds, kernel]
        reserve = ("--reserve", f"{runtime}ms/{period}ms")
        system.exo("run", "-d", "--name", name, *reserve, "beat.py", *map(str, words))
    favour(system)
    awaited = [name for name in CAST if name != overloads]
    until(lambda: not {*awaited} & system.listed().keys())
    return {name: json.loads(system.exo("logs", name).stdout.splitlines()[-1]) for name in awaited}


@pytest.mark.parametrize("overloads", ["", "middle"])
def test_deadlines(crowded: Command, overloads: str, record_property: Any) -> None:  # noqa: ANN401 - pytest's
    """No job misses its deadline for our reasons, also when one of three computes without end."""
    found = jobs(crowded, 3, overloads)
    record_property("jobs", found)
    missed = {name: [job for job in each if job[0] > job[1]] for name, each in found.items()}

    assert all(len(each) >= 18 for each in found.values())
    assert not any(missed.values())


def test_shown_and_refused(crowded: Command) -> None:
    """`exo sched` and `exo ps` show what is reserved; what does not fit says what is left, and is not started."""
    crowded.exo("run", "-d", "--name", "kept", "--reserve", "30ms/50ms", "burn.py")
    told = json.loads(crowded.exo("sched", "--json").stdout)[0]["reserved"]

    assert told == [{"name": "kept", "processor": 0, "runtime_us": 30_000, "period_us": 50_000}]
    assert "reserved for kept: 30 ms in 50 ms, 60.0 %" in crowded.exo("sched").stdout
    assert "30 ms in 50 ms, 60.0 %" in crowded.exo("ps", "--reserved").stdout
    refused = crowded.exo("run", "-d", "--name", "more", "--reserve", "20ms/50ms", "burn.py", status=125)
    assert "35.000 % of processor 0 left" in refused.stderr
    until(lambda: "more" not in crowded.listed())
    crowded.exo("sched", "reserve", "kept", "none")
    crowded.exo("sched", "reserve", "one", "20ms/50ms")
    assert [each["name"] for each in json.loads(crowded.exo("ps", "--reserved", "--json").stdout)] == ["one"]


def test_the_scheduler_is_killed(crowded: Command) -> None:
    """What is reserved is the kernel's to keep; the next scheduler server knows of it."""
    crowded.exo("sched", "reserve", "one", "20ms/50ms")
    scheduler = crowded.listed()["scheduler"]["pid"]
    os.kill(scheduler, 9)
    until(lambda: crowded.listed().get("scheduler", {}).get("pid") not in (scheduler, None, 0))

    until(lambda: "one" in crowded.exo("ps", "--reserved", "--names").stdout)
