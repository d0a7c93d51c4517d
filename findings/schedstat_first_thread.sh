#!/usr/bin/env bash
# /proc/PID/schedstat has the CPU time of a process's first thread; /proc/PID/stat, beside it, of all of them.
#
# Guess:   like stat, status and io in the same directory, it is the process's: what it used, in nanoseconds where stat
#          has ticks of 10 ms.
# Seen:    Linux 6.18. A process whose second thread used half a second. Output:
#              stat: all threads
#              process clock: all threads
#              schedstat: the first thread
# Matters: a supervisor that charges processor time by schedstat, for its resolution, charges nothing for what a program
#          does in its other threads. clock_gettime of the process's CPU clock is as fine, and has them all.
set -euo pipefail
python3 - <<'PYTHON'
import os
import threading
import time

USED = 0.5


def burn():
    began = time.thread_time()
    while time.thread_time() - began < USED:
        pass


thread = threading.Thread(target=burn)
thread.start()
thread.join()
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
first = time.thread_time()
shown = {
    "stat": sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK"),
    "process clock": time.clock_gettime(time.CLOCK_PROCESS_CPUTIME_ID),
    "schedstat": int(open("/proc/self/schedstat").read().split()[0]) / 1e9,
}
said = {what: "all threads" if used >= USED - 0.02 else "the first thread" for what, used in shown.items()}
for what, text in said.items():
    print(f"{what}: {text}")
assert first < USED / 2, "the first thread was busy, too: nothing can be told apart"
assert said == {"stat": "all threads", "process clock": "all threads", "schedstat": "the first thread"}
PYTHON
