"""The awaiting face of IPC over rings, between real processes: on uvloop, as client and as server."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.system.booted import Running, System
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

INTERFACE = (
    PRELUDE
    + """
import asyncio
from libexo import aio
from libexo.errors import NoPartner

class Echo(Interface, label=0x62, name="ring-echo"):
    @operation(1, repeatable=True)
    def echo(self, data: bytes) -> bytes: ...
    @operation(2, repeatable=True)
    def wait(self, milliseconds: int) -> int: ...
    @operation(3, oneway=True)
    def note(self, n: int) -> None: ...
    @operation(4)
    def notes(self) -> list[int]: ...
    @operation(5)
    def never(self) -> int: ...
    @operation(6)
    def rings(self) -> int: ...

class Server(Echo):
    def __init__(self):
        self.kept = []
    def echo(self, data):
        return data
    def note(self, n):
        self.kept.append(n)
    def notes(self):
        kept, self.kept = self.kept, []
        return kept
    def rings(self):
        rings = env.thread.core.rings
        return len(rings.lines) if rings is not None else 0
"""
)
ON_A_LOOP = (
    INTERFACE
    + """
class Side(Server):
    async def wait(self, milliseconds):
        await asyncio.sleep(milliseconds / 1000)
        return milliseconds
    async def never(self):
        await asyncio.sleep(3600)

async def main():
    Processes.connect(env).register("ring-echo")
    print(os.getpid())
    await aio.serve(Side(), aio.Thread(env))

aio.run(main())
"""
)
PLAIN = (
    INTERFACE
    + """
class Plain(Server):
    def wait(self, milliseconds):
        return milliseconds
    def never(self):
        return libexo.stub.DEFERRED

print(os.getpid())
serve(Plain(), name="ring-echo")
"""
)
CLIENT = (
    INTERFACE
    + """
async def main():
    thread = aio.Thread(env)
    stub = aio.connect(Echo, thread, transport="ring")
    print(*await body(thread, stub))

async def body(thread, stub):
"""
)
END = "\naio.run(main())\n"


@pytest.fixture(params=[ON_A_LOOP, PLAIN], ids=["a loop", "a plain server"])
def server(request: pytest.FixtureRequest, booted: System) -> Iterator[Running]:
    """A server of either face."""
    with booted.start(request.param, name="ring-server") as running:
        yield running


@pytest.fixture
def loop(booted: System) -> Iterator[Running]:
    """A server whose operations run side by side."""
    with booted.start(ON_A_LOOP, name="ring-server") as running:
        running.line()
        yield running


def said(booted: System, body: str, name: str = "") -> str:
    """Run *body*, the indented text of a coroutine that returns what to print; return that."""
    finished = booted.run(CLIENT + body + END, name=name)
    assert (finished.err, finished.status) == ("", 0)
    return finished.out.strip()


def test_calls_through_a_ring(booted: System, server: Running) -> None:
    """One call after another, and then twenty at once, each get their own answer, all through one ring."""
    server.line()
    body = """
    single = [await stub.echo(bytes([n])) for n in range(50)]
    many = await asyncio.gather(*(stub.echo(b"%d" % n) for n in range(20)))
    return (single == [bytes([n]) for n in range(50)], many == [b"%d" % n for n in range(20)],
            stub._remote._link.rings, len(thread.core.links[stub._remote._link.partner]), await stub.rings())
"""
    assert said(booted, body) == "True True True 1 1"


def test_long_strings(booted: System, server: Running) -> None:
    """Strings of any size go there and come back, those longer than the ring in pieces."""
    server.line()
    body = """
    sizes = (0, 1, 511, 512, 513, 1 << 16, 1 << 20, (4 << 20) - 64)
    await stub.echo(b"")
    strings = [os.urandom(1) * size for size in sizes]
    return [len(string) for string in strings if await stub.echo(string) == string]
