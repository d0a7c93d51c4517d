"""Error codes: those of the system calls, and the word an IPC leaves in the ErrorCode register.

An X.2 call never raises: it returns a failure value and leaves a code in the thread control register ErrorCode.
After a failed IPC (tag bit E) that register holds the phase in bit 0, the code in bits 3..1 (an
`IpcCode`), and from bit 4 on, for codes 4 to 7, the number of bytes of string items that were copied.
Source: L4 X.2 reference manual, rev. 7; names and texts as in L4Ka::Pistachio.
"""

from kernel.abi.messages import IpcCode, Phase
from libexo.l4.format.words import WORD_BITS, within, word

__all__ = [
    "ERROR_INVALID_PARAM",
    "ERROR_INVALID_SCHEDULER",
    "ERROR_INVALID_SPACE",
    "ERROR_INVALID_THREAD",
    "ERROR_KIP_AREA",
    "ERROR_NO_MEM",
    "ERROR_NO_PRIVILEGE",
    "ERROR_OK",
    "ERROR_UTCB_AREA",
    "ErrInvalidParam",
    "ErrInvalidScheduler",
    "ErrInvalidSpace",
    "ErrInvalidThread",
    "ErrKipArea",
    "ErrNoMem",
    "ErrNoPrivilege",
    "ErrOk",
    "ErrUtcbArea",
    "ErrorCode_String",
]

ErrOk = 0
ErrNoPrivilege = 1
"""The caller's space is not privileged, or the caller is not the scheduler."""
ErrInvalidThread = 2
"""The destination is unknown, inactive, reserved, or not allowed."""
ErrInvalidSpace = 3
"""The space specifier is unknown, or the space not initialised where it must be."""
ErrInvalidScheduler = 4
ErrInvalidParam = 5
ErrUtcbArea = 6
"""The UTCB's location or area is invalid."""
ErrKipArea = 7
"""The area of the kernel interface page is invalid."""
ErrNoMem = 8

ERROR_OK = ErrOk
ERROR_NO_PRIVILEGE = ErrNoPrivilege
ERROR_INVALID_THREAD = ErrInvalidThread
ERROR_INVALID_SPACE = ErrInvalidSpace
ERROR_INVALID_SCHEDULER = ErrInvalidScheduler
ERROR_INVALID_PARAM = ErrInvalidParam
ERROR_UTCB_AREA = ErrUtcbArea
ERROR_KIP_AREA = ErrKipArea
ERROR_NO_MEM = ErrNoMem

_TEXTS = {
    ErrOk: "l4_error_ok",
    ErrNoPrivilege: "l4_error_no_privilege",
    ErrInvalidThread: "l4_error_invalid_thread",
    ErrInvalidSpace: "l4_error_invalid_space",
    ErrInvalidScheduler: "l4_error_invalid_scheduler",
    ErrInvalidParam: "l4_error_invalid_param",
    ErrUtcbArea: "l4_error_utcb_area",
    ErrKipArea: "l4_error_kip_area",
    ErrNoMem: "l4_error_no_mem",
}
_OFFSET_AT = 4
_CODE_MASK = 0b111


def ErrorCode_String(err: int) -> str:
    """Return the name of error code *err* of a system call other than IPC."""
    return _TEXTS.get(err, "invalid error code")


def ipc_error(code: IpcCode, phase: Phase, offset: int = 0) -> int:
    """Return the error word of an IPC that failed with *code* in *phase* after *offset* bytes of strings.

    Raises ValueError for an offset that does not fit, or one with a code that has none (1 to 3).
    """
    within(offset, 0, (1 << WORD_BITS - _OFFSET_AT) - 1, "offset")
    if offset and code < IpcCode.OVERFLOW:
        raise ValueError(f"offset {offset}: nothing was copied when an IPC ends with {code.name}")
    return offset << _OFFSET_AT | code << 1 | phase


def ipc_error_parts(error: int) -> tuple[Phase, IpcCode, int]:
    """Return phase, code and offset of IPC error word *error*. Raises ValueError when it holds no code."""
    error = word(error, "error word")
    code = error >> 1 & _CODE_MASK
    if not code:
        raise ValueError(f"error word {error:#x} holds no code: the IPC succeeded")
    return Phase(error & 1), IpcCode(code), error >> _OFFSET_AT
