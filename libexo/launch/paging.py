"""What the kernel pages a program by: a userfaultfd, made in its process before any code of the program's runs.

Whoever holds one may do what he likes with the memory of that process, so the program keeps none, and no pager gets
one. The kernel holds it, and the nursery another that nobody reads: if the kernel dies, accesses that wait go on
waiting until the nursery has ended their program, and never find zeros.
"""

import ctypes
import errno
import fcntl
import os
import platform
import socket
import struct

from kernel.abi.program import ProgramKind

_NUMBERS = {"x86_64": 323, "aarch64": 282}
"""Of userfaultfd(2)."""
DEVICE = "/dev/userfaultfd"
_NEW, _API = 0xAA00, 0xC018AA3F
_HANDSHAKE = struct.Struct("<QQQ")
_VERSION = 0xAA
_USER_MODE_ONLY = 1
_FLAGS = _USER_MODE_ONLY | os.O_CLOEXEC | os.O_NONBLOCK
NEEDED = 1 << 0 | 1 << 5 | 1 << 8 | 1 << 10 | 1 << 12 | 1 << 14
"""What programs are paged with, as linux/userfaultfd.h numbers it. Of shared memory: absent pages, those that are
there, and writes to protected ones; which thread waits; poison."""
_libc = ctypes.CDLL(None, use_errno=True)


def refuse(kind: int, layers: "frozenset[str] | set[str]") -> None:
    """Refuse a program whose faults could be got round: by a fork, or an exec. Raises OSError."""
    if kind == ProgramKind.FOREIGN:
        raise OSError(errno.EINVAL, "an executable cannot be paged: what is mapped goes with its exec")
    if "seccomp" not in layers:
        raise OSError(errno.EPERM, "no program is paged here: without seccomp it could fork, and go unpaged")


def hand_over(channel: int) -> None:
    """Make a userfaultfd of this process, send it through *channel*, and close both. Raises OSError."""
    with socket.socket(fileno=channel) as sending:
        number = make()
        try:
            socket.send_fds(sending, [b"."], [number])
        finally:
            os.close(number)


def receive(channel: socket.socket) -> int:
    """Return what the child sent; -1: nothing."""
    try:
        numbers = socket.recv_fds(channel, 1, 1, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)[1]
    except OSError:
        return -1
    return numbers[0] if numbers else -1


def make() -> int:
    """Return a userfaultfd of this process, for faults of user code. Raises OSError: why there is none."""
    number = _open()
    try:
        fcntl.ioctl(number, _API, bytearray(_HANDSHAKE.pack(_VERSION, NEEDED, 0)))
    except OSError as error:
        os.close(number)
        raise OSError(error.errno, "this host cannot page programs: it takes Linux 6.6") from error
    return number


def offered() -> int:
    """Return the features of this host, as NEEDED has them. Raises OSError where there are none for us."""
    number, told = _open(), bytearray(_HANDSHAKE.pack(_VERSION, 0, 0))
    try:
        fcntl.ioctl(number, _API, told)
    finally:
        os.close(number)
    return int(_HANDSHAKE.unpack(told)[1])


def _open() -> int:
    number: int = _libc.syscall(_NUMBERS.get(platform.machine(), -1), _FLAGS)
    if number >= 0:
        return number
    failed = ctypes.get_errno()
    try:
        device = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        why = f"userfaultfd: {os.strerror(failed)}; in a container, give it {DEVICE}"
        raise OSError(failed, f"this host does not let programs be paged ({why})") from None
    try:
        return fcntl.ioctl(device, _NEW, _FLAGS)
    finally:
        os.close(device)
