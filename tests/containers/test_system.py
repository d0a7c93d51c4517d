"""The system as containers does its work: health, checked pieces of work, shares, and servers of one's own."""

import json
import time

import pytest

from tests.containers.engine import HEALTHY, ROOT, SERVERS, Deployment, run
from tests.system.booted import wait_until

pytestmark = [pytest.mark.containers, pytest.mark.slow]

COUNTER = ROOT / "docker-compose.counter.yml"
TOTALS = "add   1: the total is {}\nadd  20: the total is {}\nadd 300: the total is {}\n"
LOOP = "print('runs', flush=True)\nwhile True: pass"
SECONDS = 3.0
ATTEMPTS = 4


def expected(name: str) -> str:
    return (ROOT / "tests" / "examples" / "expected" / f"{name}.txt").read_text(encoding="utf-8")


def test_all_are_healthy_soon(deployment: Deployment) -> None:
    """Every server has answered a message within 15 s of `up`."""
    print(f"healthy after {deployment.took:.1f} s")  # noqa: T201 - the figure, with -s or on failure

    assert deployment.is_healthy()
    assert deployment.took < HEALTHY


def test_everybody_has_an_identity(deployment: Deployment) -> None:
    """The kernel knows each by the uid the host vouches for."""
    rows = deployment.environments()

    assert {name: rows[name]["uid"] for name in SERVERS} == {
        "memory": 10096,
        "process": 10098,
        "scheduler": 10099,
    }


def test_logs_tell_what_happened(deployment: Deployment) -> None:
    """Each service says in the engine's log what it is, and the kernel who came."""
    said = deployment.compose("logs", "--no-color").stdout

    assert all(f"exo: {name} is thread " in said for name in SERVERS)
    assert all(f"{name} attached: uid " in said for name in SERVERS)


@pytest.mark.parametrize("name", ["hello", "memory", "share"])
def test_an_example_does_what_it_says(deployment: Deployment, name: str) -> None:
    """Programs of the shell are run by the system, and every server does its piece of work for them."""
    done = deployment.exo("run", f"/opt/exokernel/examples/{name}.py")

    assert done.stdout == expected(name)


def shares_of_loops(deployment: Deployment) -> list[float]:
    """Return the percentages that the three loops used of what they used together, in a while."""
    before = deployment.environments()
    time.sleep(SECONDS)
    after = deployment.environments()
    used = [after[f"loop{n}"]["cpu_ns"] - before[f"loop{n}"]["cpu_ns"] for n in (3, 2, 1)]
    shares = [100 * each / sum(used) for each in used]
    print(shares)  # noqa: T201 - the figures, with -s or on failure
    return shares


def is_three_two_one(shares: list[float]) -> bool:
    return all(abs(share - wanted) < 3 for share, wanted in zip(shares, (50, 100 / 3, 50 / 3), strict=True))


def test_shares_are_kept(deployment: Deployment) -> None:
    """Three endless loops with shares 3, 2 and 1 get them, within 3 % of the processor."""
    shell = deployment.named("shell")
    for share in (3, 2, 1):
        # A file of its own: `run -d` is over before the program has read it.
        path = f"/tmp/loop{share}.py"
        script = f"cat > {path}; exo run -d --share {share} --name loop{share} {path}"
        deployment.inside(shell, "sh", "-c", script, text=LOOP, check=True)
    try:
        # Other work on the host can spoil a measurement, not make one.
        assert any(is_three_two_one(shares_of_loops(deployment)) for _ in range(ATTEMPTS))
    finally:
        deployment.exo("kill", "--end", "loop1", "loop2", "loop3")


def test_a_server_by_exo_serve(deployment: Deployment) -> None:
    """It runs beside the kernel, is called from the shell's container, and is back when it was killed."""
    deployment.exo("serve", "--restart", "always", "--name", "counter", "examples.counter:CounterServer")
    try:
        first = deployment.exo("run", "examples/counter.py").stdout
        killed = deployment.environments()["counter"]["thread"]
        deployment.exo("kill", "-s", "KILL", "counter")
        back = deployment.row_when("counter", lambda row: row["thread"] != killed)
        again = deployment.exo("run", "examples/counter.py").stdout
    finally:
        deployment.exo("kill", "--end", "counter")

    assert first == again == TOTALS.format(1, 21, 321)
    assert back["uid"] >= 200_000
    assert wait_until(lambda: "counter" not in deployment.environments())


def test_a_server_by_exo_run(deployment: Deployment) -> None:
    """A program that serves, started in the background from the shell, is a server."""
    text = "from examples.counter import CounterServer\nfrom libexo.stub import serve\nserve(CounterServer())"
    script = "cat > /tmp/mine.py; cd /opt/exokernel; exo run -d --share 0 --name counter /tmp/mine.py"
    deployment.inside(deployment.named("shell"), "sh", "-c", script, text=text, check=True)
    try:
        assert wait_until(lambda: deployment.exo("ping", "counter", check=False).returncode == 0)
        said = deployment.exo("run", "examples/counter.py").stdout
    finally:
        deployment.exo("kill", "--end", "counter")

    assert said == TOTALS.format(1, 21, 321)


def test_a_server_by_a_service(deployment: Deployment) -> None:
    """The service of an override file is a server in its own container; a third container calls it."""
    words = ("-f", "docker-compose.yml", "-f", str(COUNTER))
    deployment.compose(*words, "up", "-d", "--no-recreate", "counter")
    try:
        row = deployment.row_when("counter", lambda row: row["uid"] == 10300)
        said = [deployment.exo("run", "examples/counter.py").stdout for _ in range(2)]
        client = deployment.member("client", 10_301, "python", "examples/counter.py")
        attached = deployment.logs(client)
        assert wait_until(lambda: deployment.state("counter")["Health"]["Status"] == "healthy")
    finally:
        deployment.compose(*words, "rm", "-s", "-f", "counter")

    assert row["state"] == "ready"
    assert said == [TOTALS.format(1, 21, 321), TOTALS.format(322, 342, 642)]
    assert attached == TOTALS.format(643, 663, 963)
    assert wait_until(lambda: "counter" not in deployment.environments())


def test_doctor_says_what_the_container_lacks(deployment: Deployment) -> None:
    """In the kernel's container every protection is there, and each feature that is not has its remedy."""
    said = deployment.inside(deployment.service("kernel"), "exo", "doctor", "--json").stdout
    checks = json.loads(said)

    assert all(check["available"] for check in checks if check["group"] == "protection"), said
    assert all(check["remedy"] for check in checks if not check["available"])


def test_containers_are_as_small_as_the_file_says(deployment: Deployment) -> None:
    """The engine confirms it: no capabilities but the kernel's three, nothing writable, no network, no mount."""
    for name in ("kernel", *SERVERS):
        inspected = json.loads(run(["docker", "inspect", deployment.service(name)]).stdout)[0]
        host = inspected["HostConfig"]
        mounts = [(mount["Type"], mount["RW"]) for mount in inspected["Mounts"]]

        assert (host["CapDrop"], host["Privileged"], host["ReadonlyRootfs"]) == (["ALL"], False, True)
        assert sorted(host["CapAdd"] or []) == (["KILL", "SETGID", "SETUID"] if name == "kernel" else [])
        assert host["NetworkMode"] == "none"
        assert mounts == [("volume", name == "kernel")]
