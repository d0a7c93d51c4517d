"""Rings between real programs: typed calls end to end, deaths at any moment, idleness, and clients of all kinds."""

import ast
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.privileges import may_place_others
from tests.system.booted import Running, System, ended, wait_until
from tests.system.programs import PRELUDE

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

PLACES = pytest.mark.skipif(not may_place_others(), reason="needs CAP_SYS_NICE, to place others")
KILLS = 30
SOON = 1.0
"""Seconds within which the death of a partner must be known; it is known in a few milliseconds."""
BOARD = (
    PRELUDE
    + """
import hashlib, time
class Board(Interface, label=0x77, name="board"):
    @operation(1)
    def echo(self, data: bytes) -> bytes: ...
    @operation(2, oneway=True)
    def post(self, number: int) -> None: ...
    @operation(3)
    def posted(self) -> list[int]: ...
    @operation(4, repeatable=True)
    def safe(self, number: int) -> int: ...
    @operation(5)
    def take(self, extent: Extent) -> bytes: ...
    @operation(6)
    def share(self) -> Extent: ...
    @operation(7)
    def later(self, milliseconds: int) -> int: ...
    @operation(8)
    def held(self) -> tuple[int, int, int]: ...
"""
)
SERVER = (
    BOARD
    + """
class Server(Board):
    def __init__(self):
        self.numbers = []
    def echo(self, data): return data
    def post(self, number):
        if number < 0:
            time.sleep(-number / 1000)
        self.numbers.append(number)
    def posted(self):
        numbers, self.numbers = self.numbers, []
        return numbers
    def safe(self, number): return number + 1
    def take(self, extent):
        view = vm.map(env, extent)
        found = bytes(view[:6])
        vm.unmap(env, view)
        env.sys.drop(extent.handle)
        return found
    def share(self):
        extent = Memory.connect(env).allocate(1)
        vm.map(env, extent)[:6] = b"shared"
        return extent
    def later(self, milliseconds):
        time.sleep(milliseconds / 1000)
        return milliseconds
    def held(self):
        core = env.thread.core
        core.look()
        lines = len(core.rings.lines) if core.rings else 0
        return len(os.listdir("/proc/self/fd")), len(env.sys.inventory()), lines
print("ready")
serve(Server(), name="board")
"""
)
CLIENT = (
    BOARD
    + """
kind = sys.argv[1] if len(sys.argv) > 1 else "ring"
board = Board.connect(env, transport=kind)
def connect():
    global board
    board = Board.connect(env, transport=kind)
    board.echo(b""), board.echo(b"")
    return board._remote._link.rings if kind == "ring" else True
def until_gone(call=lambda n: board.echo(b"%d" % n)):
    n, first = 0, board._remote._thread
    try:
        while board._remote._thread == first:
            call(n)
            n += 1
    except IpcError as error:
        return type(error).__name__, time.monotonic()
    return "another", time.monotonic()
def stream():
    return until_gone(lambda n: board.post(n))
def many(count):
    return [board.safe(n) for n in range(count)] == list(range(1, count + 1))
def mirrored(size):
    content = hashlib.shake_128(b"%d" % size).digest(size)
    return board.echo(content) == content
def timed_out(seconds, milliseconds):
    slow = Board.connect(env, transport=kind, timeout=seconds)
    slow.echo(b""), slow.echo(b"")
    try:
        return slow.later(milliseconds)
    except IpcError as error:
        return type(error).__name__
for line in sys.stdin:
    print(eval(line))
"""
)
SIZES = (0, 1, 511, 512, 513, 64 << 10, 1 << 20, (4 << 20) - 64)


def pid(system: System, name: str) -> int:
    return system.server(name).pid


def start(system: System) -> None:
    """Start the server, which goes on without us; the name of one that ended is soon free."""
    assert wait_until(lambda: system.row("board") is None and "board" not in system.kip.names())
    with system.start(SERVER, name="board", detach=True) as running:
        assert running.line() == "ready"


@pytest.fixture
def client(own: System) -> Iterator[Running]:
    """A client of a server, that does what it is told, and has a ring."""
    start(own)
    with own.start(CLIENT, name="client") as running:
        assert running.ask("connect()") == "True"
        yield running


def test_strings_of_every_size(client: Running) -> None:
    """Up to the longest an argument may be, both ways."""
    assert client.ask(f"[mirrored(size) for size in {SIZES}]") == str([True] * len(SIZES))


def test_extents(client: Running) -> None:
    """Capabilities travel as over a socket: as an argument, and as a result."""
    client.ask("globals().update(extent=Memory.connect(env).allocate(1))")
    client.ask("vm.map(env, extent).__setitem__(slice(0, 6), b'client')")

    assert client.ask("board.take(extent.read_only())") == "b'client'"
    assert client.ask("bytes(vm.map(env, board.share())[:6])") == "b'shared'"


