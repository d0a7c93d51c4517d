"""Programs that begin at functions of their starter's own modules, whose directory they were not given."""

import os
from collections.abc import Iterator

import pytest

from tests.system.command import Command, place

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

MAIN = """
import libexo
from libexo import process
from jobs.work import double

def told(env):
    print(env.thread.wait()[1].words)

if __name__ == "__main__":
    env = libexo.attach()
    child = process.start(env, double, env.thread.id, 20, told)
    told(env)
    print(child.wait().status)
"""
HELPER = "def twice(number): return 2 * number\n"
WORK = """
from libexo import ipc, process
from . import helper

def double(env, starter, number, other):
    grandchild = process.start(env, other)
    env.thread.send(grandchild.thread, ipc.Message())
    assert grandchild.wait().status == 0, "the starter's own file is known here, too"
    env.thread.send(starter, ipc.Message(words=(helper.twice(number) + 2,)))
"""


@pytest.fixture
def command() -> Iterator[Command]:
    with place(Command) as made:
        made.up()
        yield made


def test_modules_beside_the_program(command: Command) -> None:
    """A package beside the program's file, and that file, are there in a child, and in a child of that."""
    package = command.folder / "jobs"
    package.mkdir()
    package.joinpath("__init__.py").touch()
    package.joinpath("helper.py").write_text(HELPER, encoding="utf-8")
    package.joinpath("work.py").write_text(WORK, encoding="utf-8")

    assert command.exo("run", command.write("main.py", MAIN)).stdout == "(42,)\n0\n"
