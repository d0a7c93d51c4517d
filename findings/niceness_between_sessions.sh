#!/usr/bin/env bash
# Niceness says nothing to processes of other sessions, where the host groups by session (autogroup).
#
# Guess:   setpriority(-10) has the host prefer a daemon to what other users run, by ten to one.
# Seen:    Linux 6.18, kernel.sched_autogroup_enabled = 1 (the default of many distributions), both busy on one core:
#          within one session -10 against 0 has 9 of 10 parts of the time. In a session of its own (setsid, as every
#          daemon) it has half, whatever its niceness. Written to /proc/PID/autogroup, -10 has 9 of 10 again. Output
#          (the figures vary by a few per cent):
#              one session, -10 against 0: 90 %
#              two sessions, -10 against 0: 50 %
#              two sessions, -10 in /proc/PID/autogroup: 90 %
#          Groups count for who is in no other cpu group, so in a container the guess is right.
# Matters: who starts each program in a session of its own, and gives his servers a better niceness, has done nothing,
#          and no measurement on an idle host shows it. Needs root, and a core that is not pinned to others.
set -euo pipefail
[ "$(cat /proc/sys/kernel/sched_autogroup_enabled 2>/dev/null || echo 0)" = 1 ] || { echo "autogroup is off here"; exit 1; }
python3 - <<'PYTHON'
import os
import signal
import time

CORE = min(os.sched_getaffinity(0))


def busy(niceness, session, group):
    ready, say = os.pipe()
    pid = os.fork()
    if not pid:
        os.sched_setaffinity(0, {CORE})
        if session:
            os.setsid()
        if group:
            with open("/proc/self/autogroup", "w") as file:
                file.write(str(group))
        os.setpriority(os.PRIO_PROCESS, 0, niceness)
        os.write(say, b"x")
        while True:
            pass
    os.read(ready, 1)
    return pid


def used(pid):
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])


def part(session, niceness, group=0):
    urgent, other = busy(niceness, session, group), busy(0, session, 0)
    before = used(urgent), used(other)
    time.sleep(3)
    mine, its = used(urgent) - before[0], used(other) - before[1]
    for pid in (urgent, other):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return 100 * mine / (mine + its)


os.setsid() if os.getpid() != os.getsid(0) else None
one, two, told = part(False, -10), part(True, -10), part(True, 0, -10)
print(f"one session, -10 against 0: {one:.0f} %")
print(f"two sessions, -10 against 0: {two:.0f} %")
print(f"two sessions, -10 in /proc/PID/autogroup: {told:.0f} %")
assert one > 75 and told > 75 and 40 < two < 60
PYTHON