def test_time_outs(client: Running) -> None:
    """A call that takes too long ends in time, and the next is answered."""
    assert client.ask("timed_out(0.05, 1500), timed_out(10, 1)") == "('IpcTimeout', 1)"
    assert client.ask("many(100)") == "True"


def test_a_stream_of_requests_nobody_answers(client: Running) -> None:
    """They are done in their order; while the server is busy, a full ring makes their sender wait."""
    assert (
        client.ask("[board.post(n) for n in range(5000)] and board.posted() == list(range(5000))") == "True"
    )
    told = client.ask("board.post(-300), [board.post(n) for n in range(3000)] and len(board.posted())")

    assert told == "(None, 3001)"


def moments(seed: int, count: int) -> list[float]:
    draw = random.Random(seed)
    return [draw.choice((0.0, draw.random() * 0.002, draw.random() * 0.02)) for _ in range(count)]


def kill(system: System, name: str, after: float) -> float:
    """Kill a program some time after now, and return when it had ended."""
    victim = pid(system, name)
    wait_until(lambda: False, after)
    os.kill(victim, signal.SIGKILL)
    assert ended(victim)
    return time.monotonic()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("does", ["until_gone", "stream"])
def test_a_server_is_killed_at_any_moment(
    own: System, client: Running, does: str, seed: int, record_property: Callable[[str, object], None]
) -> None:
    """In the middle of calls, or of requests nobody answers: the caller soon knows, and binds to the next one.

    A client that did not get NoPartner had a call that the dead server cannot have taken: its successor got it.
    """
    knew: dict[str, list[float]] = {"NoPartner": [], "another": []}
    for after in moments(seed, KILLS // 2):
        client.tell(f"{does}()")
        died = kill(own, "board", after)
        start(own)
        how, at = ast.literal_eval(client.line())
        knew[how].append(at - died)
        assert client.ask("connect()") == "True"

    record_property("seconds until a death was known", knew)
    assert len(knew["NoPartner"]) >= (KILLS // 4 if does == "until_gone" else 0)
    assert max(knew["NoPartner"], default=0) < SOON


def test_repeatable_calls_go_on(own: System, client: Running, seed: int) -> None:
    """A client with repeatable calls does not notice that its server is killed and started again."""
    for after in moments(seed, 4):
        client.tell("many(5_000)")
        kill(own, "board", after)
        start(own)
        assert client.line() == "True"


def test_clients_are_killed_at_any_moment(own: System, client: Running, seed: int) -> None:
    """The server's other clients are served on, and it keeps nothing of theirs."""
    before = settled(client)
    for number, after in enumerate(moments(seed, 10)):
        with own.start(CLIENT, name=f"victim-{number}") as victim:
            assert victim.ask("connect()") == "True"
            victim.tell("until_gone()" if number % 2 else "stream()")
            client.tell("many(2_000)")
            kill(own, f"victim-{number}", after)
            assert victim.finish().status == -signal.SIGKILL
            assert client.line() == "True"

    assert wait_until(lambda: settled(client) == before), (before, settled(client))


def settled(client: Running) -> str:
    """Return what the server holds: descriptors, handles, rings."""
    client.ask("board.posted() is None")
    return client.ask("board.held()")


def on_processor(process: int) -> int:
    """Return the nanoseconds a process has computed."""
    return int(Path(f"/proc/{process}/schedstat").read_text().split()[0])


@pytest.mark.parametrize(
    "together", [False, pytest.param(True, marks=PLACES)], ids=["anywhere", "on one core"]
)
def test_idle(own: System, client: Running, together: bool) -> None:  # noqa: FBT001 - a parameter
    """Nobody computes while nobody calls, though both did just now, looking or handing their core over."""
    pids = [pid(own, "board"), pid(own, "client")]
    if together:
        for process in pids:
            os.sched_setaffinity(process, {min(os.sched_getaffinity(0))})
    assert client.ask("many(2_000)") == "True"
    client.tell("env.thread.sleep(1.2), many(10)")
    wait_until(lambda: False, 0.1)
    before = [on_processor(process) for process in pids]
    wait_until(lambda: False, 1.0)
    used = [on_processor(process) - was for process, was in zip(pids, before, strict=True)]

    assert client.line() == "(None, True)"
    assert max(used) < 5_000_000, used


def test_clients_of_all_kinds_at_once(own: System, client: Running) -> None:
    """Over rings, over sockets, and the kernel's own messages, all at one server: each is served, none starves."""
    others = [own.start(CLIENT, kind, name=f"other-{n}") for n, kind in enumerate(("zmq", "ring", "zmq"))]
    try:
        for each in others:
            assert each.ask("connect()") == "True"
        for each in (client, *others):
            each.tell("many(3_000)")
        with own.start(CLIENT, name="dying") as dying:  # the kernel reports its end to those bound to it
            assert dying.ask("connect()") == "True"
            os.kill(pid(own, "dying"), signal.SIGKILL)
            dying.finish()
        assert [each.line() for each in (client, *others)] == ["True"] * 4
    finally:
        for each in others:
            each.close()
