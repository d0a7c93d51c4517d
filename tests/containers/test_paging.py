"""Paged memory between containers: a pager in one of its own, programs that map its pages in the kernel's."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libexo.launch.paging import DEVICE
from tests.containers.engine import Deployment, missing, run
from tests.system.booted import wait_until
from tests.system.test_pagers import CALLS, CONFINED, MOVES, PAGER, STRANGER, TOUCHES, USER

pytestmark = [
    pytest.mark.containers,
    pytest.mark.slow,
    pytest.mark.skipif(not Path(DEVICE).exists(), reason=f"this host has no {DEVICE}"),
]

MEMBER = 10_300
FIRST_PROGRAM_UID = 200_000
PATIENCE = 10
BUS_ERROR, FAULT = 135, 125
DEVICE_OF_ALL = f"""
show(lambda: os.open({DEVICE!r}, os.O_RDWR), lambda: os.listdir("/proc/1/fd"))
"""


@pytest.fixture(scope="module")
def paging() -> Iterator[Deployment]:
    """A deployment whose kernel may page programs."""
    if reason := missing():
        pytest.skip(reason)
    made = Deployment("docker-compose.yml", "docker-compose.paged.yml")
    try:
        made.up()
        yield made
    finally:
        made.down()
    assert made.remains() == []


@pytest.fixture
def store(paging: Deployment, request: pytest.FixtureRequest) -> Iterator[str]:
    """A pager in a container of its own; its parameter: the words that begin it."""
    words = getattr(request, "param", (str(PATIENCE),))
    name = paging.member("store", MEMBER, "python", "-c", PAGER, *words)
    try:
        assert wait_until(lambda: answers(paging))
        yield name
    finally:
        run(["docker", "rm", "-f", name])
    assert wait_until(lambda: pager(paging) is None)


def answers(deployment: Deployment) -> bool:
    """Whether a pager is there, and answers."""
    return deployment.exo("ping", "store", check=False).returncode == 0


def pager(deployment: Deployment) -> dict[str, Any] | None:
    """Return the row of the pager, by its uid."""
    return next((row for row in deployment.environments().values() if row["uid"] == MEMBER), None)


def user(deployment: Deployment, text: str) -> tuple[int, str, str]:
    """Run a program that may have paged memory; return status, output, and what was said beside it."""
    done = deployment.program(USER + text, options=("--paged",))
    return done.returncode, done.stdout, done.stderr


def test_an_example(paging: Deployment) -> None:
    """The example pages for a program that it starts, both in the kernel's container."""
    done = paging.exo("run", "--paged", "/opt/exokernel/examples/pager.py")

    assert done.stdout == Path("tests/examples/expected/pager.txt").read_text(encoding="utf-8")


def test_first_touch_is_a_message(paging: Deployment, store: str) -> None:
    """A page comes from a pager of another container, pid and uid; evicted, it is told to it again."""
    said = user(paging, "print(os.getuid(), os.getpid())" + TOUCHES)
    uid, pid, *rest = said[1].split(maxsplit=2)
    there = pager(paging) or {}

    assert (said[0], said[2], rest[0].splitlines()) == (
        0,
        "",
        [
            "page 3, fault 1 page 5, fault 2",
            "[(3, False), (5, False)] [0, 0, 0, 1, 0, 3, 0, 0]",
            "1 1 [0, 0, 0, 0, 0, 0, 0, 0]",
            "page 5, fault 3 0",
        ],
    )
    assert (int(uid) >= FIRST_PROGRAM_UID, int(pid) != there["pid"]) == (True, True)


def test_system_calls_do_not_wait(paging: Deployment, store: str) -> None:
    """The faults are those of user code only, by the device as by the system call."""
    assert user(paging, CALLS) == (0, "EFAULT\nEFAULT\ndone\nnewe 4, fault 1 [(4, False)] 3\n", "")


def test_what_a_program_keeps(paging: Deployment, store: str) -> None:
    """It has no descriptor of its own faults, gets none of the device, and makes no process."""
    assert user(paging, CONFINED + DEVICE_OF_ALL) == (0, "False\nEPERM EPERM done\nEACCES EACCES\n", "")


def test_a_member_opens_no_device(paging: Deployment, store: str) -> None:
    """The device is in the kernel's container alone."""
    assert "No such file" in paging.inside(store, "ls", DEVICE).stderr
    assert "No such file" in paging.inside(paging.named("shell"), "ls", DEVICE).stderr


def test_a_mapper_that_tells_nobody(paging: Deployment, store: str) -> None:
    """It finds zeros, and what it stores is in no page."""
    assert user(paging, STRANGER)[1].splitlines() == [
        r"b'\x00\x00\x00\x00\x00\x00\x00\x00'",
        "page 0, fault 1 page 1, fault 2 [(0, False), (1, False)]",
    ]


def test_a_member_is_not_paged(paging: Deployment, store: str) -> None:
    """A program of a container of its own was not started by the system: it has no window."""
    client = paging.member(
        "client", MEMBER + 1, "python", "-c", USER + "show(lambda: vm.map(env, store.open(True)))"
    )

    assert paging.logs(client) == "NOT_PAGED\n"


def test_revoked(paging: Deployment, store: str) -> None:
    """Who had a window onto what was taken back finds a bus error there, and never zeros."""
    status, said, _ = user(paging, MOVES)

    assert (status, said) == (BUS_ERROR, "page 2, fault 1 1\n")


@pytest.mark.parametrize("store", [("0.05", "lazy")], indirect=True)
def test_the_patience_of_a_fault(paging: Deployment, store: str) -> None:
    """Who waits longer than the object allows is ended, and hears of which pager."""
    there = pager(paging) or {}
    status, _, said = user(paging, "view = vm.map(env, store.open(True)); view[0]")

    assert (status, f"{there['name']} (" in said) == (FAULT, True), said


@pytest.mark.parametrize("store", [("60", "lazy")], indirect=True)
@pytest.mark.parametrize("how", ["kill", "stop and kill"])
def test_the_container_of_a_pager_dies(paging: Deployment, store: str, how: str) -> None:
    """A fault in flight ends in a bus error whose record names the pager, and its frames are free again."""
    script = "cat > /tmp/flight.py; exec exo run -d --paged --name flight /tmp/flight.py"
    text = (
        USER + "view = vm.map(env, store.open(True)); print('maps', flush=True); print('returned', view[0])"
    )
    paging.inside(paging.named("shell"), "sh", "-c", script, text=text, check=True)
    assert wait_until(lambda: "read of page 0" in paging.exo("trace", "--count", "500").stdout)
    if how != "kill":
        run(["docker", "pause", store])
    run(["docker", "kill", store])

    assert wait_until(lambda: "flight" not in paging.exo("ps", "--names").stdout.split())
    said = paging.inside(paging.service("kernel"), "exo", "logs", "flight").stdout
    assert "maps" in said
    assert "returned" not in said
    assert wait_until(lambda: "object" not in paging.exo("mem").stdout)
