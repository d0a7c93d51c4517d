"""A deployment of docker-compose.yml on a real engine, as its operator has it."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.system.booted import wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
HEALTHY = 15.0
"""Seconds from the image's existence within which everybody is healthy."""
SERVERS = ("memory", "process", "scheduler")
LABEL = "label=com.docker.compose.project={}"
RESTRICTED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges:true", "--network=none")

Done = subprocess.CompletedProcess[str]


def run(command: Sequence[str], *, text: str | None = None, check: bool = True) -> Done:
    """Run *command* with *text* as its input; what it said is shown when it fails."""
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE, input=text or ""
    )
    assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done


def compose_program() -> list[str] | None:
    """Return how Compose is called here: the plugin, else the older program, else None."""
    if shutil.which("docker") and not run(["docker", "compose", "version"], check=False).returncode:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


def missing() -> str:
    """Say what keeps containers from running here; empty when they do."""
    if shutil.which("docker") is None:
        return "docker is not installed"
    if run(["docker", "info"], check=False).returncode:
        return "no Docker engine runs"
    if run(["docker", "image", "inspect", "exokernel"], check=False).returncode:
        return "the image is not built: docker build --target system -t exokernel ."
    return "" if compose_program() else "Compose is not installed"


class Deployment:
    """One project of containers."""

    def __init__(self, *files: str) -> None:
        """Take a name of our own, for the services of *files*."""
        self.project = f"exo-test-{os.getpid()}"
        self._compose = [*(compose_program() or ()), "-p", self.project]
        for file in files:
            self._compose += ["-f", file]
        self.took = 0.0
        """Seconds until all were healthy."""

    def compose(self, *words: str, check: bool = True) -> Done:
        """Call Compose."""
        return run([*self._compose, *words], check=check)

    def up(self) -> None:
        """Bring the system up; with it the container of a shell that stays, for `exo`."""
        started = time.monotonic()
        self.compose("up", "-d")
        assert wait_until(self.is_healthy), self.compose("ps").stdout
        self.took = time.monotonic() - started
        self.compose("run", "-d", "--name", self.named("shell"), "shell", "sleep", "infinity")

    def down(self) -> None:
        """Remove everything."""
        own = run(["docker", "ps", "-aq", "--filter", f"name=^{self.named('')}"]).stdout.split()
        if own:
            run(["docker", "rm", "-f", *own])
        self.compose("down", "-v", "--remove-orphans")

    def named(self, what: str) -> str:
        """Return the name of a container of the tests' own."""
        return f"{self.project}-{what}"

    def service(self, name: str) -> str:
        """Return the id of a service's container."""
        found = self.containers(
            f"label=com.docker.compose.service={name}", "label=com.docker.compose.oneoff=False"
        )
        return found[0]

    def containers(self, *filters: str, every: bool = True) -> list[str]:
        """Return the ids of the project's containers, with *every* also of those that ended."""
        words = [word for each in (LABEL.format(self.project), *filters) for word in ("--filter", each)]
        return run(["docker", "ps", "-q", *(["-a"] if every else []), *words]).stdout.split()

    def state(self, name: str) -> dict[str, Any]:
        """Return the state of a service's container."""
        text = run(["docker", "inspect", "-f", "{{json .State}}", self.service(name)]).stdout
        state: dict[str, Any] = json.loads(text)
        return state

    def is_healthy(self) -> bool:
        """Whether every container of the system is there and healthy."""
        states = [self.state(name) for name in ("kernel", *SERVERS)]
        return all(state.get("Health", {}).get("Status") == "healthy" for state in states)

    def inside(self, container: str, *command: str, text: str | None = None, check: bool = False) -> Done:
        """Run *command* in a container, as its user, with its rights."""
        return run(["docker", "exec", "-i", container, *command], text=text, check=check)

    def exo(self, *words: str, check: bool = True) -> Done:
        """Call `exo` in the shell's container."""
        return self.inside(self.named("shell"), "exo", *words, check=check)

    def program(self, text: str, *arguments: object, options: Sequence[str] = ()) -> Done:
        """Run Python *text* as a program of the system, from the shell's container."""
        script = 'cat > /tmp/program.py; exec exo run "$@"'
        words = [*options, "--", "/tmp/program.py", *map(str, arguments)]
        return self.inside(self.named("shell"), "sh", "-c", script, "sh", *words, text=text)

    def environments(self) -> dict[str, dict[str, Any]]:
        """Return what `exo ps` lists, by name."""
        return {row["name"]: row for row in json.loads(self.exo("ps", "--json").stdout)}

    def row_when(self, name: str, holds: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait until the environment *name* is there, started, and *holds*."""
        found: dict[str, Any] = {}

        def look() -> bool:
            found.clear()
            found.update(self.environments().get(name, {}))
            return found.get("state", "starting") not in ("starting", "dead") and bool(holds(found))

        assert wait_until(look), found
        return found

    def successor(self, before: dict[str, Any]) -> dict[str, Any]:
        """Wait for the successor of a server that was the row *before*."""
        return self.row_when(before["name"], lambda row: row["thread"] != before["thread"])

    def member(self, what: str, uid: int, *command: str, text: str | None = None) -> str:
        """Start *command* in a container of its own, attached to the system as any other; return its name."""
        name = self.named(what)
        words = ["docker", "create", "-i", "--name", name, f"--user={uid}:{uid}", *RESTRICTED]
        words += [f"--pid=container:{self.service('kernel')}", f"--volume={self.project}_run:/run/exo:ro"]
        run([*words, "exokernel", *command])
        run(["docker", "start", name])
        return name

    def logs(self, container: str) -> str:
        """Return what a container said, once it has ended."""
        run(["docker", "wait", container])
        done = run(["docker", "logs", container])
        return done.stdout + done.stderr

    def remains(self) -> list[str]:
        """Return what is left of the project on the host."""
        label = LABEL.format(self.project)
        left = self.containers()
        for kind in ("volume", "network"):
            left += run(["docker", kind, "ls", "-q", "--filter", label]).stdout.split()
        left += [
            line for line in Path("/proc/mounts").read_text("utf-8").splitlines() if self.project in line
        ]
        return left
