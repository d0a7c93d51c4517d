"""Deaths of containers: what the kernel takes back, how they start again, and the effect on the rest."""

import re

import pytest

from tests.containers.engine import SERVERS, Deployment, run
from tests.system.booted import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.slow]

EXAMPLE = "16 frames are 65536 bytes, all zero: True"


def version(row: dict[str, str]) -> int:
    return int(row["thread"].partition(".")[2])


def test_what_a_container_held_is_taken_back(deployment: Deployment) -> None:
    """A member that holds memory is killed by the engine, and its frames are free at once."""
    program = (
        "import libexo, signal\nfrom servers.memory.api import Memory\nfrom libexo import vm\n"
        "env = libexo.attach('/run/exo', 'holder'); extent = Memory.connect(env).allocate(500)\n"
        "vm.map(env, extent)[:4] = b'mine'\nsignal.pause()"
    )
    name = deployment.member("holder", 10_302, "python", "-c", program)
    held = deployment.row_when("holder", lambda row: row["frames"] == 500)
    run(["docker", "kill", name])

    assert held["uid"] == 10_302
    assert wait_until(lambda: "holder" not in deployment.environments())
    assert all(row["frames"] < 500 for row in deployment.environments().values())


@pytest.mark.parametrize("server", SERVERS)
def test_a_killed_container_is_up_again(deployment: Deployment, server: str) -> None:
    """`docker kill` is the operator's word, which the engine heeds; `up` starts it, as the next version."""
    before = deployment.row_when(server, lambda row: True)
    run(["docker", "kill", deployment.service(server)])
    assert wait_until(lambda: deployment.environments().get(server, {}).get("state") in (None, "dead"))

    deployment.compose("up", "-d")
    after = deployment.successor(before)

    assert version(after) > version(before)
    assert after["uid"] == before["uid"]
    assert EXAMPLE in deployment.exo("run", "examples/memory.py").stdout


@pytest.mark.parametrize("server", SERVERS)
def test_a_killed_process_is_restarted_by_compose(deployment: Deployment, server: str) -> None:
    """The process server, which heard that it was succeeded, kills each by its new version, itself excepted."""
    killer = deployment.service("kernel") if server == "process" else deployment.named("shell")
    for _ in range(2):
        before = deployment.row_when(server, lambda row: True)
        deployment.inside(killer, "exo", "kill", "-s", "KILL", server, check=True)
        after = deployment.successor(before)
        assert version(after) > version(before)

    assert EXAMPLE in deployment.exo("run", "examples/memory.py").stdout
    assert wait_until(deployment.is_healthy)


def test_programs_outlive_their_servers_containers(deployment: Deployment) -> None:
    """A client in the middle of its calls has its memory still, and its calls go on."""
    program = (
        "import libexo, sys\nfrom servers.memory.api import Memory\nfrom libexo import vm\n"
        "env = libexo.attach(); memory = Memory.connect(env, patience=60)\n"
        "view = vm.map(env, memory.allocate(2)); view[:4] = b'mine'\n"
        "thread = env.lookup('memory')\n"
        "while env.lookup('memory', 60) == thread: env.thread.sleep(0.01)\n"
        "print(bytes(view[:4]), memory.statistics().total)"
    )
    run_it = "cat > /tmp/client.py; exo run /tmp/client.py > /tmp/said"
    script = f"{run_it} & sleep 1; exo kill -s KILL memory; wait; cat /tmp/said"

    said = deployment.inside(deployment.named("shell"), "sh", "-c", script, text=program).stdout

    assert said == "b'mine' 65536\n"


def running(deployment: Deployment) -> list[str]:
    return deployment.containers("label=com.docker.compose.oneoff=False", every=False)


def test_without_the_kernel_nobody_stays(deployment: Deployment) -> None:
    """Its container killed, all others end and are not started in circles; and `up` brings a new system."""
    run(["docker", "kill", deployment.service("kernel")])
    assert wait_until(lambda: not running(deployment), 30)
    restarts = [
        run(["docker", "inspect", "-f", "{{.RestartCount}}", deployment.service(n)]).stdout for n in SERVERS
    ]
    assert not wait_until(lambda: running(deployment), 5)
    again = [
        run(["docker", "inspect", "-f", "{{.RestartCount}}", deployment.service(n)]).stdout for n in SERVERS
    ]

    deployment.compose("up", "-d")

    assert restarts == again
    assert wait_until(deployment.is_healthy, 30)
    said = deployment.compose("run", "--rm", "shell", "exo", "run", "examples/memory.py").stdout
    assert EXAMPLE in said


def test_stopped_in_order_everybody_ends_well(deployment: Deployment) -> None:
    """`stop` ends servers and kernel by a signal each; no process of theirs is left, and `up` works again."""
    deployment.compose("stop", "-t", "5", "kernel")
    assert wait_until(lambda: not running(deployment), 20)
    said = deployment.compose("logs", "--no-color", "memory").stdout

    deployment.compose("up", "-d")

    assert re.search(r"the system ended, or ended memory", said)
    assert wait_until(deployment.is_healthy, 30)
