"""Credentials of a process and its protection from others: ids, capabilities, death signal, dumpable."""

import ctypes
import os
import resource
import signal

# Looked up here, once, and not in every child.
_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_capset = _libc.capset

# linux/prctl.h, linux/sched.h, linux/capability.h
PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWNET = 0x40000000
CAPABILITY_VERSION_3 = 0x20080522

_capability_header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
_no_capabilities = (ctypes.c_uint32 * 6)()


def _check(result: int) -> None:
    """Raise the host's error, if any."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def prctl(option: int, second: int, third: object = 0) -> None:
    """Ask the host to set *option*; unused arguments are full-width zeros, as newer options insist."""
    zero = ctypes.c_ulong(0)
    _check(_prctl(option, ctypes.c_ulong(second), third or zero, zero, zero))


def become(uid: int, gid: int) -> None:
    """Take the ids for good: real, effective and saved, and no other group."""
    if uid <= 0 or gid <= 0:
        raise ValueError(f"an environment needs a uid and gid above 0, not {uid} and {gid}")
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def drop_capabilities() -> None:
    """Give up every capability.

    Leaving root does that by itself, but not if a securebit says otherwise, nor for an ordinary user who
    was given some.
    """
    _check(_capset(_capability_header, _no_capabilities))


def die_with(parent: int) -> None:
    """Have the host kill us when *parent* ends; also if it ended before we asked.

    Comes after `become`: a change of credentials clears the signal.
    """
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        signal.raise_signal(signal.SIGKILL)


def forbid_core_dumps() -> None:
    """Keep memory that belongs to several environments out of core files."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def renounce_privileges() -> None:
    """Set no_new_privs: a set-uid executable runs with our rights, not with its owner's."""
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def leave_network() -> None:
    """Go into a network namespace of our own, with all later children: away from the host's abstract names.

    Raises OSError without CAP_SYS_ADMIN. Open sockets, and those that have a path, are not affected.
    """
    _check(_libc.unshare(CLONE_NEWNET))


def forbid_dumps() -> None:
    """Clear dumpable, so that /proc/PID belongs to root and no debugger of the same uid attaches.

    An execve sets it again. A foreign program is then kept apart by its uid and its Landlock domain.
    """
    prctl(PR_SET_DUMPABLE, 0)
