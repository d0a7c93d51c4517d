"""Host calls that Python lacks: prctl, timers as descriptors, a mapping at a given place."""

import ctypes
import mmap
import os
import platform
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl
_timerfd_create = _libc.timerfd_create
_timerfd_settime = _libc.timerfd_settime
_mmap = _libc.mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = [
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
]
_fallocate = _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]

# linux/prctl.h, linux/falloc.h, linux/time.h, sys/timerfd.h, asm-generic/mman-common.h
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
PR_GET_CHILD_SUBREAPER = 37
CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1
MAP_FIXED = 0x10
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
_MAP_FAILED = ctypes.c_void_p(-1).value
SECOND = 1_000_000_000


class _Times(ctypes.Structure):
    """struct itimerspec: the interval, which we leave zero, and the first expiration."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("seconds", ctypes.c_long),
        ("nanoseconds", ctypes.c_long),
    )


def check(result: int) -> int:
    """Return *result*, or raise the host's error."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, value: int = 0) -> int:
    """Call prctl with one argument."""
    zero = ctypes.c_ulong(0)
    return check(_prctl(option, ctypes.c_ulong(value), zero, zero, zero))


def is_subreaper() -> bool:
    """Whether orphans below this process become its children."""
    answer = ctypes.c_int(0)
    check(_prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0))
    return bool(answer.value)


def map_over(address: int, size: int, descriptor: int) -> None:
    """Put a shared, writable mapping of *descriptor* in the place of the *size* bytes at *address*."""
    place = _mmap(
        address,
        size,
        mmap.PROT_READ | mmap.PROT_WRITE,
        mmap.MAP_SHARED | MAP_FIXED,
        descriptor,
        0,
    )
    if place == _MAP_FAILED:
        check(-1)


_SLICES = {"x86_64": 314, "aarch64": 274}
"""Of sched_setattr(2)."""
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")


def run_for(nanoseconds: int) -> None:
    """Have the calling thread give way after so long, 0: as all do. The shorter, the sooner it runs when it wakes.

    That is so from Linux 6.12 on; before, nothing changes. Raises OSError.
    """
    niceness = os.getpriority(os.PRIO_PROCESS, 0)
    size = _ATTRIBUTES.size
    wanted = ctypes.create_string_buffer(_ATTRIBUTES.pack(size, 0, 0, niceness, 0, nanoseconds, 0, 0), size)
    check(_libc.syscall(_SLICES.get(platform.machine(), -1), 0, wanted, 0))


_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}


def perf_event(attributes: bytes, core: int, flags: int) -> int:
    """Return a descriptor of a perf event of all that runs on *core*. Raises OSError."""
    number = _PERF_EVENT_OPEN.get(platform.machine(), -1)
    everybody, alone = -1, -1
    return check(_libc.syscall(number, attributes, everybody, core, alone, ctypes.c_ulong(flags)))


def punch_hole(descriptor: int, offset: int, size: int) -> None:
    """Free *size* bytes of a file from *offset*: they read as zeros, and its size stays."""
    check(_fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size))


_ioctl = _libc.ioctl
_ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]


def control(descriptor: int, call: int, memory: "ctypes.Array[ctypes.c_char]") -> int:
    """Do what ioctl does with *memory*, while other threads run; return the error, 0 for none."""
    return ctypes.get_errno() if _ioctl(descriptor, call, memory) < 0 else 0


_PROCESS_MADVISE, _PAGE_OUT = 440, 21
"""The number of process_madvise(2), the same everywhere; MADV_PAGEOUT."""


def page_out(process: int, address: int, size: int) -> int:
    """Take memory from the view of a *process*, given by a descriptor; return the error, 0 for none."""
    piece = (ctypes.c_size_t * 2)(address, size)
    done = _libc.syscall(_PROCESS_MADVISE, process, piece, ctypes.c_size_t(1), _PAGE_OUT, ctypes.c_uint(0))
    return ctypes.get_errno() if done < 0 else 0


def address_of(memory: mmap.mmap) -> int:
    """Return the address of *memory*."""
    return ctypes.addressof(ctypes.c_char.from_buffer(memory))


class Timer:
    """A descriptor that becomes readable at a time of the monotonic clock, to the nanosecond.

    The timeout of epoll counts milliseconds, which is too coarse for slices of 500 µs.
    """

    def __init__(self) -> None:
        flags = os.O_CLOEXEC | os.O_NONBLOCK
        self.descriptor = check(_timerfd_create(CLOCK_MONOTONIC, flags))
        self._times = _Times()
        self._reference = ctypes.byref(self._times)

    def set(self, at: int) -> None:
        """Become readable at *at* (ns); 0: never. An earlier setting is forgotten."""
        self._times.seconds, self._times.nanoseconds = divmod(at, SECOND)
        check(_timerfd_settime(self.descriptor, TFD_TIMER_ABSTIME, self._reference, None))

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self.descriptor)
