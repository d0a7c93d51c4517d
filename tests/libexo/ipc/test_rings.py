"""Rings between the programs of a simulated system: stubs, hostile ends, and the rendezvous over rings alone."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kernel.abi.limits import SHORT_STRING
from libexo.environment import Environment
from libexo.errors import NoPartner, RemoteError
from libexo.ipc import Message
from libexo.ipc.exchange import Link
from libexo.ipc.ring import open_paid
from libexo.stub import Interface, operation, serve
from libexo.testing.rings import over_rings
from libexo.transport.ring.duplex import Duplex
from libexo.transport.ring.layout import Word
from tests.kernel.puppets import Puppet, theatre
from tests.kernel.rings import carve
from tests.libexo import moves
from tests.libexo.ends import end
from tests.libexo.moves import origin, post, pumped
from tests.model.campaign import KINDS, campaign
from tests.servers.rig import ask, servers


class Board(Interface, label=0x77, name="board"):
    @operation(1)
    def echo(self, data: bytes) -> bytes: ...  # type: ignore[empty-body]
    @operation(2, oneway=True)
    def post(self, number: int) -> None: ...
    @operation(3)
    def posted(self) -> list[int]: ...  # type: ignore[empty-body]
    @operation(4)
    def fail(self) -> None: ...
    @operation(5)
    def broken(self) -> int: ...  # type: ignore[empty-body]
    @operation(6)
    def scribble(self, seed: int) -> int: ...  # type: ignore[empty-body]
    @operation(7)
    def end(self) -> None: ...


def scribbled(line: Duplex, seed: int) -> None:
    """Write what nobody would: nonsense where the other side reads next, and everywhere else in what is ours."""
    draw = random.Random(seed)
    for at in range(line._start, line._end, 8):
        line._words[at >> 3] = draw.getrandbits(64) | 1 << 48


class BoardServer(Board):
    def __init__(self) -> None:
        self.numbers: list[int] = []

    def echo(self, data: bytes) -> bytes:
        return data

    def post(self, number: int) -> None:
        if number < 0:
            self.chatter()
        self.numbers.append(number)

    def posted(self) -> list[int]:
        return self.numbers

    def fail(self) -> None:
        raise KeyError("no such thing")

    def broken(self) -> int:
        return moves.counted(self.environment, "broken_ring")

    def end(self) -> None:
        end(self.environment)

    def chatter(self) -> None:
        """Say what nobody asked for, and be busy for a while."""
        rings = moves.rings(self.environment)
        assert rings is not None
        for _, line in rings.lines:
            assert line.send([b"stray"])
        self.environment.thread.sleep(0.05)

    def scribble(self, seed: int) -> int:
        rings = moves.rings(self.environment)
        assert rings is not None
        for _, line in rings.lines:
            scribbled(line, seed)
            line._at = line._start + line._size // 2  # our answer is not what is read next
        return seed


def connected(env: Environment, transport: str = "ring") -> Board:
    board = Board.connect(env, transport=transport)
    for _ in range(2):
        board.echo(b"")
    return board


def link_of(board: Any) -> Link:  # noqa: ANN401 - a stub
    """Return the binding whose ring is in use."""
    link = board._remote._link
    assert isinstance(link, Link)
    assert link.rings
    return link


def line_of(board: Board) -> Duplex:
    """Return the client's end of the ring."""
    line = link_of(board).line
    assert line is not None
    return line


def over_both(program: Callable[[Board], object]) -> list[object]:
    """Return what *program* returns over sockets, and over a ring."""
    with servers(seed=3) as system:
        system.spawn(lambda env: serve(BoardServer(), "board", env), "board")
        return [ask(system, lambda env, t=t: program(connected(env, t)), t) for t in ("zmq", "ring")]  # type: ignore[misc]


@pytest.mark.parametrize("size", [0, 1, SHORT_STRING - 3, SHORT_STRING, SHORT_STRING + 1, 40_000, 200_000])
def test_strings_of_every_size(size: int) -> None:
    """Abbreviated, whole, or longer than the ring: what comes back is what was sent."""
    content = random.Random(size).randbytes(size)

    assert over_both(lambda board: board.echo(content)) == [content] * 2


def test_what_a_server_raises() -> None:
    """Its client hears of it, over a ring as over a socket."""

    def program(board: Board) -> tuple[str, str]:
        with pytest.raises(RemoteError) as caught:
            board.fail()
        return caught.value.kind, caught.value.text

    assert over_both(program) == [("KeyError", "'no such thing'")] * 2


def test_requests_nobody_answers_keep_their_order() -> None:
    """More of them than a ring holds: the sender waits for room, and each is done once, before what comes after."""

    def program(board: Board) -> list[int]:
        start = len(board.posted())
        for number in range(3000):
            board.post(number)
        return board.posted()[start:]

    assert over_both(program) == [list(range(3000))] * 2


def test_a_server_that_says_what_nobody_asked_for() -> None:
    """A sender that waits for room in its ring still sleeps, and all is done."""

    def program(env: Environment) -> tuple[int, int]:
        board = connected(env)
        for number in range(-2, 3000):
            board.post(number)
        return len(board.posted()), moves.counted(env, "unexpected_answer")

    with servers() as system:
        system.spawn(lambda env: serve(BoardServer(), "board", env), "board")

        assert ask(system, program) == (3002, 2)


