"""The operators' console: whatever comes through it, the process server goes on, and everybody else is served."""

import json
import os
import random
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from servers.process.console import IDLE_CONNECTIONS, MAX_DESCRIPTORS, MAX_PROGRAM, MAX_REQUEST
from tests.system.booted import System, wait_until

pytestmark = [pytest.mark.system, pytest.mark.slow]
MANY = 300
"""More than twice as many as may idle."""


def connect(system: System) -> socket.socket:
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    peer.connect(
        str(system.run_directory / "console")
    )  # waits for room in the backlog, which a time-out would not
    peer.settimeout(20)
    return peer


def ask(system: System, data: bytes, descriptors: int = 0) -> bytes:
    """Send one packet and return the answer; nothing if there is none."""
    with connect(system) as peer, Path(os.devnull).open("rb") as file:
        try:
            socket.send_fds(peer, [data], [file.fileno()] * descriptors)
            return peer.recv(1 << 16)
        except OSError:
            return b""


@pytest.fixture
def unharmed(booted: System) -> Iterator[System]:
    """The shared system; afterwards its process server must be the one it was, and serve."""
    before = booted.server("process").thread
    yield booted
    assert booted.server("process").thread == before
    assert booted.run("print('served')").out == "served\n"


RUN = {"op": "run", "kind": 1, "argv": ["x.py"]}
CHANGES: list[dict[str, Any]] = [
    {"kind": 0},
    {"kind": -1},
    {"kind": 10**30},
    {"kind": "1"},
    {"argv": []},
    {"argv": "x"},
    {"argv": [1]},
    {"argv": ["a\0b"]},
    {"argv": ["x" * MAX_PROGRAM]},
    {"argv": ["x"] * (MAX_PROGRAM // 3)},
    {"name": "x" * 32},
    {"name": "x" * 60_000},
    {"name": "a\nb"},
    {"name": " a"},
    {"name": "memory"},
    {"name": None},
    {"environ": [["A"]]},
    {"environ": [["", "x"]]},
    {"environ": [["A=B", "x"]]},
    {"environ": [["A", "\0"]]},
    {"environ": [["A", "x" * MAX_PROGRAM]]},
    {"environ": {"A": "B"}},
    {"share": -1},
    {"share": 1001},
    {"share": 10**30},
    {"share": 1.5},
    {"restart": "maybe"},
    {"budget": {"thread": 1}},
    {"budget": {"threads": -1}},
    {"budget": {"threads": 1025}},
    {"budget": {"threads": 10**30}},
    {"budget": {"threads": "4"}},
    {"budget": [["threads", 4]]},
    {"roles": [99]},
    {"roles": [-1]},
    {"roles": [10**30]},
    {"roles": [4, 5]},
    {"roles": [0, 0]},
    {"unknown": 1},
]
WRONG = [
    b"",
    b"\x00",
    b"\xff\xfe garbage",
    b"null",
    b"[]",
    b"[" * 50_000,
    b'{"op": "run"}',
    b'{"op": "nosuch"}',
    b'{"op": 7}',
    b'{"op": "kill", "name": "\xff"}',
    b'{"op": "kill", "name": "\\ud800"}',
    b'{"op": "run", "kind": 1, "argv": ["\\ud800"]}',
    b'{"op": "signal", "signal": 1e400}',
    *(json.dumps({**RUN, **change}).encode() for change in CHANGES),
    *(
        json.dumps({"op": "kill", "name": "memory", "signal": number}).encode()
        for number in (0, -1, 65, 10**30, 1.5, "9")
    ),
    json.dumps({"op": "end", "name": "nobody"}).encode(),
    *(json.dumps({"op": "end_family", "name": name}).encode() for name in ("nobody", "memory", "", 7, None)),
    json.dumps({"op": "end_family", "name": "memory", "grace": -1}).encode(),
    json.dumps({"op": "end", "name": "x" * 60_000}).encode(),
]


@pytest.mark.parametrize("descriptors", [0, 1])
def test_what_is_wrong_is_told_to_who_sent_it(unharmed: System, descriptors: int) -> None:
    """Every request that is none gets its reason, whatever descriptors came with it, which are closed."""
    for data in WRONG:
        answer = ask(unharmed, data, descriptors)

        assert data == b"" or answer.startswith(b'{"error"'), (data[:80], answer)


def test_random_bytes(unharmed: System, seed: int) -> None:
    """A thousand packets of them, and of requests with bytes changed."""
    luck = random.Random(seed)
    whole = json.dumps({**RUN, "kind": 2, "name": "memory", "environ": [["A", "B"]], "roles": [0]}).encode()
    for _ in range(500):
        ask(unharmed, luck.randbytes(luck.randrange(1, 200)))
        changed = bytearray(whole)
        for _ in range(luck.randrange(1, 4)):
            changed[luck.randrange(len(changed))] = luck.randrange(256)
        ask(unharmed, bytes(changed), luck.randrange(3))


def test_more_than_a_request_may_have(unharmed: System) -> None:
    """Of bytes and of descriptors: the answer names both bounds."""
    wanted = f"a request has at most {MAX_REQUEST} bytes and {MAX_DESCRIPTORS} descriptors"

    assert wanted in ask(unharmed, b"x" * (MAX_REQUEST + 1)).decode()
    for descriptors in (MAX_DESCRIPTORS + 1, 200):
        assert wanted in ask(unharmed, json.dumps(RUN).encode(), descriptors).decode()


def test_connections_that_end_at_once(unharmed: System) -> None:
    """Closed, reset, and shut on one side, before and after a request."""
    for how in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR, None):
        for data in (b"", b"{}", json.dumps(RUN).encode()):
            with connect(unharmed) as peer:
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                if data:
                    peer.send(data)
                if how is not None:
                    peer.shutdown(how)


def test_those_that_say_nothing_are_bounded(unharmed: System) -> None:
    """Of many, the oldest are dropped, but none that runs something."""
    with unharmed.start("input()", name="stays") as stays, ExitStack() as opened:
        peers = [opened.enter_context(connect(unharmed)) for _ in range(MANY)]
        answers = [peer.recv(1) for peer in peers[: MANY - IDLE_CONNECTIONS]]
        peers[-1].send(b'{"op": "kill", "name": "nobody"}')
        served = peers[-1].recv(1 << 16)
        stays.tell("end")

        assert answers == [b""] * (MANY - IDLE_CONNECTIONS)
        assert b"no program is called 'nobody'" in served
        assert stays.finish().status == 0


def test_one_that_reads_no_answers_is_dropped(unharmed: System) -> None:
    """When no more of them fit; what it ran is ended."""
    with connect(unharmed) as peer:
        peer.setblocking(False)
        sent = 0
        try:
            while sent < 100_000:
                peer.send(b"{}")
                sent += 1
        except (
            BlockingIOError
        ):  # nobody hears it until there is room again: its requests wait in its own socket
            assert wait_until(lambda: _is_closed(peer))
        except OSError:
            pass
        assert sent < 100_000


def _is_closed(peer: socket.socket) -> bool:
    try:
        peer.send(b"{}")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False
