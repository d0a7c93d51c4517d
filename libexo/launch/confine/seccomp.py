"""System calls an environment may make: a deny list, compiled by libseccomp through pyseccomp.

The program is compiled once a profile and loaded in each child by one prctl. Arguments that the host reads
as 32 bits are compared as 32 bits; otherwise the upper half would be a way round. A call of another architecture's
table (i386 and x32 on x86_64, arm on aarch64) kills the process: its numbers mean other things.
"""

import ctypes
import errno
import functools
import os
import socket
from collections.abc import Iterator
from signal import SIGCONT, SIGKILL
from typing import Any, Literal, NamedTuple, TypeAlias

from libexo.launch.confine.credentials import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from libexo.launch.confine.policy import Profile

DENIED = {
    "another process's memory, registers and descriptors": (
        "ptrace process_vm_readv process_vm_writev pidfd_getfd kcmp process_madvise process_mrelease "
        "migrate_pages move_pages perf_event_open"
    ),
    "large attack surface for no use here": (
        "bpf userfaultfd io_uring_setup io_uring_enter io_uring_register keyctl add_key request_key "
        "personality"
    ),
    "files by another way than their path": "open_by_handle_at",
    # Landlock knows nothing of these, and a uid that programs share with a person owns that person's files.
    "mode, owner, times and attributes of files": (
        "chmod fchmod fchmodat fchmodat2 chown lchown fchown fchownat utime utimes futimesat utimensat setxattr "
        "lsetxattr fsetxattr setxattrat removexattr lremovexattr fremovexattr removexattrat file_setattr"
    ),
    "word of what others do with files": "inotify_init inotify_init1 fanotify_init fanotify_mark",
    "a file tree, or a view of the host, of its own": (
        "mount umount2 pivot_root chroot move_mount open_tree open_tree_attr mount_setattr fsopen fsconfig "
        "fsmount fspick unshare setns"
    ),
    "the host's administration": (
        "init_module finit_module delete_module kexec_load kexec_file_load reboot swapon swapoff quotactl "
        "quotactl_fd acct syslog settimeofday clock_settime"
    ),
    "memory and messages that the kernel did not hand out": (
        "memfd_create memfd_secret shmget shmat shmctl semget semop semtimedop semctl msgget msgsnd msgrcv msgctl "
        "mq_open mq_unlink"
    ),
    "the size of an extent: its other holders would fault, or it would take frames unasked": (
        "ftruncate truncate fallocate"
    ),
    "core and share of it, which the kernel decides": (
        "setpriority sched_setaffinity sched_setparam sched_setattr ioprio_set setrlimit"
    ),
    "the process group, by which the kernel stops an environment with all its children": "setsid setpgid",
}
"""Refused with EPERM to every program: what the calls would give, and the calls."""

UNSEEN = ("clone3", "timer_create")
"""Answered as if the host had no such call: what they do stands in memory, where no filter sees it. glibc
then makes threads by clone. A timer could send the signal that undoes a stop; setitimer has none to choose."""

PROGRAM_DENIED = "fork vfork execve execveat"
"""Refused to a program on top of that: it is one process, running one file."""

UNIFIED = {
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "memfd_secret": 447,
    "process_mrelease": 448,
    "fchmodat2": 452,
    "setxattrat": 463,
    "removexattrat": 466,
    "open_tree_attr": 467,
    "file_setattr": 469,
}
"""Numbers, the same on every architecture, of calls that some libseccomp releases cannot name."""

LOW_HALF = 0xFFFFFFFF

# linux/sched.h, prctl.h, fcntl.h, seccomp.h; asm-generic/mman-common.h, ioctls.h
CSIGNAL = 0xFF
CLONE_PARENT = 0x00008000
CLONE_THREAD = 0x00010000
CLONE_NEW = (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000)
PR_SCHED_CORE = 62
F_SETSIG = 10
F_SETLEASE = 1024
F_NOTIFY = 1026
F_ADD_SEALS = 1033
MADV_REMOVE = 9
TIOCSTI = 0x5412
TIOCLINUX = 0x541C
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2


SIGNALS = {
    "kill": 1,
    "tkill": 1,
    "tgkill": 2,
    "pidfd_send_signal": 1,
    "rt_sigqueueinfo": 1,
    "rt_tgsigqueueinfo": 2,
}
"""Calls that send a signal, and which argument has its number."""


class Compare(NamedTuple):
    """A condition on one argument: its bits under *mask* are, or are not, *value*."""

    argument: int
    operator: Literal["==", "!="]
    value: int
    mask: int = LOW_HALF


Conditions: TypeAlias = tuple[tuple[str, tuple[Compare, ...]], ...]

