"""The compiled system call filter, run by an interpreter of classic BPF: no process is at risk."""

import errno
import os
import struct
from typing import get_args

import pyseccomp
import pytest

from libexo.launch.confine import Profile, seccomp

REFUSED = pyseccomp.ERRNO(errno.EPERM)
PROFILES = get_args(Profile)
ALLOWED = dict.fromkeys(PROFILES, pyseccomp.ALLOW)
NATIVE = pyseccomp.system_arch()
UPPER = 1 << 32
PTHREAD = 0x3D0F00
"""The flags with which glibc makes a thread by clone."""

JUMPS = {0x15: int.__eq__, 0x25: int.__gt__, 0x35: int.__ge__, 0x45: int.__and__}


def run(instructions: bytes, data: bytes) -> int:
    """Interpret the part of BPF which libseccomp emits; return what the program returns."""
    code = list(struct.iter_unpack("=HBBI", instructions))
    counter = accumulator = 0
    while True:
        operation, yes, no, value = code[counter]
        counter += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x54:
            accumulator &= value
        elif operation == 0x05:
            counter += value
        elif operation == 0x06:
            return int(value)
        else:
            counter += yes if JUMPS[operation](accumulator, value) else no


def verdict(profile: Profile, call: str | int, *arguments: int, architecture: int = NATIVE) -> int:
    """Return what the filter of *profile* says of a call."""
    number = call if isinstance(call, int) else pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, call)
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("=IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *padded)
    return run(seccomp.compile_filter(profile), data)


def here(names: str) -> list[str]:
    """Those of the calls that this architecture has and libseccomp can name."""
    return [name for name in names.split() if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) >= 0]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("what", seccomp.DENIED)
def test_denied_to_everybody(profile: Profile, what: str) -> None:
    """Each call of the deny list fails with EPERM, whatever its arguments."""
    names = here(seccomp.DENIED[what])

    assert {name: verdict(profile, name) for name in names} == dict.fromkeys(names, REFUSED)


@pytest.mark.parametrize(("name", "number"), seccomp.UNIFIED.items())
def test_calls_younger_than_the_library(name: str, number: int) -> None:
    """A call that an old libseccomp cannot name is refused by its number, which a new one confirms."""
    assert verdict("program", number) == REFUSED
    assert pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) in (-1, number)


@pytest.mark.parametrize("architecture", [pyseccomp.Arch.X86_64, pyseccomp.Arch.AARCH64])
def test_every_name_is_known(architecture: int) -> None:
    """The library knows each name of the list on both architectures, or we have its number."""
    names = " ".join([*seccomp.DENIED.values(), seccomp.PROGRAM_DENIED]).split()
    unknown = {name for name in names if pyseccomp.resolve_syscall(architecture, name) == -1}

    assert unknown <= seccomp.UNIFIED.keys()


@pytest.mark.parametrize("name", here(seccomp.PROGRAM_DENIED))
def test_only_a_foreign_program_forks_and_executes(name: str) -> None:
    """Making and replacing processes is refused to a program, allowed to a foreign one."""
    assert verdict("program", name) == REFUSED
    assert verdict("foreign", name) == pyseccomp.ALLOW


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("clone", (PTHREAD,), {"program": pyseccomp.ALLOW, "foreign": pyseccomp.ALLOW}),
        ("clone", (17,), {"program": REFUSED, "foreign": pyseccomp.ALLOW}),
        ("clone3", (), dict.fromkeys(PROFILES, pyseccomp.ERRNO(errno.ENOSYS))),
        ("timer_create", (1, 1, 1), dict.fromkeys(PROFILES, pyseccomp.ERRNO(errno.ENOSYS))),
        *((name, (19, 19, 19), ALLOWED) for name in seccomp.SIGNALS),
        ("fcntl", (3, 10, 23), ALLOWED),
        ("socket", (1, 1, 0), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
        ("socketpair", (1, 1, 0), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
        ("sched_setscheduler", (7, 0, 1 << 40), dict.fromkeys(PROFILES, pyseccomp.ERRNO(0))),
        ("prlimit64", (0, 7, 0, 1 << 40), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
        ("prctl", (1, 9), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
        ("prctl", (4, 0), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
        ("prctl", (15, 1 << 40), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
        ("ioctl", (0, 0x5401), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
        ("fcntl", (3, 2, 1), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
        ("madvise", (1 << 40, 4096, 4), dict.fromkeys(PROFILES, pyseccomp.ALLOW)),
    ],
)
def test_what_python_needs_is_allowed(
    name: str, arguments: tuple[int, ...], expected: dict[Profile, int]
) -> None:
    """Threads, Unix sockets, reading limits, thread names and terminal settings go on working."""
    assert {profile: verdict(profile, name, *arguments) for profile in PROFILES} == expected


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("clone", (17 | flag,)) for flag in seccomp.CLONE_NEW),
        ("clone", (17 | seccomp.CLONE_PARENT,)),
        *((name, (*(7,) * at, 18)) for name, at in seccomp.SIGNALS.items()),
        *((name, (*(7,) * at, UPPER | 18)) for name, at in seccomp.SIGNALS.items()),
        ("fcntl", (3, 10, 18)),
        ("clone", (PTHREAD & ~0xFF | 18,)),
        ("socket", (2, 1, 0)),
        ("socket", (10, 2, 0)),
        ("socket", (16, 3, 0)),
        ("socketpair", (30, 1, 0)),
        ("socket", (UPPER | 2, 1, 0)),
        ("sched_setscheduler", (0, 5, 1 << 40)),
        ("prlimit64", (0, 7, 1 << 40, 0)),
        ("prctl", (1, 0)),
        ("prctl", (4, 1)),
        ("prctl", (UPPER | 4, 1)),
        ("prctl", (62, 1)),
        ("ioctl", (0, 0x5412)),
        ("ioctl", (0, UPPER | 0x5412)),
        ("ioctl", (0, 0x541C)),
        ("sched_setscheduler", (0, 3, 1 << 40)),
        ("fcntl", (3, 1033, 2)),
        ("fcntl", (3, 1024, 0)),
        ("fcntl", (3, 1026, 2)),
        ("madvise", (1 << 40, 4096, 9)),
        ("madvise", (1 << 40, 4096, UPPER | 9)),
    ],
)
def test_refused_by_argument(profile: Profile, name: str, arguments: tuple[int, ...]) -> None:
    """Namespaces, other socket families, continuing, seals and the like fail; upper bits are no way round."""
    assert verdict(profile, name, *arguments) == REFUSED


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("architecture", [pyseccomp.Arch.X86, pyseccomp.Arch.ARM])
def test_another_architecture_kills(profile: Profile, architecture: int) -> None:
    """A call by a 32-bit table, where numbers mean other things, kills the process."""
    assert verdict(profile, 20, architecture=architecture) == pyseccomp.KILL_PROCESS


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="x32 is an ABI of x86_64")
def test_x32_kills() -> None:
    """A call by the x32 table of x86_64, which has the same architecture word, kills the process."""
    assert verdict("program", 0x40000000 | 39) == pyseccomp.KILL_PROCESS
