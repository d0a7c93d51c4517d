"""Restart: a server crashes in the middle of a call, is started again, and is found again.

    exo run examples/restart.py

The program starts this file a second time, as the server, with the rule that it is restarted when it fails.
The caller whose call died with the server gets `NoPartner`: the work may or may not have been done, and only
the caller knows whether it may be repeated. The next call finds the successor under the same name.
"""

import os
import sys
from pathlib import Path

import libexo
from kernel.abi.ids import show_thread, thread_number
from kernel.abi.program import ProgramKind
from libexo.environment import Environment
from libexo.errors import NoPartner
from libexo.stub import Interface, operation, serve
from servers.process.api import Processes, ProgramSpec


class Greeter(Interface, label=0x46, name="greeter"):
    """A server that does little, and crashes on order."""

    @operation(1)
    def greet(self, who: str) -> str: ...

    @operation(2)
    def end(self, status: int) -> None: ...


class GreeterServer(Greeter):
    """Serves `Greeter`."""

    def greet(self, who: str) -> str:
        """Return a greeting."""
        return f"good morning, {who}"

    def end(self, status: int) -> None:
        """End at once, without an answer."""
        os._exit(status)


def call(env: Environment) -> None:
    """Start the server, have it crash, and call it again."""
    me = str(Path(__file__).absolute())
    program = ProgramSpec(ProgramKind.PYTHON, (me, "server"), name="greeter", restart="on-failure")
    first = Processes.connect(env).spawn(program)
    greeter = Greeter.connect(env)
    print(greeter.greet("world"))

    try:
        greeter.end(status=1)
    except NoPartner:
        print("no partner: the server crashed")

    print(greeter.greet("again"))
    second = env.lookup("greeter")
    print(f"the same thread number: {thread_number(first) == thread_number(second)}")
    print(f"another version of it:  {show_thread(second) != show_thread(first)}")

    try:
        greeter.end(status=0)  # no failure: it is not started again
    except NoPartner:
        print("it has ended for good")


if __name__ == "__main__":
    if "server" in sys.argv:
        serve(GreeterServer())
    else:
        call(libexo.attach())
