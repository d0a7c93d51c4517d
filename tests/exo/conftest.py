"""A system made of files: a kernel interface page, an event ring and a console, written by the test."""

import json
import os
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kernel.abi.budget import Item
from kernel.abi.events import RECORD, TRACE_SIZE
from kernel.abi.ids import thread_id
from kernel.abi.kip import (
    ABI_LEVEL,
    BUDGET_ROW,
    BUDGETS,
    ENVIRONMENT,
    ENVIRONMENTS,
    FRAMES,
    MAGIC,
    PLAN_HEAD,
    PLAN_SIZE,
    PLAN_SLICE,
    PLANS,
    X2,
    EnvironmentState,
    Head,
    SystemState,
    extent_at,
    kip_size,
)
from kernel.abi.limits import FRAME_SIZE, TRACE_RECORDS

FRAME_COUNT = 1024


class Pages:
    """The published pages of a system at *run*."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.kip = bytearray(kip_size(FRAME_COUNT))
        self.trace = bytearray(TRACE_SIZE)
        self._events = 0
        self.head(X2.MAGIC, MAGIC)
        self.head(Head.ABI_LEVEL, ABI_LEVEL)
        self.head(Head.FRAME_COUNT, FRAME_COUNT)
        self.head(Head.FREE_FRAMES, FRAME_COUNT)
        self.head(Head.CPU_COUNT, 1)
        self.head(Head.KERNEL_PID, os.getpid())
        self.head(Head.BOOT_NS, time.monotonic_ns())
        self.head(Head.STATE, SystemState.UP)
        self.plan(0)

    def head(self, word: int, value: int) -> None:
        struct.pack_into("<Q", self.kip, word * 8, value)

    def environment(
        self, number: int, name: str, state: EnvironmentState = EnvironmentState.READY, **columns: int
    ) -> None:
        """Write one row; what is not given is zero."""
        thread = columns.get("thread", thread_id(96 + number))
        row = (state, 1000 + number, 0, columns.get("cpu", -1), thread, columns.get("started", 0))
        counts = [
            columns.get(key, 0) for key in ("consumed", "traps", "frames", "handles", "fault", "family")
        ]
        ENVIRONMENT.pack_into(
            self.kip, ENVIRONMENTS + number * ENVIRONMENT.size, *row, *counts, name.encode()
        )

    def frames(self, first: int, count: int, number: int) -> None:
        """Give frames to environment *number*."""
        struct.pack_into(f"<{count}I", self.kip, FRAMES + first * 4, *[number + 1] * count)

    def extent(self, first: int, count: int, user: int, *held: tuple[int, int], **paging: int) -> None:
        """Give an extent to *user*, held by (environment, rights); *paging*: pages, resident, pager."""
        words = [
            count,
            paging.get("pages", count),
            paging.get("resident", -1) + 1,
            paging.get("pager", -1) + 1,
        ]
        holders = [number + 1 | rights << 16 for number, rights in held]
        struct.pack_into(
            f"<{5 + len(holders)}I", self.kip, extent_at(FRAME_COUNT, first), *words, len(holders), *holders
        )
        self.frames(first, count, user)

    def budget(self, number: int, accounts: dict[Item, tuple[int, int]]) -> None:
        """Write what environment *number* uses and may, by item."""
        for item, account in accounts.items():
            struct.pack_into("<II", self.kip, BUDGETS + number * BUDGET_ROW + 8 * item, *account)

    def plan(self, core: int, running: int = -1, *slices: tuple[int, int], number: int = 0) -> None:
        at = PLANS + number * PLAN_SIZE
        PLAN_HEAD.pack_into(self.kip, at, core, len(slices), running + 1, 0, 0)
        for index, entry in enumerate(slices):
            PLAN_SLICE.pack_into(self.kip, at + PLAN_HEAD.size + index * PLAN_SLICE.size, *entry)

    def event(
        self, event: int, environment: int = 0, a: int = 0, b: int = 0, ns: int = 0, detail: int = 0
    ) -> None:
        at = FRAME_SIZE + self._events % TRACE_RECORDS * RECORD.size
        RECORD.pack_into(self.trace, at, ns, event, detail, environment, a, b)
        self._events += 1
        struct.pack_into("<Q", self.trace, 0, self._events)

    def publish(self) -> None:
        """Write the files."""
        (self.run / "kip").write_bytes(self.kip)
        (self.run / "trace").write_bytes(self.trace)


@dataclass
class Operator:
    """A process server that answers what the test laid out, and remembers what it was asked."""

    answers: list[dict[str, Any]]
    requests: list[dict[str, Any]] = field(default_factory=list)
    descriptors: list[list[str]] = field(default_factory=list)
    thread: threading.Thread | None = None

    def serve(self, listener: socket.socket) -> None:
        """Give one answer a request; hang up when there is none left."""
        connection, _ = listener.accept()
        with connection:
            for answer in self.answers:
                data, descriptors, _, _ = socket.recv_fds(connection, 1 << 17, 16)
                if not data:
                    return
                self.requests.append(json.loads(data))
                self.descriptors.append(
                    [str(Path(f"/proc/self/fd/{number}").readlink()) for number in descriptors]
                )
                for number in descriptors:
                    os.close(number)
                for packet in answer.get("packets", [answer]):
                    connection.send(json.dumps(packet).encode())


@pytest.fixture
def run() -> Iterator[Path]:
    """An empty run directory, with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="exo-") as folder:
        place = Path(folder, "run")
        (place / "log").mkdir(parents=True)
        yield place


@pytest.fixture
def pages(run: Path) -> Pages:
    """Pages of a system that is up, with nobody in it."""
    return Pages(run)


@pytest.fixture
def operator(run: Path) -> Iterator[Callable[..., Operator]]:
    """Start a console that gives the *answers*, one a request."""
    started: list[threading.Thread] = []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(run / "console"))
    listener.listen()

    def start(*answers: dict[str, Any]) -> Operator:
        made = Operator(list(answers))
        started.append(threading.Thread(target=made.serve, args=(listener,), daemon=True))
        started[-1].start()
        made.thread = started[-1]
        return made

    yield start
    for thread in started:
        thread.join(10)
        assert not thread.is_alive()
    listener.close()
