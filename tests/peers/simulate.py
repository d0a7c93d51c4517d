"""Simulate task sets by SimSo: `.peers/bin/python simulate.py`, cases as JSON on standard input, traces out.

A case is a scheduler (EDF_mono, RM_mono, FP), a duration in ms, and tasks with name, period, wcet, deadline,
offset and priority in ms. Late jobs go on (SimSo ends them otherwise, and calls them punctual). What comes out are
the events of its own trace, which count misses: SimSo's counter falls with late jobs. It imports nothing of ours.
"""

import json
import sys
from typing import Any

from simso.configuration import Configuration
from simso.core import Model
from simso.core.JobEvent import JobEvent

NAMES = {
    JobEvent.ACTIVATE: "activated",
    JobEvent.EXECUTE: "runs",
    JobEvent.PREEMPTED: "preempted",
    JobEvent.TERMINATED: "done",
}
CYCLES = 1_000_000


def simulate(case: dict[str, Any]) -> list[list[Any]]:
    """Return [ms, what, task, number of the job], in order."""
    configuration = Configuration()
    configuration.cycles_per_ms = CYCLES
    configuration.duration = case["duration"] * CYCLES
    for at, task in enumerate(case["tasks"], 1):
        configuration.add_task(
            name=task["name"], identifier=at, period=task["period"], wcet=task["wcet"],
            deadline=task["deadline"], activation_date=task.get("offset", 0), abort_on_miss=False,
            data={"priority": task.get("priority", 0)},
        )  # fmt: skip
    configuration.add_processor(name="CPU", identifier=1)
    configuration.scheduler_info.clas = f"simso.schedulers.{case['scheduler']}"
    configuration.check_all()
    model: Any = Model(configuration)
    model.run_model()
    events = [
        (at, event.id_, NAMES[event.event], task.name, int(event.job.name.rpartition("_")[2]))
        for task in model.task_list
        for at, event in task.monitor
    ]
    return [[at / CYCLES, what, name, job] for at, _, what, name, job in sorted(events)]


if __name__ == "__main__":
    sys.stdout.write(json.dumps([simulate(case) for case in json.load(sys.stdin)]))
