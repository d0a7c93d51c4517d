#!/usr/bin/env bash
# A perf record of a context switch names a process that has ended as -1, and one that is stopped as one that waits.
#
# Guess:   the record of a switch on a core (perf_event_open with context_switch) has the pid and tid of who left and
#          who came; who left without the flag "preempted" waits for something.
# Seen:    Linux 6.18, x86_64, Python 3.11.7. Who is reaped before its last switch has lost its number by then: the
#          record has pid 4294967295, -1 as the unsigned number it is there. So it is with every child of a process
#          that ignores SIGCHLD, and with any child whose parent is quick. And SIGSTOP takes a process that computes
#          from the core without "preempted", as if it slept. Output:
#              20 processes ended: records with pid 4294967295: yes; others above 2**31: none
#              a process that only computes, stopped 20 times: left the core unpreempted: most times
# Matters: a scheduler that reads who sleeps from these records must not ask the host about such a number (in Python
#          os.getpgid raises OverflowError, not OSError), and must count only from SIGCONT on.
set -euo pipefail
python3 - <<'PYTHON'
import ctypes
import mmap
import os
import platform
import signal
import struct
import time

NUMBER = {"x86_64": 298, "aarch64": 241}[platform.machine()]
DUMMY, TID, TIME, FLAGS = 9, 1 << 1, 1 << 2, 1 << 18 | 1 << 26  # sample_id_all, context_switch
SWITCH, OUT, PREEMPTED, PAGES, RECORD = 15, 1 << 13, 1 << 14, 256, struct.Struct("<IHHIIIIQ")
GONE, TIMES = 2**32 - 1, 20
libc = ctypes.CDLL(None, use_errno=True)
core = max(os.sched_getaffinity(0))


def opened():
    """Map the record of the core's switches."""
    attributes = struct.pack("<IIQQQQQ64x", 1, 112, DUMMY, 0, TID | TIME, 0, FLAGS)
    number = libc.syscall(NUMBER, ctypes.c_char_p(attributes), -1, core, -1, 8)
    if number < 0:
        raise SystemExit(f"this host gives no record: {os.strerror(ctypes.get_errno())}")
    return mmap.mmap(number, (PAGES + 1) * mmap.PAGESIZE)


def switches(memory):
    """Yield the records of switches from the last look to now."""
    head, tail = struct.unpack_from("<QQ", memory, 1024)
    data = memory[mmap.PAGESIZE :] * 2
    struct.pack_into("<Q", memory, 1032, head)
    while tail < head:
        found = RECORD.unpack_from(data, tail % (PAGES * mmap.PAGESIZE))
        tail += found[2]
        if found[0] == SWITCH:
            yield found


def child(work):
    pid = os.fork()
    if not pid:
        os.sched_setaffinity(0, (core,))
        work()
        os._exit(0)
    return pid


def compute():
    while True:
        pass


memory = opened()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(TIMES):
    child(lambda: None)
    time.sleep(0.01)
signal.signal(signal.SIGCHLD, signal.SIG_DFL)
time.sleep(0.1)
numbers = {number for found in switches(memory) for number in (found[3], found[5])}
high = {number for number in numbers if number >= 2**31}
others = high - {GONE}
print(f"{TIMES} processes ended: records with pid {GONE}: {'yes' if GONE in high else 'no'}; "
      f"others above 2**31: {others or 'none'}")

pid, left = child(compute), 0
for _ in range(TIMES):
    time.sleep(0.01)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(0.01)
    os.kill(pid, signal.SIGCONT)
    left += sum(found[5] == pid and found[1] & (OUT | PREEMPTED) == OUT for found in switches(memory))
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
most = left > TIMES // 2
print(f"a process that only computes, stopped {TIMES} times: left the core unpreempted: {'most times' if most else left}")
raise SystemExit(high != {GONE} or not most)
PYTHON