"""
    assert said(booted, body) == "0 1 511 512 513 65536 1048576 4194240"


def test_long_strings_at_once(booted: System, server: Running) -> None:
    """Twenty calls at once whose arguments and answers are longer than the ring all come to their end."""
    server.line()
    body = """
    strings = [bytes([n]) * 150_000 for n in range(20)]
    await stub.echo(b"")
    return [await asyncio.gather(*map(stub.echo, strings)) == strings]
"""
    assert said(booted, body) == "True"


def test_nobody_answers_what_is_oneway(booted: System, server: Running) -> None:
    """Operations that nobody answers arrive in their order, more of them than fit into the ring."""
    server.line()
    body = """
    await stub.echo(b"")
    for n in range(5000):
        await stub.note(n)
    return [await stub.notes() == list(range(5000))]
"""
    assert said(booted, body) == "True"


def test_operations_run_side_by_side(booted: System, loop: Running) -> None:
    """A slow answer keeps no other one waiting on the same ring; a loop that sleeps is woken for each."""
    body = """
    done = []
    async def wait(milliseconds):
        done.append(await stub.wait(milliseconds))
    await stub.echo(b"")
    await asyncio.gather(wait(200), wait(20), wait(100))
    return done
"""
    assert said(booted, body) == "20 100 200"


def test_clients_of_both_kinds(booted: System, loop: Running) -> None:
    """A loop serves clients with and without a ring, awaiting ones and plain ones, at the same time."""
    plain = """
stub = Echo.connect(env, transport="TRANSPORT")
print(sum(stub.echo(b"%d" % n) == b"%d" % n for n in range(2000)))
"""
    body = """
    stub = aio.connect(Echo, thread, transport="TRANSPORT")
    good = 0
    for n in range(100):
        good += await asyncio.gather(*(stub.echo(b"%d" % m) for m in range(20))) == [b"%d" % m for m in range(20)]
    return [good]
"""
    texts = [INTERFACE + plain, CLIENT + body + END]
    running = [
        booted.start(text.replace("TRANSPORT", transport)) for text in texts for transport in ("ring", "zmq")
    ]
    ends = [client.finish() for client in running]
    assert [(end.err, end.out) for end in ends] == [
        ("", "2000\n"),
        ("", "2000\n"),
        ("", "100\n"),
        ("", "100\n"),
    ]


def test_the_server_is_killed(booted: System, server: Running) -> None:
    """Calls under way end with NoPartner, soon; the next server of that name is found, and has a ring again."""
    pid = int(server.line())
    body = """
    await stub.echo(b"")
    await stub.echo(b"")
    calls = asyncio.gather(stub.never(), stub.never(), return_exceptions=True)
    await asyncio.sleep(0)
    print("called", flush=True)
    input()
    outcomes = await asyncio.wait_for(calls, 10)
    print(*[f"{type(each).__name__}:{each.phase.name}" for each in outcomes], flush=True)
    input()
    await stub.echo(b"")
    return [await stub.echo(b"again"), stub._remote._link.rings]
"""
    with booted.start(CLIENT + body + END, name="ring-client") as client:
        assert client.line() == "called"
        os.kill(pid, signal.SIGKILL)
        assert client.ask("") == "NoPartner:RECEIVE NoPartner:RECEIVE"
        with booted.start(ON_A_LOOP, name="ring-server") as second:
            second.line()
            assert client.ask("") == "b'again' True"


def test_clients_that_are_killed(booted: System, loop: Running) -> None:
    """A loop goes on serving others when a client with a ring is killed in the middle of a call."""
    body = """
    await stub.echo(b"")
    call = asyncio.create_task(stub.never())
    await stub.echo(b"")
    print(os.getpid(), await stub.rings(), flush=True)
    await call
"""
    for _ in range(3):
        with booted.start(CLIENT + body + END, name="ring-victim") as victim:
            pid, rings = map(int, victim.line().split())
            assert rings == 1
            os.kill(pid, signal.SIGKILL)
            victim.finish()
    body = """
    await stub.echo(b"")
    return [await stub.echo(b"well"), await stub.rings()]
"""
    assert said(booted, body) == "b'well' 1"
