#!/usr/bin/env bash
# The perf record of a core has no switch away from its idle task: who wakes an idle core is in the other half only.
#
# Guess:   each switch is recorded twice, as the leaving of one process (PERF_RECORD_SWITCH_CPU_WIDE with "out", and
#          who comes) and as the coming of the other (without "out", and who left). So one of the two is enough.
# Seen:    Linux 6.18, x86_64, Python 3.11.7. A switch to the idle task has the first half, a switch from it only the
#          second. Of a process that is alone on a core and sleeps again and again, every leaving is recorded as a
#          leaving, and none of its comings is. Output:
#              alone on a core, 50 naps: left for idle: all; came from idle by a leaving: none, by a coming: all
# Matters: who reads the record to learn who is awake, and takes the halves for the same, never sees that a program woke
#          while nobody else ran: a scheduler then leaves it out, or charges it for a core that nobody wanted.
set -euo pipefail
python3 - <<'PYTHON'
import ctypes
import mmap
import os
import platform
import struct
import time

NUMBER = {"x86_64": 298, "aarch64": 241}[platform.machine()]
DUMMY, TID, TIME, FLAGS = 9, 1 << 1, 1 << 2, 1 << 18 | 1 << 26  # sample_id_all, context_switch
SWITCH, OUT, PAGES, RECORD = 15, 1 << 13, 256, struct.Struct("<IHHIIIIQ")
IDLE, NAPS = 0, 50
libc = ctypes.CDLL(None, use_errno=True)
cores = sorted(os.sched_getaffinity(0))
if len(cores) < 2:
    raise SystemExit("this needs two cores: who reads must not be on the one that is read")
os.sched_setaffinity(0, cores[:1])
core = cores[-1]

attributes = struct.pack("<IIQQQQQ64x", 1, 112, DUMMY, 0, TID | TIME, 0, FLAGS)
number = libc.syscall(NUMBER, ctypes.c_char_p(attributes), -1, core, -1, 8)
if number < 0:
    raise SystemExit(f"this host gives no record: {os.strerror(ctypes.get_errno())}")
memory = mmap.mmap(number, (PAGES + 1) * mmap.PAGESIZE)

pid = os.fork()
if not pid:
    os.sched_setaffinity(0, (core,))
    for _ in range(NAPS):
        time.sleep(0.005)
    os._exit(0)
os.waitpid(pid, 0)

head, tail = struct.unpack_from("<QQ", memory, 1024)
data, left, came, came_too = memory[mmap.PAGESIZE :] * 2, 0, 0, 0
while tail < head:
    kind, flags, size, other, _, own, _, _ = RECORD.unpack_from(data, tail % (PAGES * mmap.PAGESIZE))
    tail += size
    if kind == SWITCH:
        left += bool(flags & OUT) and (own, other) == (pid, IDLE)
        came += bool(flags & OUT) and (own, other) == (IDLE, pid)
        came_too += not flags & OUT and (own, other) == (pid, IDLE)


def share(count):
    """Say it in a word: now and then somebody else has the core when it wakes or sleeps."""
    return "all" if count > NAPS * 0.8 else count or "none"


print(f"alone on a core, {NAPS} naps: left for idle: {share(left)}; "
      f"came from idle by a leaving: {share(came)}, by a coming: {share(came_too)}")
raise SystemExit((share(left), share(came), share(came_too)) != ("all", "none", "all"))
PYTHON
