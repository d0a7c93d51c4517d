"""Errors of exhaustion, by the host's own numbers, with what to do about each: one table for both machines."""

import errno
import os
from collections.abc import Mapping

from hwmodel.machine import Exhausted

ADVICE: Mapping[int, str] = {
    errno.EMFILE: "the kernel's limit of descriptors is reached: raise it (ulimit -n)",
    errno.ENFILE: "the host's limit of open files is reached: raise fs.file-max",
    errno.ENOMEM: "the host has no memory left: give it more, or run less",
    errno.ENOBUFS: "the host has no memory for sockets left: give it more, or run less",
    errno.ENOSPC: "a file system of the host is full, of bytes or inodes: make room at the run directory",
    errno.EDQUOT: "the quota of the kernel's user is used up: raise it, or make room",
    errno.EFBIG: "the kernel's limit on file size is too low: raise it (ulimit -f)",
    errno.EPERM: "the host does not allow it: 'exo doctor' says which protections are missing",
    errno.EACCES: "the host does not allow it: 'exo doctor' says which protections are missing",
    errno.ETOOMANYREFS: "too many descriptors are on their way unread: raise the kernel's limit (ulimit -n)",
    errno.EAGAIN: "a limit of the kernel's user is reached: raise it (ulimit -u, ulimit -l)",
}


def exhausted(number: int) -> Exhausted:
    """Return the machine's error for a host call that failed with error *number*, in the table or not."""
    advice = ADVICE.get(number) or f"the host failed: {os.strerror(number)}"
    return Exhausted(f"{advice} [{errno.errorcode.get(number, number)}]")
