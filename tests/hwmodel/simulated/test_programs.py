"""How the simulated machine finds the code of a program."""

import sys
from types import ModuleType

import pytest

from hwmodel.simulated.programs import NoProgramError, resolve
from kernel.abi.program import Program, ProgramKind


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package with a server, and a class to serve."""
    package, server = ModuleType("fakeserver"), ModuleType("fakeserver.server")
    package.__path__ = []
    vars(server).update(main=lambda: "main ran", Thing=lambda: "an instance")
    monkeypatch.setitem(sys.modules, "fakeserver", package)
    monkeypatch.setitem(sys.modules, "fakeserver.server", server)


def server(target: str) -> Program:
    return Program(kind=ProgramKind.SERVER, argv=(target,))


def test_registered_function_comes_first() -> None:
    """A name in the machine's table is that function, whatever the kind."""
    for kind in ProgramKind:
        assert resolve(Program(kind=kind, argv=("x", "y")), "n", {"x": lambda: 1}, None)() == 1


def test_package_is_its_servers_main() -> None:
    """A package runs the `main` of its `server` module."""
    assert resolve(server("fakeserver"), "n", {}, None)() == "main ran"


def test_class_is_served_under_the_environments_name() -> None:
    """`module:Class` is made when the program runs, and served under its name."""
    served: list[tuple[object, str]] = []
    resolve(server("fakeserver.server:Thing"), "n", {}, lambda made, name: served.append((made, name)))()
    assert served == [("an instance", "n")]


@pytest.mark.parametrize(
    "target", ["nosuch", "fakeserver.server:Nothing", "nosuch:Thing", "fakeserver.server:Thing"]
)
def test_what_cannot_be_started_says_why(target: str) -> None:
    """A module or class that is not there, or nobody to serve it, is named in the error."""
    with pytest.raises(NoProgramError, match=target):
        resolve(server(target), "n", {}, None)


def test_other_kinds_must_be_registered() -> None:
    """Files and executables do not run on the simulated machine, and an empty argv nowhere."""
    with pytest.raises(NoProgramError, match=r"/bin/true.*register"):
        resolve(Program(kind=ProgramKind.FOREIGN, argv=("/bin/true",)), "n", {}, None)
    with pytest.raises(NoProgramError, match="argv is empty"):
        resolve(Program(kind=ProgramKind.PYTHON, argv=()), "n", {}, None)
