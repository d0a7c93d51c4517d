"""A program's own modules called as ours are do not get in the way, of it or of us."""

import subprocess
import sys
from pathlib import Path

import pytest

import libexo

OURS = Path(libexo.__file__).parents[1]
OWN = {
    "kernel.py": "MINE = 'kernel'",
    "hwmodel/__init__.py": "MINE = 'hwmodel'",
    "exo.py": "MINE = 'exo'",
    "servers/web.py": "MINE = 'web'",
    "servers/memory/cache.py": "MINE = 'cache'",
}
SEEN = """
import kernel, hwmodel, exo, servers.web, servers.memory.cache
from servers import web
assert [each.MINE for each in (kernel, hwmodel, exo, web, servers.memory.cache)] == \
    ["kernel", "hwmodel", "exo", "web", "cache"], "the program's own"
"""
USED = """
from libexo import aio, ipc, l4, placement, stub, vm
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec
from kernel.abi import kip, traps
from kernel.abi.errors import Refusal
import pickle
assert Memory.default_name == "memory" and Processes.operations and kip.Head and traps.Bind
assert pickle.loads(pickle.dumps(Refusal.TOO_MANY_BINDINGS)) is Refusal.TOO_MANY_BINDINGS
for each in Processes.operations.values(): each.prepare()
"""


def run(folder: Path, text: str) -> str:
    program = folder / "program.py"
    program.write_text(text)
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd="/",
        env={"PYTHONPATH": str(OURS)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr + done.stdout


@pytest.fixture(params=["packages", "folders"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """One with a program's own modules, whose folders are packages, or have no __init__."""
    for name, text in OWN.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    if request.param == "packages":
        (tmp_path / "servers/__init__.py").touch()
        (tmp_path / "servers/memory/__init__.py").touch()
    return tmp_path


ORDERS = {
    "ours first": "import libexo" + USED + SEEN,
    "libexo first": "import libexo" + SEEN + USED,
    "its own first": SEEN + "import libexo" + USED,
}


@pytest.mark.parametrize("order", ORDERS)
def test_own_modules_beside_ours(folder: Path, order: str) -> None:
    """The program finds its own by the short name and ours by the full one, in whatever order it imports them."""
    if order == "its own first" and not (folder / "servers/__init__.py").exists():
        pytest.skip("a folder that is no package is found once libexo is imported, and then only")

    assert run(folder, ORDERS[order] + "print('well')") == "well\n"


def test_nothing_is_loaded_where_no_name_is_taken(tmp_path: Path) -> None:
    """A program without such modules has loaded no server's interface, and finds ours as before."""
    text = "import sys, libexo, kernel.abi.kip, exo; print([m for m in sys.modules if 'servers' in m])"

    assert run(tmp_path, text) == "[]\n"
