"""Typed interfaces: one class is the client's stub and the server's dispatch."""

from collections.abc import Callable

import msgspec
import pytest

import libexo
from kernel.abi.messages import IpcCode, PacketKind, Phase
from kernel.abi.rights import MAP_READ
from libexo import vm
from libexo.errors import BadArgument, ExoError, IpcError, IpcTimeout, NoPartner, NotFound, RemoteError
from libexo.extent import Extent, GrantedExtent
from libexo.ipc.message import MapItem, Message
from libexo.stub import DEFERRED, Call, Interface, Server, operation, serve
from libexo.testing import System, simulated
from tests.kernel.puppets import theatre
from tests.libexo import moves
from tests.libexo.ends import end


class Shop(Interface, label=0x70, name="shop"):
    """Some of everything."""

    @operation(1)
    def add(self, a: int, b: int = 10, sign: int = 1) -> int:
        raise NotImplementedError

    @operation(2)
    def fail(self, text: str) -> None: ...

    @operation(3)
    def lend(self) -> Extent:
        raise NotImplementedError

    @operation(4)
    def give(self) -> Extent:
        raise NotImplementedError

    @operation(5)
    def read(self, extent: Extent, at: int) -> int:
        raise NotImplementedError

    @operation(6)
    def later(self) -> str:
        raise NotImplementedError

    @operation(7)
    def release(self) -> None: ...

    @operation(8)
    def end_once(self) -> int:
        raise NotImplementedError

    @operation(9, repeatable=True)
    def end_once_repeatable(self) -> int:
        raise NotImplementedError

    @operation(10)
    def big(self, size: int) -> bytes:
        raise NotImplementedError


class ShopServer(Shop):
    """Serves it."""

    waiting: Call | None = None
    ended = False

    def add(self, a: int, b: int = 10, sign: int = 1) -> int:
        return sign * (a + b)

    def fail(self, text: str) -> None:
        raise KeyError(text)

    def carve(self) -> tuple[int, int]:
        carved = self.environment.sys.carve(self.environment.sys.inventory()[0], 1)
        vm.map(self.environment, Extent(carved.extent, 1, carved.first))[0] = 42
        return carved.extent, carved.first

    def lend(self) -> Extent:
        handle, first = self.carve()
        return Extent(handle, 1, first)

    def give(self) -> Extent:
        handle, first = self.carve()
        return GrantedExtent(handle, 1, first, 31)

    def read(self, extent: Extent, at: int) -> int:
        return vm.map(self.environment, extent)[at]

    def later(self) -> str:
        self.waiting = self.call
        answer: str = DEFERRED
        return answer

    def release(self) -> None:
        assert self.waiting is not None
        self.waiting.answer("at last")

    def end_once(self) -> int:
        if not ShopServer.ended:
            ShopServer.ended = True
            end(self.environment)
        return 7

    end_once_repeatable = end_once

    def big(self, size: int) -> bytes:
        return bytes(size)


def open_shop(env: libexo.Environment) -> None:
    serve(ShopServer(), environment=env)


def in_shop(visit: Callable[[Shop, libexo.Environment], object], *, seed: int = 0) -> object:
    """Run *visit* against the shop; return what it returns."""
    with simulated(seed=seed) as system:
        system.spawn(open_shop, "shop", holds=("ram",))
        client = system.spawn(lambda env: visit(Shop.connect(env), env))
        system.run(client)
        return client.result


@pytest.mark.parametrize(
    ("visit", "expected"),
    [
        (lambda shop: shop.add(1, 2), 3),
        (lambda shop: shop.add(1), 11),
        (lambda shop: shop.add(b=1, a=3), 4),
        (lambda shop: shop.add(1, 2, sign=-1), -3),
    ],
)
def test_arguments(visit: Callable[[Shop], int], expected: int) -> None:
    """Arguments go by place or by name, and defaults are filled in."""
    assert in_shop(lambda shop, _: visit(shop)) == expected


def test_wrong_calls_never_leave() -> None:
    """A call that does not fit the signature is a TypeError at the caller."""

    def visit(shop: Shop, _: libexo.Environment) -> bool:
        add: Callable[..., int] = shop.add
        for arguments, named in (((), {}), ((1, 2, 3, 4), {}), ((1,), {"c": 2})):
            with pytest.raises(TypeError):
                add(*arguments, **named)
        return True

    assert in_shop(visit) is True


def test_wrong_types_are_refused_here() -> None:
    """An argument of another type is refused before anything is sent, by name."""

    def visit(shop: Shop, _: libexo.Environment) -> tuple[str, int]:
        with pytest.raises(BadArgument) as caught:
            shop.add("one", 2)  # type: ignore[arg-type]
        return str(caught.value), shop.add(1, 2)

    assert in_shop(visit) == ("add: a = 'one': Expected `int`, got `str`", 3)


