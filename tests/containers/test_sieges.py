"""Sieges between containers: programs of the kernel's container besiege servers, each in one of its own."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.containers.engine import SERVERS, Deployment
from tests.system.fire import INNOCENT, Innocent, excess, grown
from tests.system.sieges import BESIEGER, SIEGES, Siege

pytestmark = [pytest.mark.containers, pytest.mark.slow]

BRIEFLY = 1.0
"""Seconds a siege lasts in `make containers`."""
LONG = 10.0
"""Seconds it lasts where soak tests are asked for, too."""
INSIDE = 'cat > /tmp/$0.py; exec exo run --name "$0" -- "/tmp/$0.py" "$1"'
DETACHED = 'cat > /tmp/$0.py; exec exo run -d --name "$0" -- "/tmp/$0.py" "$1"'


class Conversation:
    """A program in the shell's container, by its standard streams."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def tell(self, line: str) -> None:
        """Write a line to it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def line(self) -> str:
        """Wait for a line of its output."""
        assert self._process.stdout is not None
        return self._process.stdout.readline()


@pytest.fixture(scope="module")
def client(deployment: Deployment) -> Iterator[Innocent]:
    """An innocent client, attached from the shell's container."""
    command = ["docker", "exec", "-i", deployment.named("shell"), "python", "-c", INNOCENT]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Innocent(Conversation(process))
        process.kill()


@contextmanager
def besieged(deployment: Deployment, siege: Siege, seconds: float) -> Iterator[None]:
    """Start the programs of *siege*, and stay until their time is up, *seconds*."""
    with ExitStack() as stack:
        processes = []
        for number in range(siege.programs):
            words = [
                "sh",
                "-c",
                INSIDE if siege.streams else DETACHED,
                f"{siege.name}-{number}",
                str(seconds),
            ]
            command = ["docker", "exec", "-i", deployment.named("shell"), *words]
            process = stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            assert process.stdin is not None
            process.stdin.write(BESIEGER + siege.program)
            process.stdin.close()
            processes.append(process)
        yield
        deployment.inside(deployment.named("shell"), "sleep", str(seconds + 1))
        deployment.exo(
            "kill", "-s", "KILL", *[f"{siege.name}-{n}" for n in range(siege.programs)], check=False
        )
        for process in processes:
            process.wait(60)


SIZES = """
import json, sys
def own(pid):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))
print(json.dumps([own(pid) for pid in sys.argv[1:]]))
"""


def state(deployment: Deployment) -> tuple[dict[str, int], dict[str, int]]:
    """Return the thread ids of the servers, and the memory of kernel and servers, in bytes."""
    rows = deployment.environments()
    kernel = json.loads(deployment.exo("status", "--json", check=False).stdout)["pid"]
    pids = {"kernel": kernel, **{name: rows[name]["pid"] for name in SERVERS}}
    said = deployment.inside(deployment.named("shell"), "python", "-c", SIZES, *map(str, pids.values()))
    return {name: rows[name]["thread"] for name in SERVERS}, dict(
        zip(pids, json.loads(said.stdout), strict=True)
    )


def withstands(
    deployment: Deployment, client: Innocent, siege: Siege, seconds: float, report: Callable[[str], None]
) -> list[str]:
    """Lay *siege* for *seconds*; return what went wrong."""
    there, before = state(deployment)
    client.begin()
    with besieged(deployment, siege, seconds):
        pass
    fared = client.end()
    still, after = state(deployment)
    report(f"{os.getpid()} {siege.name}: {fared}")
    wrong = excess(fared, client.quiet) + grown(before, after)
    return wrong + [f"{name} was ended" for name in there if still[name] != there[name]]


@pytest.mark.parametrize("siege", SIEGES, ids=lambda siege: siege.name)
def test_a_siege(
    deployment: Deployment, client: Innocent, siege: Siege, report: Callable[[str], None]
) -> None:
    """A client in another container is served in time, no server is ended, and none grows."""
    assert withstands(deployment, client, siege, BRIEFLY, report) == [], siege.tries


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("siege", SIEGES, ids=lambda siege: siege.name)
def test_a_long_siege(
    deployment: Deployment, client: Innocent, siege: Siege, report: Callable[[str], None]
) -> None:
    """The same for ten seconds."""
    assert withstands(deployment, client, siege, LONG, report) == [], siege.tries
