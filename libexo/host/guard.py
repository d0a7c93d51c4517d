"""Views that outlive their memory: the access that finds it taken is mended, instead of ending the program.

A real host takes memory away by cutting the file short, and the next access raises SIGBUS. The handler here
mends the guarded view, and lets the access go on: with the memory's replacement, if the memory only moved,
or with zeros, where the program need not know. The first is how an exokernel has faults handled, by the program
itself; the other is what a display server does with the buffers of its clients. Both are safe for the same
reason: the signal is raised by the very instruction that touches the view, never in the middle of anything else,
so the handler may do what any callback from C may, a trap too. An access that is not guarded, or cannot be mended,
ends by the signal as before. On the simulated machine there is nothing to do: the access raises ValueError.

Memory that is paged gives no access while it is put in place (`libexo.host.memory`): SIGSEGV. A strand that meets
it then waits until it is done.
"""

import ctypes
import weakref
from collections.abc import Callable

_SIGBUS, _SIGSEGV = 7, 11
_SIGINFO, _RESTART = 4, 0x1000_0000
_PROT_READ, _PROT_WRITE, _PRIVATE_FIXED_ANONYMOUS = 1, 2, 0x32
_ADDRESS = 16
"""Offset of the accessed address in siginfo_t."""


class _Action(ctypes.Structure):
    """The C library's `struct sigaction`."""

    _fields_ = (
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)

Mend = Callable[[int, int, int], bool]
"""Puts memory where a view of so many bytes begins, at least at the byte that was touched; False: there is none.

It must not touch the view.
"""
_guarded: "dict[int, tuple[weakref.ref[ctypes.Array[ctypes.c_ubyte]], dict[int, Mend]]]" = {}
"""The memory of each guarded view and its mends by signal, by address."""
_before: dict[int, _Action] = {}
"""The earlier action of each signal for which the handler is installed."""


def zeros(address: int, size: int, _byte: int) -> bool:
    """Mend by zeros; writes to them go nowhere."""
    protection = _PROT_READ | _PROT_WRITE
    return bool(_libc.mmap(address, size, protection, _PRIVATE_FIXED_ANONYMOUS, -1, 0) == address)


def guard(view: memoryview, mend: Mend = zeros, denied: Mend | None = None) -> None:
    """Call *mend* from now on when memory of *view* is touched and was taken; *denied* when it gives no access."""
    memory = view.obj
    if not isinstance(memory, ctypes.Array):
        return
    mends = {_SIGBUS: mend} if denied is None else {_SIGBUS: mend, _SIGSEGV: denied}
    for signal in mends.keys() - _before.keys():
        _before[signal] = _install(signal)
    address = ctypes.addressof(memory)
    _guarded[address] = weakref.ref(memory, lambda gone: _forget(address, gone)), mends


def _forget(address: int, gone: object) -> None:
    if address in _guarded and _guarded[address][0] is gone:
        del _guarded[address]


def _install(signal: int) -> _Action:
    """Install the handler of *signal*; return what it replaces."""
    before, handler = _Action(), ctypes.cast(_handler, ctypes.c_void_p)
    action = _Action(handler.value, flags=_SIGINFO | _RESTART)
    _libc.sigaction(signal, ctypes.byref(action), ctypes.byref(before))
    return before


def _handle(signal: int, information: int, _context: int) -> None:
    at = ctypes.c_size_t.from_address(information + _ADDRESS).value
    for address, (reference, mends) in list(_guarded.items()):
        memory = reference()
        size = ctypes.sizeof(memory) if memory is not None else 0
        if address <= at < address + size and signal in mends and mends[signal](address, size, at - address):
            return
    # Not ours, or gone: the access is repeated, and ends as it would have.
    _libc.sigaction(signal, ctypes.byref(_before.get(signal, _Action())), None)


_handler = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)(_handle)
"""Kept for ever: the host may call it at any time."""
