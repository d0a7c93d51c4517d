"""Files an environment may open: Landlock, by landlockpy.

A ruleset is made once, as root, so that it can name directories that the environment's uid could not even
walk to, and is put on in each child by one system call. Everything the host's ABI knows is forbidden and
then allowed if listed; a newer ABI forbids more (2 links across directories, 3 truncation, 4 TCP, 5
device ioctls, 6 signals and abstract sockets beyond the environment, 9 pathname sockets, 10 UDP).
"""

import fcntl
import os
import stat
import sys
from collections.abc import Iterable

from landlockpy import AccessFS, Ruleset, Scope

from libexo.launch.confine.policy import Place, Policy

READ = AccessFS.READ_FILE | AccessFS.READ_DIR
DEVICE = READ | AccessFS.WRITE_FILE | AccessFS.IOCTL_DEV
WRITE = (
    READ
    | AccessFS.WRITE_FILE
    | AccessFS.TRUNCATE
    | AccessFS.REFER
    | AccessFS.REMOVE_DIR
    | AccessFS.REMOVE_FILE
    | AccessFS.MAKE_DIR
    | AccessFS.MAKE_REG
    | AccessFS.MAKE_SYM
    | AccessFS.MAKE_FIFO
    | AccessFS.MAKE_SOCK
)
OF_FILES = (
    AccessFS.EXECUTE
    | AccessFS.READ_FILE
    | AccessFS.WRITE_FILE
    | AccessFS.TRUNCATE
    | AccessFS.IOCTL_DEV
    | AccessFS.RESOLVE_UNIX
)
"""The rights that exist for a single file; the host refuses a rule with more."""

SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/sbin", "/etc", "/opt")
# All of /proc and not /proc/self: a rule made in the parent cannot name the child's directory, and one made
# in the child would have to pin it. Other processes' mem, fd, maps and environ stay shut, by uid and because
# a Landlock domain may not trace a process outside of it.
INFORMATION = ("/proc", "/sys/devices/system", "/dev/urandom", "/dev/random")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
# The host's flags of an open descriptor, and the rights of opening it again.
AGAIN = {
    os.O_RDONLY: AccessFS.READ_FILE | AccessFS.IOCTL_DEV,
    os.O_WRONLY: AccessFS.WRITE_FILE | AccessFS.IOCTL_DEV,
    os.O_RDWR: AccessFS.READ_FILE | AccessFS.WRITE_FILE | AccessFS.IOCTL_DEV,
}


def make_ruleset(policy: Policy) -> Ruleset:
    """Build the ruleset of *policy*; the caller closes it.

    Only a foreign program is given EXECUTE: loading a shared object does not need it.
    """
    run = AccessFS.EXECUTE if policy.profile == "foreign" else AccessFS.NONE
    ruleset = Ruleset(scoped=Scope.SIGNAL | Scope.ABSTRACT_UNIX_SOCKET)
    try:
        _allow(ruleset, _present((*SYSTEM, sys.prefix, sys.base_prefix)), READ | run)
        _allow(ruleset, _present(INFORMATION), READ)
        _allow(ruleset, _present(DEVICES), DEVICE)
        _allow(ruleset, policy.readable, READ | run)
        _allow(ruleset, policy.writable, WRITE)
        for terminal in policy.terminals:
            flags = fcntl.fcntl(terminal, fcntl.F_GETFL)
            _allow(ruleset, (terminal,), AGAIN.get(flags & os.O_ACCMODE, AccessFS.NONE))
        _allow(ruleset, policy.connectable, AccessFS.RESOLVE_UNIX)
    except BaseException:
        ruleset.close()
        raise
    return ruleset


def restrict(ruleset: Ruleset) -> None:
    """Put *ruleset* on for good, and close our descriptor of it; needs no_new_privs."""
    ruleset.restrict(no_new_privs=False)
    ruleset.close()


def _present(paths: Iterable[str]) -> list[str]:
    """The usual paths that this host has."""
    return [path for path in dict.fromkeys(paths) if os.path.exists(path)]


def _allow(ruleset: Ruleset, places: Iterable[Place], access: AccessFS) -> None:
    """Allow *access* at and below each of *places*."""
    for place in places:
        path = f"/proc/self/fd/{place}" if isinstance(place, int) else os.fspath(place)
        is_directory = stat.S_ISDIR(os.stat(path).st_mode)
        ruleset.allow_path(path, access if is_directory else access & OF_FILES)
