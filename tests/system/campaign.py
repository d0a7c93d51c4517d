"""A campaign of deaths: servers are killed, stopped and blocked at random under load, and how long each was missed.

Everything is drawn from a seed. A *prober* outside the plans says when the first call was answered that began after
the blow, by the successor of the server that was struck. *Clients* under the plan call all the while, and say what
came of each call. Blocked means: the server's main thread waits for ever inside a handler, though its process runs.
"""

import json
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.system.booted import ROOT, SERVERS, Running, System, boot, wait_until
from tests.system.programs import PRELUDE

BLOWS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "block": signal.SIGUSR1}
CLIENTS = 3
SHORT = 0.3
"""Seconds after which the end of a server counts as bad luck, and not as the next of a row; elsewhere a second."""
REST = {"memory": 1.1 * SHORT, "scheduler": 1.1 * SHORT, "process": 1.1}
"""Seconds a server runs before it is struck again: one that ends sooner is restarted later and later.

The process server is restarted by the kernel, for which it is a second.
"""

BLOCKABLE = """
import select, signal
signal.signal(signal.SIGUSR1, lambda *_: select.select((), (), ()))
from servers.process import policy
policy.MIN_RUN_TIME = {short}
from servers.{name}.server import main
main()
"""
"""A server of the topology that a signal blocks for good: its loop never goes on."""

STUBS = (
    PRELUDE
    + """
import time
memory, process, scheduler = Memory.connect(env), Processes.connect(env), Scheduler.connect(env)
def register(): process.register(f"client-{os.getpid()}")
STUBS = {"memory": memory.statistics, "process": register, "scheduler": scheduler.plan}
def done(call):
    try: call()
    except ExoError as error: return type(error).__name__
    return ""
"""
)

PROBER = (
    STUBS
    + """
for call in STUBS.values(): call()
print("ready", flush=True)
for line in sys.stdin:
    name, old = line.split()
    while done(STUBS[name]) or env.kip.names().get(name, 0) in (0, int(old)): pass
    print(time.monotonic_ns(), flush=True)
"""
)

CLIENT = (
    STUBS
    + """
import collections, json, select
said, extent = collections.Counter(), memory.allocate(2)
view = vm.map(env, extent); view[:4] = b"mine"
print("ready", flush=True)
while not select.select((sys.stdin,), (), (), 0)[0]:
    for name, call in STUBS.items(): said[done(call) or "done"] += 1
    said["freed " + (done(lambda: memory.free(memory.allocate(1))) or "well")] += 1
    time.sleep(0.002)
    assert bytes(view[:4]) == b"mine"
print(json.dumps(said), flush=True)
"""
)


@dataclass
class Report:
    """The course of a campaign, and its outcome."""

    seed: int
    blows: dict[str, int] = field(default_factory=Counter)
    recoveries_ms: list[float] = field(default_factory=list)
    said: dict[str, int] = field(default_factory=Counter)
    bare_ms: list[float] = field(default_factory=list)
    """How long a bare Python takes to start and end here, under the same load: what the machine is like."""

    def calibrate(self) -> None:
        """Start a bare Python, and note how long that took."""
        began = time.monotonic_ns()
        subprocess.run([sys.executable, "-I", "-S", "-c", ""], check=True)
        self.bare_ms.append((time.monotonic_ns() - began) / 1e6)

    def quantile(self, part: float) -> float:
        """Return the time in ms within which *part* of the servers were back."""
        ordered = sorted(self.recoveries_ms)
        return ordered[math.ceil(len(ordered) * part) - 1]

    def text(self) -> str:
        """Return it as one line of JSON."""
        shown = {"seed": self.seed, "blows": dict(self.blows), "said": dict(self.said)}
        times = {
            name: round(self.quantile(part), 1) for name, part in (("p50", 0.5), ("p99", 0.99), ("max", 1))
        }
        bare = round(statistics.median(self.bare_ms), 1)
        return json.dumps({**shown, "recovery_ms": times, "n": len(self.recoveries_ms), "bare_ms": bare})


@contextmanager
def blockable() -> Iterator[System]:
    """Boot a system whose servers can be blocked."""
    with tempfile.TemporaryDirectory(prefix="exo-blockable-") as folder:
        Path(folder).chmod(0o755)
        config = (ROOT / "system.toml").read_text()
        for name in SERVERS:
            path = Path(folder, f"{name}.py")
            path.write_text(BLOCKABLE.format(name=name, short=SHORT))
            config = config.replace(f'"servers.{name}"', json.dumps(str(path)))
        with boot(config) as system:
            system.settle()
            yield system


def wage(system: System, seed: int, blows: int) -> Report:
    """Strike *blows* times; return the report. Raises AssertionError for a hang."""
    drawn = random.Random(f"{seed}/campaign")
    report = Report(seed)
    with ExitStack() as stack:
        clients = [stack.enter_context(system.start(CLIENT, name=f"client-{n}")) for n in range(CLIENTS)]
        prober = stack.enter_context(system.start(PROBER, name="prober", share=0))
        for each in (*clients, prober):
            assert each.line() == "ready"
        rested = dict.fromkeys(SERVERS, 0.0)
        """When each may be struck again."""
        for _ in range(blows):
            pause(min(rested.values()) - time.monotonic())
            there = [name for name in SERVERS if time.monotonic() >= rested[name]]
            name, how = drawn.choice(there), drawn.choice([*BLOWS])
            strike(system, prober, name, how, report)
            rested[name] = time.monotonic() + REST[name]
            report.calibrate()
            pause(drawn.uniform(0, 0.05))
        for (
            client
        ) in clients:  # their conversations ended with the first process server: they do with their input
            client.tell("end")
            report.said = Counter(report.said) + Counter(json.loads(client.line()))
    return report


def strike(system: System, prober: Running, name: str, how: str, report: Report) -> None:
    """Strike the server *name*, and note how long it was until its successor answered."""
    before = system.server(name)
    began = time.monotonic_ns()
    os.kill(before.pid, BLOWS[how])
    prober.tell(f"{name} {before.thread}")
    report.recoveries_ms.append((int(prober.line()) - began) / 1e6)
    report.blows[f"{how} {name}"] = report.blows.get(f"{how} {name}", 0) + 1


def pause(seconds: float) -> None:
    """Let the load go on for a while, so that blows come at any moment of it."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end, seconds + 1)
