"""A server's deliberate end, on real processes."""

import os

import pytest

from tests.system.booted import System
from tests.system.programs import PRELUDE
from tests.system.test_threads import attached

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

LEAVING = (
    PRELUDE
    + """
class Odd(Interface, label=0x67, name="odd"):
    @operation(1, repeatable=True)
    def leave(self, status: int) -> int: ...
    @operation(2)
    def add(self, n: int) -> int: ...
class Server(Odd):
    def leave(self, status): sys.exit(status)
    def add(self, n): return n + 1
last = 0
def heard(transport):
    global last
    pid = os.fork()
    if pid == 0:
        own = libexo.attach()
        serve(Server(), "odd", own)
    last = env.lookup("odd", 10, last)  # the one before has ended, which the kernel may not know yet
    odd = Odd.connect(env, transport=transport)
    [odd.add(n) for n in range(4)]
    try:
        odd.leave(3)
    except RemoteError as error:
        return error.kind, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print({heard(transport) for transport in ("zmq", "ring") * 3})
"""
)


def test_an_exit_is_heard_first(booted: System) -> None:
    """A server that leaves in an operation has told its caller, over both transports, and leaves as it said."""
    assert attached(booted, LEAVING) == "{('SystemExit', 3)}\n"
