"""Error codes of the calls, and the error word of an IPC."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.abi.messages import IpcCode, Phase
from libexo import l4
from libexo.errors import IpcTimeout
from libexo.l4.format.constants import ipc_error, ipc_error_parts

CODES = ["Ok", "NoPrivilege", "InvalidThread", "InvalidSpace", "InvalidScheduler"]
CODES += ["InvalidParam", "UtcbArea", "KipArea", "NoMem"]


@pytest.mark.parametrize("number", range(9))
def test_the_codes_of_the_calls(number: int) -> None:
    """Each row of the table of error codes: its number, both its names, and its text."""
    name = CODES[number]
    words = "".join(f"_{c}" if c.isupper() else c for c in name).upper()

    assert getattr(l4, f"Err{name}") == getattr(l4, f"ERROR{words}") == number
    assert l4.ErrorCode_String(number) == f"l4_error{words}".lower()


def test_a_code_that_is_none() -> None:
    """An unknown code is named so."""
    assert l4.ErrorCode_String(9) == "invalid error code"


def test_the_layout_of_an_ipc_error() -> None:
    """Row "error word": phase in bit 0, code in bits 3..1, offset from bit 4 on."""
    assert ipc_error(IpcCode.TIMEOUT, Phase.SEND) == 0b0010
    assert ipc_error(IpcCode.NO_PARTNER, Phase.RECEIVE) == 0b0101
    assert ipc_error(IpcCode.OVERFLOW, Phase.RECEIVE, 100) == 100 << 4 | 0b1001


def test_it_is_the_word_of_the_exceptions() -> None:
    """The error word here and that of `libexo.errors` are the same."""
    assert IpcTimeout(Phase.RECEIVE, "").word == ipc_error(IpcCode.TIMEOUT, Phase.RECEIVE)


@given(st.sampled_from(IpcCode), st.sampled_from(Phase), st.integers(0, (1 << 60) - 1))
def test_an_ipc_error_comes_apart_again(code: IpcCode, phase: Phase, offset: int) -> None:
    """Row "error word": phase, code and, for codes 4 to 7, offset are read back."""
    offset = offset if code >= IpcCode.OVERFLOW else 0

    assert ipc_error_parts(ipc_error(code, phase, offset)) == (phase, code, offset)


@given(st.integers(0, (1 << 64) - 1))
def test_any_word_is_an_ipc_error_or_none(word: int) -> None:
    """A hostile word is read as the table says; only code 0 is none."""
    if word >> 1 & 7:
        phase, code, offset = ipc_error_parts(word)
        assert offset << 4 | code << 1 | phase == word
    else:
        with pytest.raises(ValueError, match="holds no code"):
            ipc_error_parts(word)


def test_offsets_that_cannot_be() -> None:
    """Before the transfer nothing was copied; and an offset has 60 bits."""
    with pytest.raises(ValueError, match="nothing was copied"):
        ipc_error(IpcCode.CANCELLED, Phase.SEND, 1)
    with pytest.raises(ValueError, match="offset"):
        ipc_error(IpcCode.OVERFLOW, Phase.SEND, 1 << 60)
