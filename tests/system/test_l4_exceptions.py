"""Exceptions of real processes: the handler that a program named hears by which signal it died."""

import os
import signal

import pytest

from tests.system.booted import System

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

HANDLER = """
import libexo
from libexo import l4
from kernel.abi.messages import Label
libexo.attach()
l4.MyGlobalId()
print("ready", flush=True)
sender, tag = l4.Wait()
print(l4.ThreadNo(sender), flush=True)
sender, tag = l4.Wait_Timeout(l4.TimePeriod(10_000_000))
print(l4.ThreadNo(sender), tag.label == Label.EXCEPTION, tag.u, l4.StoreMR(4), flush=True)
"""
VICTIM = """
import ctypes, os, sys
import libexo
from libexo import l4
env = libexo.attach()
handler = env.lookup("handler", 5)
l4.Set_ExceptionHandler(handler)
l4.LoadMR(0, 0)
assert not l4.Send(handler).E
if sys.argv[1] == "wild":
    ctypes.string_at(1)
os.kill(os.getpid(), int(sys.argv[1]))
"""


@pytest.mark.conforms("Exception: death of a program")
@pytest.mark.parametrize(
    ("way", "number"),
    [("wild", signal.SIGSEGV), (signal.SIGFPE, signal.SIGFPE), (signal.SIGKILL, signal.SIGKILL)],
)
def test_a_signal_is_an_exception(booted: System, way: object, number: int) -> None:
    """A wild pointer, and any other signal, is told to the handler in the name of the program's thread."""
    with booted.start(HANDLER, name="handler") as handler:
        assert handler.line() == "ready"
        booted.run(VICTIM, int(way) if isinstance(way, int) else way, name="victim")
        victim = handler.line()

        assert handler.line() == f"{victim} True 6 {int(number)}"