@pytest.mark.parametrize("seed", range(8))
def test_a_client_that_scribbles(seed: int) -> None:
    """Its ring is closed and counted, its binding falls, and it is told: it must bind again; others go on."""

    def bystander(env: Environment) -> list[bytes]:
        board = connected(env)
        answers = []
        for _ in range(20):
            env.thread.sleep(0.001)
            answers.append(board.echo(b"a"))
        return answers

    def attack(env: Environment) -> tuple[bool, bytes]:
        board = connected(env)
        link = link_of(board)
        scribbled(line_of(board), seed)
        line_of(board).bell.ring()
        env.thread.sleep(0.01)
        answer = board.echo(b"anew")
        return link.fallen, answer

    with servers(seed=seed) as system:
        system.spawn(lambda env: serve(BoardServer(), "board", env), "board")
        with_ring = system.spawn(bystander, "bystander")
        assert ask(system, attack, "attacker") == (True, b"anew")
        system.run(with_ring)

        assert with_ring.result == [b"a"] * 20
        assert ask(system, lambda env: connected(env).broken()) == 1
        assert ask(system, lambda env: connected(env, "zmq").echo(b"b"), "other") == b"b"


def test_a_ring_that_is_announced_again() -> None:
    """It is attached once, and gone with its sender: the server goes on for others."""

    def insists(env: Environment) -> bytes:
        board = connected(env)
        moves.announce_ring(env, link_of(board))
        return board.echo(b"a")

    with servers() as system:
        server = system.spawn(lambda env: serve(BoardServer(), "board", env), "board")

        assert ask(system, insists) == b"a"
        assert ask(system, lambda env: connected(env).echo(b"b"), "other") == b"b"
        assert server.status is None


@pytest.mark.parametrize("seed", range(8))
def test_a_server_that_scribbles(seed: int) -> None:
    """Its client gets NoPartner instead of an answer, and can bind again."""

    def victim(env: Environment) -> bytes:
        board = connected(env)
        with pytest.raises(NoPartner):
            board.scribble(seed)
        return connected(env).echo(b"again")

    with servers(seed=seed) as system:
        system.spawn(lambda env: serve(BoardServer(), "board", env), "board")

        assert ask(system, victim) == b"again"


def ringing(a: Puppet, b: Puppet) -> None:
    """Give a's binding to b a ring, and have both use it."""
    link = open_paid(a.env.thread, b.thread, carve(a))
    assert moves.take(b, b.thread) is None
    moves.pump_link(a, link)
    assert link.rings


def test_two_stubs_whose_server_ends() -> None:
    """Each of them has a ring of its own; when the server is another, both bind again, in either order."""

    def program(env: Environment) -> list[bytes]:
        boards = [connected(env), connected(env)]
        with pytest.raises(NoPartner):
            boards[0].end()
        env.thread.sleep(2)
        return [board.echo(b"%d" % n) for n, board in enumerate((*boards, *boards))]

    def board(env: Environment) -> None:
        serve(BoardServer(), "board", env)

    with servers() as system:
        first = system.spawn(board, "board")
        client = system.spawn(program, "client")
        system.run(first)
        system.spawn(board, "board")
        system.run(client)

        assert client.result == [b"0", b"1", b"2", b"3"]


def test_a_server_that_never_reads_right() -> None:
    """A teller gives up each ring that it breaks: no bindings pile up, and no memory."""

    def program(env: Environment) -> tuple[int, int]:
        board = connected(env)
        for _ in range(4):
            line = line_of(board)
            line._words[line._out_base + Word.HEAD] = 7
            with pytest.raises(NoPartner):
                list(map(board.post, range(3000)))
            board.echo(b"")
            board.echo(b"")
        return len(moves.links(env)[board._remote._thread]), len(env.sys.inventory())  # type: ignore[attr-defined]

    with servers() as system:
        system.spawn(lambda env: serve(BoardServer(), "board", env), "board")

        assert ask(system, program) == (1, 1)


def test_an_answer_over_the_ring_of_one_that_ended() -> None:
    """It is refused as no partner, though there would be room for it."""
    with theatre() as stage:
        a, b = stage.pair()
        ringing(a, b)
        exchange = post(a, b, 1)
        first = origin(b)
        moves.answer(b, first, Message(words=(2,)))
        assert pumped(a, exchange).reply == Message(words=(2,))
        post(a, b, 3)
        second = origin(b)
        stage.kill(a)

        with pytest.raises(NoPartner):
            moves.answer(b, second, Message())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_random_exchanges_over_rings(kind: str) -> None:
    """They follow from the model of the rendezvous as over queues."""
    with over_rings():
        assert campaign(1, 1000, KINDS[kind]).steps >= 1000


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_all_of_ipc_over_rings(seed: int) -> None:
    """Every test of X.2 and of the model passes where each binding has a ring."""
    root = Path(__file__).parents[3]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.libexo.over_rings", f"--seed={seed}"]
    done = subprocess.run(
        [*command, "tests/libexo/l4", "tests/model"], cwd=root, capture_output=True, check=False
    )

    assert done.returncode == 0, done.stdout.decode()
