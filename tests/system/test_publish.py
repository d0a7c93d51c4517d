"""The publish channel between real processes: at full speed, and when somebody ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.system.booted import PATIENCE, ROOT, System, wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

COUNT = 60_000
PUBLISHER = """
import random, select, sys, zlib
import libexo
from libexo.publish import Publisher, PublicationServer
from libexo.stub import Server, serve
from servers.memory.api import Memory

count, readers = int(sys.argv[1]), int(sys.argv[2])
env = libexo.attach()
draw = random.Random(1)
contents = [draw.randbytes(draw.randrange(0, 400)) for _ in range(500)]
contents = [zlib.crc32(content).to_bytes(4, "little") + content for content in contents]

class Feed(PublicationServer):
    waiting = frozenset()

    def after(self, frame, position):
        if len(self.waiting) < readers:
            self.waiting |= {self.call.sender}
            if len(self.waiting) == readers:
                self.server.after(0, self.tick)
        return super().after(frame, position)

    def tick(self):
        if self.publisher.closed:
            return
        for content in contents:
            self.publisher.publish(content)
        if self.publisher.published < count or not count:
            self.server.after(0 if count else 0.01, self.tick)
        else:
            self.publisher.close()

    def close(self):
        if not select.select([sys.stdin], [], [], 0)[0]:
            return
        self.publisher.close()
        print(self.publisher.published, self.publisher._writer._generation, flush=True)
        self.server.unwatch(sys.stdin)

feed = Feed(Publisher(env, Memory.connect(env).allocate(4)))
feed.server = Server(env, feed)
feed.server.watch(sys.stdin, feed.close)
print("ready", flush=True)
serve(feed, "feed", env)
"""
READER = """
import json, sys, time, zlib
import libexo
from libexo.publish import ChannelEnded, Reader

env = libexo.attach(*sys.argv[2:])
pause = float(sys.argv[1])
env.lookup("feed", timeout=10)
read = torn = 0
reader = Reader.join(env, "feed")
try:
    while reader.wait():
        for content in reader:
            read += 1
            torn += zlib.crc32(content[4:]) != int.from_bytes(content[:4], "little")
            if read == 1:
                print("reads", flush=True)
        if pause:
            time.sleep(pause)
except ChannelEnded as ended:
    print(json.dumps([read, reader.missed, torn, str(ended)]), flush=True)
"""
BUSY = """
import libexo
from libexo.publish import ChannelEnded, Reader

env = libexo.attach()
env.lookup("feed", timeout=10)
reader = Reader.join(env, "feed")
reader.wait()
print("reads", flush=True)
try:
    while True:
        reader.read()
except ChannelEnded as ended:
    print(ended)
"""


def test_a_fast_and_a_slow_reader(booted: System) -> None:
    """Nothing is torn, and for each of them what it read and what it missed is all there was."""
    with (
        booted.start(PUBLISHER, COUNT, 2, name="publisher") as publisher,
        booted.start(READER, 0, name="quick") as quick,
        booted.start(READER, 0.02, name="slow") as slow,
    ):
        publisher.line()
        assert (quick.line(), slow.line()) == ("reads", "reads")
        results = [json.loads(each.line()) for each in (quick, slow)]

    for read, missed, torn, ended in results:
        assert (torn, read + missed) == (0, COUNT)
        assert "closed" in ended
    assert results[1][1] > 0


def test_the_publisher_is_killed(booted: System) -> None:
    """Its memory is taken from all: sleeping and busy readers both learn of it and live."""
    with (
        booted.start(PUBLISHER, 0, 1, name="publisher") as publisher,
        booted.start(READER, 0, name="sleepy") as sleepy,
        booted.start(BUSY, name="busy") as busy,
    ):
        publisher.line()
        assert (sleepy.line(), busy.line()) == ("reads", "reads")
        os.kill(booted.server("publisher").pid, signal.SIGKILL)
        assert publisher.finish().status == -signal.SIGKILL
        [asleep, awake] = [each.finish() for each in (sleepy, busy)]

    assert (asleep.status, awake.status) == (0, 0), (asleep, awake)
    assert json.loads(asleep.out.splitlines()[-1])[2] == 0
    assert "ended" in asleep.out
    assert "ended" in awake.out


@contextmanager
def attached(system: System, program: str, *arguments: object) -> "Iterator[subprocess.Popen[str]]":
    """A process of ours that attaches by itself."""
    command = [sys.executable, "-c", program, *map(str, arguments), str(system.run_directory), "guest"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_guest_leaves(booted: System) -> None:
    """When a reader that attached by itself is gone, the kernel moves the memory: all others go on, and count."""
    with (
        booted.start(PUBLISHER, 0, 2, name="publisher") as publisher,
        booted.start(READER, 0, name="quick") as quick,
        attached(booted, READER, 0) as guest,
    ):
        publisher.line()
        assert quick.line() == "reads"
        assert guest.stdout is not None
        assert guest.stdout.readline() == "reads\n"
        guest.kill()
        guest.wait(PATIENCE)
        assert wait_until(lambda: all(row.name != "guest" for row in booted.kip.environments()))
        published, generation = map(int, publisher.ask("close").split())
        read, missed, torn, ended = json.loads(quick.line())

    assert (torn, generation) == (0, 2)
    assert 0 < read + missed <= published
    assert "closed" in ended
