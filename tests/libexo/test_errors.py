"""Errors of ours, as other processes and copies see them."""

import copy
import importlib
import pickle
import pkgutil
from collections.abc import Iterator

import pytest

import exo
import libexo
import servers
from kernel.abi.errors import Refusal
from kernel.abi.messages import IpcCode, Phase
from libexo.errors import (
    BadArgument,
    ExoError,
    IpcError,
    IpcTimeout,
    NoPartner,
    NoRedirector,
    RemoteError,
    TrapRefused,
)
from libexo.launch.confine.policy import ConfinementError
from servers.scheduler.schedule import ScheduleRefused

MADE: dict[type[BaseException], BaseException] = {
    TrapRefused: TrapRefused("Carve", Refusal.FRAME_BUSY, "frame 7"),
    IpcError: IpcError(IpcCode.OVERFLOW, Phase.SEND, "cut", 12),
    IpcTimeout: IpcTimeout(Phase.RECEIVE, "late"),
    NoPartner: NoPartner(Phase.RECEIVE, "gone", -9, 1),
    NoRedirector: NoRedirector(Phase.SEND, "gone"),
    RemoteError: RemoteError("KeyError", "3", "Traceback: here"),
    ConfinementError: ConfinementError("seccomp", "not there"),
    ScheduleRefused: ScheduleRefused(2, "not yours"),
}


def everywhere() -> Iterator[type[BaseException]]:
    """Yield every exception that a module of libexo, the servers or the command defines."""
    for package in (libexo, servers, exo):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if found.name.endswith("__main__") or ".programs" in found.name:
                continue  # those run when they are imported
            module = importlib.import_module(found.name)
            for value in vars(module).values():
                is_own = getattr(value, "__module__", "") == module.__name__
                if is_own and isinstance(value, type) and issubclass(value, BaseException):
                    yield value


ALL = sorted(set(everywhere()), key=lambda kind: f"{kind.__module__}.{kind.__qualname__}")


def made(kind: type[BaseException]) -> BaseException:
    if kind in MADE:
        return MADE[kind]
    try:
        return kind("what was wrong")
    except TypeError:
        pytest.fail(f"{kind.__qualname__} is made from something else: say in MADE from what")


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: f"{kind.__module__}.{kind.__qualname__}")
def test_pickles_and_copies(kind: type[BaseException]) -> None:
    """Each comes back as what it was, with its text, its attributes and its notes."""
    error = made(kind)
    error.add_note("said beside it")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):  # noqa: S301 - ours
        assert type(again) is kind
        assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))


def test_they_are_all_found() -> None:
    """Those of libexo, of the servers' policies and of the command are among them."""
    names = {kind.__name__ for kind in ALL}

    assert names >= {
        "TrapArgument",
        "OutOfMemory",
        "SpawnRefused",
        "BadShare",
        "Trouble",
        "BrokenChannel",
        "Ended",
    }
    assert sum(issubclass(kind, ExoError) for kind in ALL) >= 20


def test_a_subclass_of_ones_own() -> None:
    """Errors that a program derives from ours pickle, too, however they are made."""
    error = Lost("box", at=4)

    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own

    assert (type(again), str(again), again.what, again.at) == (Lost, "lost box at 4", "box", 4)


class Lost(BadArgument):
    """Made from something else than its text."""

    def __init__(self, what: str, *, at: int) -> None:
        super().__init__(f"lost {what} at {at}")
        self.what, self.at = what, at
