"""Notes the time at its first instruction and sends it to the thread named by BENCH_PARENT."""

import time

FIRST = time.monotonic_ns()

import os  # noqa: E402 - the clock is read first

import libexo  # noqa: E402
from libexo.ipc.message import Message  # noqa: E402

libexo.attach().thread.send(int(os.environ["BENCH_PARENT"]), Message(words=(FIRST,)))