def test_wrong_types_are_refused_there() -> None:
    """A caller that still sends one is told by the server, which goes on."""

    def visit(shop: Shop, env: libexo.Environment) -> tuple[str, int]:
        message = Message(Shop.label, (1,), (msgspec.msgpack.encode(("one", 2, 1)),))
        answer = env.thread.call(env.lookup("shop"), message)
        assert isinstance(answer.items[0], bytes)
        return msgspec.msgpack.decode(answer.items[0])[0], shop.add(1, 2)

    assert in_shop(visit) == ("BadArgument", 3)


def test_errors_travel() -> None:
    """An operation's exception comes back under its name, with its text."""

    def visit(shop: Shop, _: libexo.Environment) -> tuple[str, str]:
        with pytest.raises(RemoteError) as caught:
            shop.fail("nothing here")
        return caught.value.kind, caught.value.text

    assert in_shop(visit) == ("KeyError", "'nothing here'")


def test_an_extent_as_a_result() -> None:
    """A lent extent is shared; a given one is the caller's alone. Both can be mapped."""

    def visit(shop: Shop, env: libexo.Environment) -> list[tuple[int, bool]]:
        extents = shop.lend(), shop.give()
        env.sys.inspect(extents[0].handle)
        return [(vm.map(env, extent)[0], extent.writable) for extent in extents]

    assert in_shop(visit) == [(42, True), (42, True)]


def test_an_extent_as_an_argument() -> None:
    """An extent passed on is mapped by the server through a capability of its own."""

    def visit(shop: Shop, env: libexo.Environment) -> tuple[int, int]:
        extent = shop.give()
        vm.map(env, extent)[5] = 9
        value = shop.read(extent.read_only(), 5)
        return value, len(env.sys.inventory())

    assert in_shop(visit) == (9, 1)


def test_deferred_answers() -> None:
    """An operation may be answered later, after others were."""
    with simulated() as system:
        system.spawn(open_shop, "shop", holds=("ram",))
        early = system.spawn(lambda env: Shop.connect(env).later())
        late = system.spawn(come_later)
        system.run(early, late)

        assert early.result == "at last"


def test_what_is_no_operation() -> None:
    """A request nobody serves is answered, so that nobody waits for ever; so is one without arguments."""

    def visit(shop: Shop, env: libexo.Environment) -> list[tuple[int, ...]]:
        to = env.lookup("shop")
        messages = Message(0x70, (99,)), Message(0x71, (1,)), Message(0x70), Message(0x70, (1,))
        return [env.thread.call(to, message).words for message in messages]

    assert in_shop(visit) == [(1,)] * 4


def test_a_result_that_cannot_be_sent() -> None:
    """A result too big for a message is an error at the caller; the server goes on."""

    def visit(shop: Shop, _: libexo.Environment) -> tuple[str, int]:
        with pytest.raises(RemoteError) as caught:
            shop.big((4 << 20) + 1)
        return caught.value.kind, shop.add(1, 2)

    assert in_shop(visit) == ("ValueError", 3)


def test_a_caller_that_gives_up() -> None:
    """A server whose answer comes too late counts that, and goes on; whatever was asked."""

    def impatient(env: libexo.Environment) -> list[Phase]:
        phases = []
        for shop in (Shop.connect(env, timeout=0.1), Shop.connect(env, timeout=0.1)):
            with pytest.raises(IpcTimeout) as caught:
                shop.later()
            phases.append(caught.value.phase)
        return phases

    with simulated() as system:
        server = system.spawn(open_shop, "shop", holds=("ram",))
        early = system.spawn(impatient)
        late = system.spawn(come_later)
        system.run(early, late)
        again = system.spawn(lambda env: Shop.connect(env).add(1, 2))
        system.run(again)

        assert (early.result, again.result, server.status) == ([Phase.RECEIVE] * 2, 3, None)


def test_a_caller_that_does_not_wait_for_a_refusal() -> None:
    """An unknown operation is refused, though nobody may wait for that any more."""
    with theatre() as stage:
        a, b = stage.pair()
        server = Server(b.env, ShopServer())
        exchange = moves.post_message(a, b.thread, Message(0x70, (99,)), PacketKind.CALL, timed=True)
        found = moves.take(b, a.thread)
        moves.withdraw(a, exchange)
        assert found is not None

        assert server.begin(*found) is None
        assert moves.counted(b, "unanswered") == 1


def come_later(env: libexo.Environment) -> None:
    env.thread.sleep(1)
    Shop.connect(env).release()


def held(system: System, name: str) -> int:
    """Return how many capabilities the program called *name* holds."""
    [task] = [task for task in system.tasks if task.name == name]
    return task.environment.table.used


def gifts(env: libexo.Environment, count: int) -> tuple[MapItem, ...]:
    """Return *count* capabilities to pass on."""
    return (MapItem(env.sys.inventory()[0], int(MAP_READ)),) * count