CONDITIONAL: Conditions = (
    ("socket", (Compare(0, "!=", socket.AF_UNIX),)),
    ("socketpair", (Compare(0, "!=", socket.AF_UNIX),)),
    ("sched_setscheduler", (Compare(1, "!=", os.SCHED_OTHER),)),
    ("prlimit64", (Compare(2, "!=", 0),)),
    ("prctl", (Compare(0, "==", PR_SET_DUMPABLE), Compare(1, "!=", 0))),
    ("prctl", (Compare(0, "==", PR_SET_PDEATHSIG), Compare(1, "!=", SIGKILL))),
    ("prctl", (Compare(0, "==", PR_SCHED_CORE),)),
    ("ioctl", (Compare(1, "==", TIOCSTI),)),
    ("ioctl", (Compare(1, "==", TIOCLINUX),)),
    # A seal would make an extent that the kernel cannot take back; a punched hole loses its other holders'
    # data behind the kernel's account of which pages are there.
    ("fcntl", (Compare(1, "==", F_ADD_SEALS),)),
    # A lease holds up others that open the file for writing; a notice tells what others do in a directory.
    ("fcntl", (Compare(1, "==", F_SETLEASE),)),
    ("fcntl", (Compare(1, "==", F_NOTIFY),)),
    ("madvise", (Compare(2, "==", MADV_REMOVE),)),
    # Who continues itself, as often as it can, undoes the stop that ends its slice.
    *((name, (Compare(at, "==", SIGCONT),)) for name, at in SIGNALS.items()),
    ("fcntl", (Compare(1, "==", F_SETSIG), Compare(2, "==", SIGCONT))),
    ("clone", (Compare(0, "==", SIGCONT, CSIGNAL),)),
    # A child of our parent's would be unknown there.
    ("clone", (Compare(0, "==", CLONE_PARENT, CLONE_PARENT),)),
    *(("clone", (Compare(0, "==", flag, flag),)) for flag in CLONE_NEW),
)
"""Refused with EPERM for these arguments."""

SAID_DONE: Conditions = (("sched_setscheduler", (Compare(1, "==", os.SCHED_OTHER),)),)
"""Answered as if it was done, without doing it: libzmq sets the ordinary policy on each thread it makes, which has
it already, and aborts where it may not; but the call may name a process of somebody else's, too."""

PROGRAM_CONDITIONAL = (("clone", (Compare(0, "==", 0, CLONE_THREAD),)),)
"""A program makes threads, not processes."""


class SockFilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


@functools.cache
def compile_filter(profile: Profile) -> bytes:
    """Return the BPF instructions of *profile*. Raises OSError without a library for this host."""
    seccomp = _library()
    if seccomp.system_arch() not in (seccomp.Arch.X86_64, seccomp.Arch.AARCH64):
        raise OSError(errno.ENOSYS, f"no system call filter for {os.uname().machine}")
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    rules.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    for name in UNSEEN:
        rules.add_rule(seccomp.ERRNO(errno.ENOSYS), name)
    for name, conditions in SAID_DONE:
        rules.add_rule(seccomp.ERRNO(0), name, *[_argument(seccomp, condition) for condition in conditions])
    for name, conditions in _denials(profile):
        arguments = [_argument(seccomp, condition) for condition in conditions]
        rules.add_rule(seccomp.ERRNO(errno.EPERM), _number(seccomp, name), *arguments)
    return _export(rules)


def load(instructions: bytes) -> None:
    """Put the filter on this thread for good; needs no_new_privs."""
    program = SockFilterProgram(len(instructions) // 8, instructions)
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program))


def _library() -> Any:  # noqa: ANN401  pyseccomp has no types
    """Import pyseccomp, which looks for its shared library by running ldconfig: once, and not in a child."""
    try:
        import pyseccomp  # noqa: PLC0415  missing or without its library: a layer the host lacks
    except (ImportError, RuntimeError) as error:
        raise OSError(errno.ENOENT, str(error)) from error
    return pyseccomp


def _denials(profile: Profile) -> Iterator[tuple[str, tuple[Compare, ...]]]:
    """Yield what is refused with EPERM: the call, and its conditions if any."""
    for names in DENIED.values():
        yield from ((name, ()) for name in names.split())
    yield from CONDITIONAL
    if profile == "program":
        yield from ((name, ()) for name in PROGRAM_DENIED.split())
        yield from PROGRAM_CONDITIONAL


def _number(seccomp: Any, name: str) -> int:  # noqa: ANN401  as _library
    """Return a call's number here; negative, and then without effect: this architecture lacks it."""
    number: int = seccomp.resolve_syscall(seccomp.Arch.NATIVE, name)
    if number == -1 and (number := UNIFIED.get(name, -1)) == -1:
        raise OSError(errno.ENOSYS, f"this libseccomp is too old to know {name}")
    return number


def _argument(seccomp: Any, condition: Compare) -> Any:  # noqa: ANN401  as _library
    """Translate a condition. A difference is tested in all 64 bits: that can only refuse more."""
    if condition.operator == "!=":
        return seccomp.Arg(condition.argument, seccomp.NE, condition.value)
    return seccomp.Arg(condition.argument, seccomp.MASKED_EQ, condition.mask, condition.value)


def _export(rules: Any) -> bytes:  # noqa: ANN401  as _library
    """Return the compiled instructions, which libseccomp can only write to a file."""
    with os.fdopen(os.memfd_create("seccomp"), "w+b") as file:
        rules.export_bpf(file)
        file.seek(0)
        return file.read()
