"""Host calls that Python lacks."""

import os
import threading

from hwmodel.real.libc import run_for


def test_a_thread_that_gives_way_sooner() -> None:
    """It keeps its niceness and its policy, and may give way as all do again; nobody else does."""
    seen: list[tuple[int, int]] = []

    def run() -> None:
        for span in (100_000, 0):
            run_for(span)
            seen.append((os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)))

    before = os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [before, before]
