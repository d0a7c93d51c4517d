"""Reservations on a real system: periodic programs keep their deadlines at 90 % of a core, beside loops."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.system.command import Command, family, place, until

pytestmark = [pytest.mark.system, pytest.mark.slow]

BEAT = """
import json, os, sys, time

work, period, seconds = (int(word) for word in sys.argv[1:])
MS = 1_000_000
clock, cpu = time.monotonic_ns, time.process_time_ns
while not os.path.exists("begin"):
    time.sleep(0.05)
arrival, *pids = json.load(open("begin"))
waits = {open(f"/proc/{pid}/schedstat"): 0 for pid in pids}
time.sleep(max(arrival - clock(), 0) / 1e9)


def lost():  # how long the host has kept the cast, and the kernel, waiting for a core
    for each in waits:
        each.seek(0)
        try:
            waits[each] = int(each.read().split()[1])
        except ProcessLookupError:
            pass  # it has ended
    return sum(waits.values())


jobs = [[arrival / MS, 0, lost() / MS]]
for _ in range(seconds * 1000 // period):
    begin = cpu()
    while cpu() - begin < work * MS:
        pass
    done = clock()
    arrival += period * MS
    jobs.append([done / MS, (done - arrival) / MS, lost() / MS])
    time.sleep(max(arrival - clock(), 0) / 1e9)
print(json.dumps(jobs))
"""
BURN = "while True: pass\n"
CAST = {"short": (4, 8, 40), "middle": (18, 24, 80), "long": (56, 64, 160)}
"""Work, runtime and period in ms: 67.5 % of a core are used, 90 % reserved."""
LONGEST = 160


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
    """Have each of the cast do its jobs; return by name of each when it was done, how late, what the host took.

    In ms. The host takes what they and the kernel wait for a core: the loads of others, whatever we do.
    """
    for name, (work, runtime, period) in CAST.items():
        words = [999_999 if name == overloads else work, period, seconds]
        reserve = ("--reserve", f"{runtime}ms/{period}ms")
        system.exo("run", "-d", "--name", name, *reserve, "beat.py", *map(str, words))
    favour(system)
    listed = system.listed()
    pids = [system.pid(), *(listed[name]["pid"] for name in (*CAST, "one", "two"))]
    system.write("soon", json.dumps([time.monotonic_ns() + 500_000_000, *pids])).rename(
        system.folder / "begin"
    )
    awaited = [name for name in CAST if name != overloads]
    until(lambda: not {*awaited} & system.listed().keys())
    return {name: json.loads(system.exo("logs", name).stdout.splitlines()[-1]) for name in awaited}


def unexcused(found: dict[str, list[list[float]]]) -> dict[str, list[tuple[float, float]]]:
    """Return how late each job was that the host did not make late, with what the host took until it was done."""
    taken = sorted((done, lost) for each in found.values() for done, _, lost in each)
    missed: dict[str, list[tuple[float, float]]] = {name: [] for name in found}
    for name, each in found.items():
        carried = 0.0
        for done, late, lost in each[1:]:
            since = [lost for at, lost in taken if at <= done - late - 2 * LONGEST] or [taken[0][1]]
            if late > lost - since[-1] + carried:
                missed[name].append((late, lost - since[-1]))
            carried = max(late, 0)
    return missed


@pytest.mark.parametrize("overloads", ["", "middle"])
@pytest.mark.parametrize("seconds", [2, pytest.param(10, marks=pytest.mark.soak)])
def test_deadlines(crowded: Command, seconds: int, overloads: str, record_property: Any) -> None:  # noqa: ANN401
    """No job misses its deadline for our reasons, also when one of three computes without end."""
    found = jobs(crowded, seconds, overloads)
    record_property("jobs", found)

    assert all(len(each) > 12 for each in found.values())
    assert unexcused(found) == {name: [] for name in found}


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
