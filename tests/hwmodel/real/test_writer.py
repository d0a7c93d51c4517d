"""Lines for the operator: a slow reader delays nobody, and lost lines are counted."""

import os
import re
from contextlib import suppress
from pathlib import Path

from hwmodel.real.writer import QUEUE_BYTES, Writer
from kernel.abi.logs import OLDER

LINES = 20_000
LOST = re.compile(rb"^(\d+) lines of this log were lost: nobody read them in time$", re.MULTILINE)


def read_all(reading: int) -> bytes:
    """Read until the other end is closed."""
    found = bytearray()
    while data := os.read(reading, 1 << 16):
        found += data
    return bytes(found)


def test_whoever_does_not_read_delays_nobody() -> None:
    """A full pipe: the lines that have no room are dropped, counted, and the count is said where they were."""
    reading, writing = os.pipe()
    writer = Writer(writing)
    for number in range(LINES):
        writer.say(f"line {number}")  # more than pipe and queue hold: it still returns
    is_blocking = os.get_blocking(writing)
    copy = os.dup(reading)
    found = bytearray()
    while b"were lost" not in found:  # the writer says so by itself, once there is room
        found += os.read(copy, 1 << 16)
    writer.say("later")
    writer.close(60)
    os.close(writing)
    found += read_all(copy)
    os.close(reading)
    os.close(copy)

    lost = sum(int(count) for count in LOST.findall(found))
    said = [line for line in found.splitlines() if line.startswith(b"line ")]
    assert is_blocking  # the description is shared with others, whose it is to decide
    assert lost > 0
    assert len(said) + lost == LINES
    assert found.endswith(b"later\n")
    assert sum(len(line) + 1 for line in said) < 1 << 18 > QUEUE_BYTES


def test_what_cannot_be_written_is_counted() -> None:
    """A disk without room: said with the next line that can be written."""
    target = os.open("/dev/full", os.O_WRONLY)
    writer = Writer(target)
    writer.say("one")
    writer.say("two\nthree")
    while writer._failed < 3:
        os.sched_yield()
    reading, writing = os.pipe()
    os.dup2(writing, target)
    os.close(writing)
    writer.say("four")
    writer.close(60)
    os.close(target)
    found = read_all(reading)
    os.close(reading)

    assert found == b"3 lines of this log were lost: they could not be written\nfour\n"


def test_a_file_is_begun_anew(tmp_path: Path) -> None:
    """After so many bytes; one older file is kept, and standard output follows."""
    path = tmp_path / "kernel.log"
    stdout = os.dup(1)
    target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = Writer(target, str(path), limit=100)
    try:
        for number in range(25):
            writer.say(f"line {number:04}")
        writer.close(60)
        os.write(1, b"from elsewhere\n")
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(target)

    older = Path(f"{path}{OLDER}").read_text(encoding="ascii").splitlines()
    now = path.read_text(encoding="ascii").splitlines()
    assert older + now == [f"line {number:04}" for number in range(10, 25)] + ["from elsewhere"]
    assert {each.name for each in tmp_path.iterdir()} == {"kernel.log", f"kernel.log{OLDER}"}


def test_a_close_waits_no_longer_than_it_is_told() -> None:
    """Its thread stays behind where nobody reads."""
    reading, writing = os.pipe()
    writer = Writer(writing)
    for _ in range(LINES):
        writer.say("line")
    writer.close(0)
    found = os.read(reading, 4)
    writer._lines.clear()
    os.set_blocking(reading, False)  # it may have written its last, and not have ended yet
    while writer._thread.is_alive():
        with suppress(BlockingIOError):
            os.read(reading, 1 << 16)
        writer._thread.join(0.001)
    os.close(reading)
    writer.close(60)
    os.close(writing)

    assert found == b"line"