FLOODS = {
    "an operation that takes none": (0x70, 1, b"\x93\x01\x02\x01", 50, IpcCode.OVERFLOW),
    "an operation that takes one": (0x70, 5, b"", 50, IpcCode.OVERFLOW),
    "no operation": (0x70, 99, b"", 50, IpcCode.OVERFLOW),
    "another interface": (0x71, 5, b"", 50, IpcCode.OVERFLOW),
    "arguments that are none": (0x70, 5, b"\xc1", 1, None),
}


@pytest.mark.parametrize("how", FLOODS, ids=str)
def test_a_flood_of_capabilities(how: str) -> None:
    """However many capabilities a client sends, the server keeps none it did not want: the client is told."""
    label, number, arguments, each, refusal = FLOODS[how]

    def flood(env: libexo.Environment) -> set[IpcCode | None]:
        to = env.lookup("shop", 1)
        outcomes: set[IpcCode | None] = set()
        message = Message(label, (number,), (arguments, *gifts(env, each)))
        for _ in range(-(-5000 // each) if each > 1 else 200):
            try:
                env.thread.call(to, message)
                outcomes.add(None)
            except IpcError as error:
                outcomes.add(error.code)
        return outcomes

    with simulated() as system:
        system.spawn(open_shop, "shop", holds=("ram",))
        before = held(system, "shop")
        client = system.spawn(flood, "client", holds=("ram",))
        system.run(client)

        assert client.result == {refusal}
        assert (held(system, "shop"), held(system, "client")) == (before, 0)


def test_a_server_that_gives_unasked() -> None:
    """A stub takes no capability that its operation does not return, nor one that comes with an error."""

    def generous(env: libexo.Environment) -> None:
        for number in (0, 0, 1, 0):
            _, message = env.thread.wait()
            text = b"\x92\xa1a\xa1b" if number else b"\x05"
            env.thread.reply(message, Message(0x70, (number,), (text, *gifts(env, 1))))
        env.thread.wait()

    def client(env: libexo.Environment) -> list[str]:
        shop, outcomes = Shop.connect(env), []
        for visit in (lambda: shop.add(1), shop.lend, shop.lend, lambda: shop.fail("")):
            with pytest.raises(ExoError) as caught:
                visit()
            kind = caught.value.kind if isinstance(caught.value, RemoteError) else type(caught.value).__name__
            outcomes.append(f"{kind} {len(env.sys.inventory())}")
        return outcomes

    with simulated() as system:
        system.spawn(generous, "shop", holds=("ram",))
        task = system.spawn(client)
        system.run(task)

        assert task.result == ["IpcError 0", "BadAnswer 0", "a 0", "IpcError 0"]


def restarted(visit: Callable[[Shop], object]) -> object:
    """Run *visit* against a shop that ends in its first call and is started again."""
    ShopServer.ended = False
    with simulated() as system:
        watcher = system.spawn(lambda env: env.thread.sleep(60), "watcher")
        shop = system.spawn(open_shop, "shop", holds=("ram",), keeps=True)
        system.give(watcher, shop.environment)
        client = system.spawn(lambda env: visit(Shop.connect(env)))
        system.run(shop, errors=False)
        system.kernel.environments.succeed(shop.environment, shop.body.program)
        system.run(client, errors=False)
        return client.error or client.result


def test_a_repeatable_operation_is_repeated() -> None:
    """When the server is restarted during a call that may be done twice, the stub finds it again and asks again."""
    assert restarted(lambda shop: shop.end_once_repeatable()) == 7


def test_any_other_is_not() -> None:
    """The caller of any other operation is told that nobody answered; the next call finds the new server."""

    def visit(shop: Shop) -> tuple[type, int]:
        with pytest.raises(NoPartner) as caught:
            shop.end_once()
        return type(caught.value), shop.add(1, 2)

    assert restarted(visit) == (NoPartner, 3)


def test_nobody_of_that_name() -> None:
    """A stub whose server never comes names the threads that are there instead."""
    with simulated() as system:
        system.spawn(lambda env: Shop.connect(env).add(1), "client")
        with pytest.raises(NotFound, match="no thread is called 'shop'; there are: client"):
            system.run()


def test_numbers_are_used_once() -> None:
    """Two operations of one number are a mistake found at once."""
    with pytest.raises(TypeError, match="operations one and two share a number"):

        class Twice(Interface, label=0x7F):
            @operation(1)
            def one(self) -> None: ...

            @operation(1)
            def two(self) -> None: ...


def test_annotations_are_needed() -> None:
    """An operation without annotations, or with arguments by name only, is found when it is first used."""

    class Bare(Interface, label=0x7F):
        @operation(1)
        def f(self, x) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001 - the mistake itself

    class Named(Interface, label=0x7F):
        @operation(1)
        def f(self, *, x: int) -> None: ...

    def program(env: libexo.Environment) -> bool:
        with pytest.raises(TypeError, match="no annotation for x"):
            Bare.connect(env, "x")
        with pytest.raises(TypeError, match="x cannot go by place"):
            Named.connect(env, "x")
        return True

    with simulated() as system:
        task = system.spawn(program)
        system.run()

        assert task.result is True
