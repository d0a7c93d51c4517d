"""Every operation of every server with every argument wrong in turn, and at random: the same server answers on."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
import pytest

from kernel.abi.ids import ANY_THREAD, KERNEL_MEMORY, thread_id
from kernel.abi.kip import Counter
from kernel.abi.messages import Label
from libexo.environment import Environment
from libexo.errors import ExoError, NoPartner
from libexo.extent import Extent
from libexo.ipc.message import FpageItem, Message
from libexo.l4.exo import MEMORY_LABEL
from libexo.l4.format.controls import SCHEDULE_LABEL
from libexo.stub import Interface, Operation
from libexo.testing import System
from servers.memory.api import Memory, Pager
from servers.process.api import MAX_PROGRAM_BYTES, Processes, ProgramSpec
from servers.scheduler.api import Scheduler
from tests.servers.memory.pagers.swapping import swapping
from tests.servers.memory.stage import operate
from tests.servers.rig import ask, offer

INTERFACES: tuple[type[Interface], ...] = (Memory, Pager, Processes, Scheduler)
OPERATIONS = [(interface, each) for interface in INTERFACES for each in interface.operations.values()]
INNOCENT: dict[type[Interface], Callable[[Any], object]] = {
    Memory: lambda memory: memory.statistics(),
    Pager: lambda pager: pager.statistics(),
    Processes: lambda processes: processes.register("innocent"),
    Scheduler: lambda scheduler: scheduler.plan(),
}
BIG = "x" * 70_000
GARBAGE: list[Any] = [
    *(0, 1, 2, -1, -5, 64, 65, 97, 1000, 1001, 1 << 31, 1 << 32, 1 << 40, 1 << 63, (1 << 64) - 1),
    *(-(1 << 31), -(1 << 63), None, True, False, 1.5, float("nan"), float("inf")),
    *("", "text", "memory", "x" * 31, "x" * 32, "x" * 40, "é" * 31, " x", "x ", "a\nb", "\0", "a\0b", BIG),
    *(
        b"",
        b"x" * 16,
        BIG.encode(),
        [],
        [1],
        [[]],
        [[1, 2]],
        ["x"],
        ["\0"],
        ["x"] * 5000,
        [BIG],
        ["é" * 20_000],
    ),
    *([["", ""]], [["A=B", ""]], [["A", BIG]], [["A", "\0"]], [["A"]], {}, {"a": 1}, {1: 2}),
]
"""Values of every type and size; nearly all of them are wrong, for any argument."""
RAW = [
    b"",
    b"\xc1",
    b"\x91",
    b"\x91" * 2000,
    b"\xd9\x02\xff\xfe",
    b"\x91\xd9\x02\xff\xfe",
    b"\x91\xd9\x03\xed\xa0\x80",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
]
"""Strings that are no arguments: not msgpack, nested, no Unicode, a lone surrogate, longer than they are."""
LABELS = (
    Label.SIGMA0, Label.SIGMA0_EXTENDED, Label.PAGE_FAULT, Label.PAGE_FAULT | 7, Label.IO_FAULT, Label.EXCEPTION,
    Label.INTERRUPT, Label.DEATH, Label.SUCCEEDED, MEMORY_LABEL, SCHEDULE_LABEL, 0x40, (1 << 48) - 1,
    *(interface.label for interface in INTERFACES),
)  # fmt: skip
WORDS = (0, 1, 2, 3, 4, 7, 8, 12, 4096, 4097, 1 << 20, 1 << 32, 1 << 40, 1 << 63, (1 << 64) - 1, ANY_THREAD)


def faults(system: System) -> int:
    return system.kernel.kip.counter(Counter.FAULTS)


class Suspect:
    """Asks one server what it pleases, and sees each time that it is still the same."""

    def __init__(self, env: Environment, interface: type[Interface]) -> None:
        self.env = env
        self.interface = interface
        self.server = env.lookup(interface.default_name)
        self.stub = interface.connect(env)
        self.heard: list[str] = []

    def ask(self, message: Message) -> None:
        """Send *message*; whatever comes back, the server answers the next call as ever."""
        try:
            answer = self.env.thread.call(self.server, message, timeout=0.05)
        except NoPartner as gone:
            raise AssertionError(f"{self.interface.__name__} did not outlive {message!r:.300}") from gone
        except ExoError as error:
            self.heard.append(type(error).__name__)
        else:
            self.heard.append(str(answer.words))
        INNOCENT[self.interface](self.stub)
        assert self.env.lookup(self.interface.default_name) == self.server, f"{message!r:.300}"

    def request(self, operation: Operation, arguments: list[Any]) -> None:
        items = (msgspec.msgpack.encode(arguments),)
        self.ask(Message(self.interface.label, (operation.number,), items))


def right(operation: Operation, env: Environment) -> list[Any]:
    """Return arguments that *operation* takes."""
    table: dict[str, list[Any]] = {
        "allocate": [1, -1],
        "set_quota": [env.thread.id, 100],
        "promise": [1],
        "press": [env.thread.id, 1, 0],
        "show": [[1, 1, 0, 4]],
        "place": [1, 1, 0],
        "spawn": [[1, ["nothing"], "", [], 1, "never"]],
        "wait": [77],
        "kill": [77, 9],
        "register": ["alias"],
        "set_share": [env.thread.id, 1],
        "switch": [0],
        "create": [[0, 1, 0, 31], 16, 8, "fifo", 1, ""],
        "release": [1],
        "set_policy": [1, "fifo"],
    }
    return table.get(operation.name, [])


def threads(env: Environment) -> list[int]:
    """Return ids of all kinds: of servers, the caller's, one's that is gone, the kernel's, nobody's."""
    living = [row.thread for row in env.kip.threads()]
    return [
        *living,
        env.thread.id + 2,
        thread_id(3),
        thread_id(4095),
        KERNEL_MEMORY,
        ANY_THREAD,
        ANY_THREAD - 63,
    ]


def each_wrong(arguments: list[Any], env: Environment) -> Iterator[list[Any]]:
    """Yield *arguments* with each of them, and each part of one that is a record, wrong in turn."""
    for at, value in enumerate(arguments):
        for wrong in (*GARBAGE, *threads(env)):
            yield [*arguments[:at], wrong, *arguments[at + 1 :]]
        if isinstance(value, list):
            for inner in each_wrong(value, env):
                yield [*arguments[:at], inner, *arguments[at + 1 :]]
    yield from (arguments[:count] for count in range(len(arguments)))
    yield [*arguments, 1]


def wrong_in_turn(interface: type[Interface], operation: Operation, env: Environment) -> list[str]:
    suspect = Suspect(env, interface)
    for arguments in each_wrong(right(operation, env), env):
        suspect.request(operation, arguments)
    for raw in RAW:
        suspect.ask(Message(interface.label, (operation.number,), (raw,)))
    suspect.ask(Message(interface.label, (operation.number,)))
    suspect.ask(Message(interface.label, (operation.number, 1), (b"\x90",)))
    return suspect.heard


def as_client(system: System, program: Callable[[Environment], object]) -> object:
    return ask(system, program)


def shown(value: Operation | type[Interface]) -> str:
    return value.name if isinstance(value, Operation) else value.__name__


@pytest.mark.parametrize("who", [as_client, operate], ids=["program", "server"])
@pytest.mark.parametrize(("interface", "operation"), OPERATIONS, ids=shown)
def test_wrong(
    interface: type[Interface],
    operation: Operation,
    who: Callable[[System, Callable[[Environment], object]], object],
) -> None:
    """Whatever stands in one argument, the caller hears something, and the server answers the next call."""
    with swapping() as system:
        for each in interface.operations.values():
            each.prepare()
        heard: Any = who(system, partial(wrong_in_turn, interface, operation))

        assert "(1,)" in heard
        assert faults(system) == 0


def random_message(draw: random.Random, interface: type[Interface], env: Environment) -> Message:
    """Return a message of a request, or of a protocol that servers speak beside their interfaces."""
    if draw.random() < 0.5:
        operation = draw.choice(list(interface.operations.values()))
        arguments = right(operation, env)
        for _ in range(draw.choice((1, 1, 2))):
            if arguments:
                arguments[draw.randrange(len(arguments))] = draw.choice((*GARBAGE, *threads(env)))
        return Message(interface.label, (operation.number,), (msgspec.msgpack.encode(arguments),))
    words = tuple(
        draw.choice((*WORDS, *threads(env), draw.getrandbits(64))) for _ in range(draw.randrange(6))
    )
    items = draw.choice(((), (), (b"",), (BIG.encode(),), (FpageItem(()),)))
    typed = (0x8, 0) if items and isinstance(items[0], FpageItem) else ()
    return Message(draw.choice(LABELS), words, items, typed=typed)


@pytest.mark.parametrize("who", [as_client, operate], ids=["program", "server"])
@pytest.mark.parametrize("interface", INTERFACES)
def test_random(
    interface: type[Interface],
    who: Callable[[System, Callable[[Environment], object]], object],
    seed: int,
) -> None:
    """The same of random requests, and of messages of other protocols: sigma0, Schedule, the older one."""

    def program(env: Environment) -> int:
        draw = random.Random(f"{seed}/{interface.__name__}")
        suspect = Suspect(env, interface)
        for _ in range(600):
            suspect.ask(random_message(draw, interface, env))
        return len(suspect.heard)

    with swapping() as system:
        assert who(system, program) == 600
        assert faults(system) == 0


def test_examples() -> None:
    """Requests that ended servers once: each is refused, to its caller alone."""

    def program(env: Environment) -> list[str]:
        suspects = {interface: Suspect(env, interface) for interface in INTERFACES}
        child, big = Processes.connect(env).spawn(spec), [["A", BIG]]
        for interface, number, arguments in (
            (Processes, 3, [child, -1]),
            (Processes, 3, [child, 0]),
            (Processes, 3, [child, 65]),
            (Processes, 4, ["x" * 40]),
            (Memory, 1, [1, -5]),
            (Processes, 1, [[1, ["x", BIG]]]),
            (Processes, 1, [[1, ["x"], "", big]]),
        ):
            suspects[interface].request(interface.operations[number], arguments)
        return [heard for suspect in suspects.values() for heard in suspect.heard]

    with swapping() as system:
        spec = offer(system, lambda env: env.thread.sleep(1e6))
        assert ask(system, program) == ["(1,)"] * 7
        assert faults(system) == 0


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_program(more: int) -> None:
    """Arguments and environ up to the bound are carried; one byte more is refused before it is sent."""
    argument = "x" * (MAX_PROGRAM_BYTES - 2 * 5 - len("nothing") + more)

    def program(env: Environment) -> int:
        processes = Processes.connect(env)
        return processes.wait(processes.spawn(ProgramSpec(1, ("nothing", argument)))).status

    with swapping() as system:
        if more:
            with pytest.raises(ValueError, match="at most"):
                ask(system, program)
        else:
            assert ask(system, program) == 127


def test_an_extent_is_what_it_says() -> None:
    """The fields of an extent are its sender's claim, within the ranges of an extent."""
    decoder = msgspec.msgpack.Decoder(Extent)
    for wrong in ([0, -1, 0, 0], [-1, 1, 0, 0], [0, 1, -2, 0], [0, 1, 0, 1 << 32], [0, 1 << 40, 0, 0]):
        with pytest.raises(msgspec.ValidationError):
            decoder.decode(msgspec.msgpack.encode(wrong))
