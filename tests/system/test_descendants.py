"""Programs with descendants on a real system: what memory they have together, and how they all end."""

from collections.abc import Iterator

import pytest

from tests.system.command import DEGRADED, ROOT, Command, place, until

pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]

HOG = """
import os, sys, time, libexo
from libexo.errors import RemoteError
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec
env = libexo.attach()
name, descendants = sys.argv[1], int(sys.argv[2])
if descendants:
    argv = (os.path.abspath(__file__), name + "x", str(descendants - 1))
    Processes.connect(env).spawn(ProgramSpec(1, argv, name + "x"))
memory, size = Memory.connect(env), 32768
while size:
    try: memory.allocate(size)
    except RemoteError: size //= 8
print("full", flush=True)
time.sleep(1000)
"""
BOMB = """
import os, signal, sys, time, libexo
from libexo.errors import RemoteError
from servers.process.api import Processes, ProgramSpec
signal.signal(signal.SIGTERM, signal.SIG_IGN)
processes = Processes.connect(libexo.attach())
child = ProgramSpec(1, (os.path.abspath(__file__),), restart="always", budget={"restarts": 1})
while True:
    for each in (child, ProgramSpec(1, child.argv), ProgramSpec(3, ("/bin/sleep", "1000"))):
        try: processes.spawn(each)
        except RemoteError: time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def system() -> Iterator[Command]:
    """A system that is up, for tests that leave it as it was; nobody in it gives back for others."""
    with place(Command) as made:
        topology = (ROOT / "system.toml").read_text(encoding="utf-8")
        changed = topology.replace("[server.memory]", '[server.memory]\narguments = ["low=0"]')
        made.exo("up", "-d", "--config", made.write("system.toml", changed), *DEGRADED)
        yield made


def programs(system: Command) -> set[str]:
    """Return the programs there are, whose record is not only kept."""
    return {name for name, row in system.listed().items() if row["family"] and row["state"] != "dead"}


def test_families_leave_room(system: Command) -> None:
    """Three families that take all they can, of three each: everybody else, and a new memory server, go on."""
    hog = system.write("hog.py", HOG)
    for name in "abc":
        system.exo("run", "-d", "--name", name, "--", hog, name, "2")
        until(lambda name=name: {name, f"{name}x", f"{name}xx"} <= programs(system))  # type: ignore[misc]
        for each in (name, f"{name}x", f"{name}xx"):
            until(lambda each=each: "full" in system.exo("logs", each).stdout)  # type: ignore[misc]
    rows = system.listed()
    together = [sum(row["frames"] for row in rows.values() if row["family"] == name) for name in "abc"]
    total = 65536
    assert together[0] == total // 2
    assert total // 4 < together[1] < total // 2
    assert together[2] <= total // 16

    system.exo("kill", "-s", "KILL", "memory")
    system.write("modest.py", "import libexo\nfrom servers.memory.api import Memory\n"
                 "print(Memory.connect(libexo.attach()).allocate(512).pages)\n")  # fmt: skip
    assert system.exo("run", "--", "modest.py").stdout == "512\n"
    system.exo("ping", "memory", "process", "scheduler")

    assert system.exo("kill", "--family", "--grace", "0", "a").stdout == "ends a, ax, axx\n"
    system.exo("kill", "--family", "--grace", "0", "b", "c")
    until(lambda: not programs(system))


def test_a_fork_bomb_is_ended(system: Command) -> None:
    """Programs that ignore SIGTERM, are restarted, and start others as fast as they may: all end, and stay so."""
    system.exo("run", "-d", "--name", "bomb", "--", system.write("bomb.py", BOMB))
    until(lambda: len(programs(system)) > 10)

    said = system.exo("kill", "--family", "--grace", "0.3", "bomb").stdout

    assert said.startswith("ends bomb, ")
    until(lambda: not programs(system))
    assert {"memory", "process", "scheduler"} == {*system.listed()}


def test_of_a_bomb_whose_first_ended(system: Command) -> None:
    """Its children run on after the signal; its name finds them, though one of them may be called so by then."""
    system.exo("run", "-d", "--name", "bomb", "--", system.write("bomb.py", BOMB))
    until(lambda: len(programs(system)) > 10)
    first = system.listed()["bomb"]["thread"]
    system.exo("kill", "-s", "KILL", "bomb")
    until(lambda: first not in {row["thread"] for row in system.listed().values() if row["state"] != "dead"})
    assert programs(system)

    system.exo("kill", "--family", "--grace", "0", "bomb")

    until(lambda: not programs(system))
    assert (
        "no program started here is called 'bomb'" in system.exo("kill", "--family", "bomb", status=1).stderr
    )


def test_servers_are_refused(system: Command) -> None:
    """With what can be done instead."""
    refused = system.exo("kill", "--family", "memory", status=1).stderr

    assert "server of the topology" in refused
    assert "exo down" in refused
    assert {"memory", "process", "scheduler"} <= {*system.listed()}
