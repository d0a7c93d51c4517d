"""`exo run` on a real system: what it gives a program, and what stays its operator's."""

import os
import pty
import socket
import subprocess
import tempfile
from collections.abc import Callable

import pytest

from tests.system.command import Command
from tests.system.test_exo import system

__all__ = ["system"]
pytestmark = [pytest.mark.system, pytest.mark.beside, pytest.mark.slow]

BUDGETED = """
import libexo
env = libexo.attach()
limits = env.kip.budget(env.number)
print(limits[3].limit, limits[4].limit, limits[9].limit)
"""


def test_a_program_with_a_budget(system: Command) -> None:
    """It has what its operator said, and the usual of the rest; what there is none of is refused by name."""
    system.write("budgeted.py", BUDGETED)
    line = ("run", "--budget", "threads=4,children=0", "--budget")
    more = system.exo(*line, "waits=1024", "budgeted.py").stdout
    unknown = system.exo(*line, "wait=2", "budgeted.py", status=127).stderr
    large = system.exo(*line, "waits=5000", "budgeted.py", status=127).stderr
    wrong = system.exo(*line, "waits", "budgeted.py", status=2).stderr

    assert more == "4 0 1024\n"
    assert "no budget counts wait: there are handles," in unknown
    assert "budgeted.py was not started: a budget of 5000 waits: 4096 at most" in large
    assert "'waits': write ITEM=NUMBER" in wrong


OWN = """
import kernel, servers.web
import libexo
from libexo import vm
from servers.memory.api import Memory
env = libexo.attach()
view = vm.map(env, Memory.connect(env).allocate(1))
print(kernel.MINE, servers.web.MINE, len(view))
"""


def test_a_program_with_modules_called_as_ours_are(system: Command) -> None:
    """It finds its own by the short name, also in a folder that is no package, and ours by the full one."""
    system.write("kernel.py", "MINE = 1")
    (system.folder / "servers").mkdir()
    system.write("servers/web.py", "MINE = 2")
    system.write("own.py", OWN)

    assert system.exo("run", "own.py").stdout == "1 2 4096\n"


UNBLOCKS = """
import os, select
for number in (0, 1, 2):
    os.set_blocking(number, False)
print(*(os.isatty(number) for number in (0, 1, 2)), os.get_blocking(0), flush=True)
select.select([0], [], [])
assert os.read(0, 3) == b"on\\n"
"""


def sockets() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


@pytest.mark.parametrize(
    ("make", "is_terminal", "shares"), [(pty.openpty, True, False), (sockets, False, True)]
)
def test_the_flags_of_a_stream_are_its_operators(
    system: Command, make: Callable[[], tuple[int, int]], *, is_terminal: bool, shares: bool
) -> None:
    """A program that does not want to wait at a terminal changes its own flags; those it shares are put back."""
    ours, theirs = make()
    with tempfile.TemporaryFile() as errors:
        program = system.write("unblocks.py", UNBLOCKS)
        command = system.words("run", program)
        running = subprocess.Popen(
            command, env=system.environ, cwd=system.folder, stdin=theirs, stdout=theirs, stderr=errors
        )
        said = os.read(ours, 100)
        during = [os.get_blocking(theirs)]
        os.write(ours, b"on\n")
        status = running.wait(60)
        after = [os.get_blocking(number) for number in (theirs, errors.fileno())]
        errors.seek(0)
        complaints = errors.read()
    os.close(ours)
    os.close(theirs)

    assert (status, complaints) == (0, b"")
    assert said.split()[:4] == [*[b"%s" % str(is_terminal).encode()] * 2, b"False", b"False"]
    assert (during, after) == ([not shares], [True, True])


def test_a_pipe_between_programs(system: Command) -> None:
    """A program that makes its end of a pipe non-blocking leaves the pipe's other users as they were."""
    system.write("unblocks.py", "import os\nos.set_blocking(1, False)\nos.write(1, b'one\\n')\n")
    run = " ".join(system.words("run"))
    line = f"({run} unblocks.py; python3 -c 'import os; print(os.get_blocking(1))') | cat"
    done = subprocess.run(
        ["sh", "-c", line],
        env=system.environ,
        cwd=system.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout == "one\nTrue\n"
