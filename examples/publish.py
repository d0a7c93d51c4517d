"""Publish: one program tells many, through memory they share; the slow are told how many records they missed.

    exo run examples/publish.py

The program starts this file a second time, as the publisher, and joins its channel. Publishing is a store to
memory: no message, no system call, and no waiting for readers, of which there may be any number. A reader maps that
memory read-only, and takes what is new when it likes.
"""

import sys
from pathlib import Path

import msgspec

import libexo
from kernel.abi.program import ProgramKind
from libexo.environment import Environment
from libexo.publish import ChannelEnded, Publication, PublicationServer, Publisher, Reader
from libexo.stub import operation, serve
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec


class Tick(msgspec.Struct, array_like=True):
    """One record."""

    number: int
    says: str = "tick"


class Clock(Publication, label=Publication.label, name="clock"):
    """A channel, with further operations of its server."""

    @operation(10)
    def run(self, ticks: int) -> None: ...

    @operation(11)
    def stop(self) -> None: ...


class ClockServer(PublicationServer, Clock):
    """Publishes when told to; a clock of one's own would use `Server.after`."""

    def run(self, ticks: int) -> None:
        """Publish that many."""
        for _ in range(ticks):
            self.publisher.publish(Tick(self.publisher.published))

    def stop(self) -> None:
        """Stop publishing."""
        self.publisher.close()


def read(env: Environment) -> None:
    """Start the publisher, and read its records, quickly and slowly."""
    me = str(Path(__file__).absolute())
    publisher = Processes.connect(env).spawn(ProgramSpec(ProgramKind.PYTHON, (me, "publisher"), name="clock"))
    env.lookup("clock", timeout=5)
    clock, reader = Clock.connect(env), Reader.join(env, "clock", of=Tick)

    clock.run(3)
    if reader.wait(timeout=1):
        print("new:", *(f"{tick.says} {tick.number}" for tick in reader))

    clock.run(1000)  # more than one page holds
    late = [tick.number for tick in reader]
    print(f"then {len(late)} of 1000, the last of them {late[-1]}; missed: {reader.missed}")

    clock.stop()
    try:
        reader.wait()
    except ChannelEnded as ended:
        print(ended)
    Processes.connect(env).kill(publisher)


def publish(env: Environment) -> None:
    """Serve a channel in one page."""
    serve(ClockServer(Publisher(env, Memory.connect(env).allocate(pages=1), of=Tick)), "clock", env)


if __name__ == "__main__":
    (publish if "publisher" in sys.argv else read)(libexo.attach())
