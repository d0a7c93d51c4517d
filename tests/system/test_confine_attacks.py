"""Attacks of one environment on another, under each layer alone and under none of them."""

import ctypes
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pyseccomp
import pytest

from libexo.launch import confine
from libexo.launch.confine import credentials, landlock, seccomp
from libexo.launch.confine.forked import in_child
from tests.system.confined import OTHER, UID, background, confined, extent, foreign, held, outcome

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
    # pytest's watchdog is a thread; the children forked here never meet it.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]

PTRACE_ATTACH = 16
SECRET = ctypes.create_string_buffer(b"in the memory of parent and child alike")


class Piece(ctypes.Structure):
    """struct iovec."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def read_memory(pid: int) -> None:
    """Copy the secret out of another process."""
    copy = ctypes.create_string_buffer(len(SECRET))
    here, there = (Piece(ctypes.addressof(place), len(SECRET)) for place in (copy, SECRET))
    foreign("process_vm_readv", pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    assert copy.raw == SECRET.raw


def take_descriptor(pid: int) -> None:
    """Take a copy of the victim's standard input."""
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, "pidfd_getfd")
    with held(os.pidfd_open(pid)) as process:
        os.close(foreign("syscall", number, process, 0, 0))


ATTACKS: dict[str, Callable[[int], object]] = {
    "memory": lambda pid: os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR)),
    "vm_readv": read_memory,
    "getfd": take_descriptor,
    "list": lambda pid: list(Path(f"/proc/{pid}/fd").iterdir()),
    "environ": lambda pid: os.close(os.open(f"/proc/{pid}/environ", os.O_RDONLY)),
    "ptrace": lambda pid: foreign("ptrace", PTRACE_ATTACH, pid, 0, 0),
    "kill": lambda pid: os.kill(pid, signal.SIGKILL),
}


@contextmanager
def victim(*, dumpable: bool) -> Iterator[int]:
    """Run an environment of uid UID, all of whose protection is its uid and perhaps being not dumpable."""
    reading, writing = os.pipe()

    def wait() -> None:
        credentials.become(UID, UID)
        credentials.prctl(credentials.PR_SET_DUMPABLE, int(dumpable))
        os.write(writing, b"ready")
        signal.pause()

    with held(reading), held(writing), background(wait) as pid:
        os.read(reading, 5)
        yield pid


def under_landlock() -> None:
    """Be the victim's uid, in a Landlock domain."""
    ruleset = landlock.make_ruleset(confine.Policy())
    credentials.become(UID, UID)
    credentials.renounce_privileges()
    landlock.restrict(ruleset)


def under_seccomp() -> None:
    """Be root, under the filter."""
    credentials.renounce_privileges()
    seccomp.load(seccomp.compile_filter("program"))


ALONE: dict[str, tuple[Callable[[], object], set[str]]] = {  # layer: how it is put on, what it leaves open
    "none": (lambda: None, set(ATTACKS)),
    "uid": (lambda: credentials.become(OTHER, OTHER), set()),
    "dumpable": (lambda: credentials.become(UID, UID), {"kill"}),
    "landlock": (under_landlock, {"list"}),
    "seccomp": (under_seccomp, {"memory", "list", "environ", "kill"}),
}


@pytest.mark.parametrize("layer", ALONE)
@pytest.mark.parametrize("attack", ATTACKS)
def test_attack(layer: str, attack: str) -> None:
    """An attack goes through where a layer alone leaves it open, and else fails for lack of permission."""
    put_on, left_open = ALONE[layer]

    def attacker() -> str:
        put_on()
        return outcome(lambda: ATTACKS[attack](pid))

    with victim(dumpable=layer != "dumpable") as pid:
        said = in_child(attacker)

    assert said in ({"done"} if attack in left_open else {"EPERM", "EACCES"})


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_of_a_confined_program(attack: str) -> None:
    """Under all layers every attack on another environment fails."""
    with victim(dumpable=True) as pid:
        assert confined(lambda: outcome(lambda: ATTACKS[attack](pid)), uid=OTHER) in {"EPERM", "EACCES"}


def test_the_memory_file_of_another() -> None:
    """An extent that another environment has open cannot be opened by way of its descriptor table."""
    with extent() as descriptor, victim(dumpable=True) as pid:

        def reopen() -> str:
            return outcome(lambda: os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDONLY))

        assert (confined(reopen, uid=OTHER), in_child(reopen)) == ("EACCES", "done")
