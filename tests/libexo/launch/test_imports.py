"""Imports by a uid that cannot walk to the modules: an interpreter holds its path, forks, confines."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from libexo.launch import imports

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

NURSERY = """
import sys
sys.path[:0] = {place!r}, {here!r}
import os, package, space.first
from libexo.launch import confine, imports
assert "json" not in sys.modules and "psutil" not in sys.modules
held = imports.hold(sys.path)
prepared = confine.prepare(confine.Policy(readable=tuple(held.values())))
sys.stdout.flush()
if pid := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
try:
    confine.apply(prepared, uid=61001, gid=61001, parent=os.getppid())
    exec({program!r})
except BaseException as error:
    import traceback
    traceback.print_exc()
    os._exit(1)
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture
def site() -> Iterator[Path]:
    """A directory below one that only root may enter: a package, a namespace package, an extension."""
    with tempfile.TemporaryDirectory() as private:
        site = Path(private) / "site"
        (site / "package").mkdir(parents=True)
        (site / "space").mkdir()
        (site / "package" / "__init__.py").write_text("def fail():\n    raise ValueError('as asked')\n")
        (site / "package" / "late.py").write_text("from package.deep import VALUE\n")
        (site / "package" / "deep.py").write_text("VALUE = 'deep'\n")
        (site / "package" / "data.txt").write_text("data")
        (site / "space" / "first.py").touch()
        (site / "space" / "second.py").write_text("VALUE = 'second'\n")
        shutil.copytree(Path(psutil.__file__).parent, site / "psutil")
        yield site


def run(site: Path, program: str) -> str:
    """Return what *program* prints, run confined under a nursery whose path starts with *site*."""
    here = str(Path(imports.__file__).parents[2])
    script = NURSERY.format(place=str(site), here=here, program=program)
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_the_directory_is_out_of_reach(site: Path) -> None:
    """By its name the directory is shut to the program: what follows shows the descriptors at work."""
    program = f"print(os.access({str(site)!r}, os.F_OK), sys.path[0].startswith('/proc/self/fd/'))"

    assert run(site, program) == "False True"


def test_standard_library(site: Path) -> None:
    """Modules of the standard library, in Python and in C, are imported after confinement."""
    program = (
        "import decimal, json, sqlite3, zoneinfo, encodings.idna\n"
        "row = sqlite3.connect(':memory:').execute('select 6 * 7').fetchone()\n"
        "print(json.dumps(row), decimal.Decimal(1) / 8)"
    )

    assert run(site, program) == "[42] 0.125"


def test_extension_of_another_package(site: Path) -> None:
    """A package with a shared object is imported from the directory that is out of reach, and works."""
    program = "import psutil\nprint(psutil.__file__.startswith(sys.path[0]), psutil.Process().uids().real)"

    assert run(site, program) == "True 61001"


def test_loaded_packages(site: Path) -> None:
    """A package loaded before finds its other modules and its data, and so does a namespace package."""
    program = (
        "import package.late, space.second, importlib.resources\n"
        "data = open(os.path.join(os.path.dirname(package.__file__), 'data.txt')).read()\n"
        "resource = importlib.resources.files('package').joinpath('data.txt').read_text()\n"
        "print(package.late.VALUE, space.second.VALUE, data, resource)"
    )

    assert run(site, program) == "deep second data data"


def test_traceback_lines(site: Path) -> None:
    """A traceback through a module loaded before shows its source."""
    program = (
        "import traceback\n"
        "try:\n    package.fail()\n"
        "except ValueError:\n    print('raise ValueError' in traceback.format_exc())"
    )

    assert run(site, program) == "True"


def test_distribution_metadata(site: Path) -> None:
    """The version of an installed distribution is found."""
    program = "import importlib.metadata\nprint(importlib.metadata.version('pyzmq').split('.')[0].isdigit())"

    assert run(site, program) == "True"


def test_nothing_above_the_directory(site: Path) -> None:
    """The descriptor does not lead upwards: what is beside the directory stays shut."""
    (site.parent / "secret").mkdir()
    program = (
        "try:\n    os.listdir(sys.path[0] + '/../secret')\n"
        "except PermissionError as error:\n    print(error.errno)"
    )

    assert run(site, program) == "13"


def test_holding_twice(site: Path) -> None:
    """A directory held already stays, one that does not exist is left out, one named twice is one."""
    program = (
        "before = list(sys.path)\n"
        "print(imports.hold([*sys.path, '/no/such/place', sys.path[0]]), sys.path == before)"
    )

    assert run(site, program) == "{} True"


def test_a_directory_shut_to_others(site: Path) -> None:
    """A directory of the path that only root can read is an error which names it."""
    with pytest.raises(PermissionError, match=f"give others the right to read.*{site.parent}"):
        imports.hold([str(site.parent)])
