"""The test kit: the real kernel and libexo on the simulated machine, in one process, from a seed."""

from functools import partial

import pytest

import libexo
from kernel.abi import traps
from kernel.abi.rights import Rights
from libexo import vm
from libexo.errors import ExoError, NoPartner
from libexo.extent import Extent
from libexo.ipc import GrantItem, MapItem, Message
from libexo.testing import (
    Failure,
    FailureKind,
    Failures,
    LeakError,
    Ledger,
    NotFinished,
    Outcome,
    System,
    burn,
    explore,
    replay,
    simulated,
)
from libexo.transport.faulty import FaultyTransport, Odds

MS = 1_000_000


def echo(env: libexo.Environment) -> None:
    """Answer every message with its own words."""
    sender, message = env.thread.wait()
    while True:
        sender, message = env.thread.reply_wait(sender, Message(words=message.words))


def ask(env: libexo.Environment) -> tuple[int, ...]:
    """Call the echo server three times."""
    to = env.lookup("echo", timeout=1)
    return tuple(env.thread.call(to, Message(words=(n,))).words[0] for n in range(3))


def trace_of(seed: int) -> list[tuple[int, str, int]]:
    with simulated(seed=seed) as system:
        system.spawn(echo, "echo")
        system.run(system.spawn(ask), system.spawn(ask))
        return list(system.trace)


def test_ipc_between_programs() -> None:
    """A program calls another by name, over the kernel's bindings, and gets its answers."""
    with simulated(seed=1) as system:
        system.spawn(echo, "echo")
        client = system.spawn(ask)
        assert system.run(client) is Outcome.DONE
        assert client.result == (0, 1, 2)


def test_one_seed_one_run() -> None:
    """Two runs of one seed are the same step by step; other seeds give other orders."""
    assert trace_of(1) == trace_of(1)
    assert len({tuple(trace_of(seed)) for seed in range(5)}) == 5


def test_virtual_time() -> None:
    """A sleep of an hour takes an hour of virtual time, and no real time to speak of."""
    with simulated() as system:
        system.spawn(lambda env: env.thread.sleep(3600))
        assert system.run(seconds=7200) is Outcome.DONE
        assert 3600 <= system.now < 3601


def test_a_limit_ends_the_run() -> None:
    """A program that never ends is left alone when the virtual time is up, and has no result."""
    with simulated() as system:
        task = system.spawn(lambda env: env.thread.sleep(1e6))
        assert system.run(seconds=5) is Outcome.LIMIT
        with pytest.raises(NotFinished, match="has not ended"):
            _ = task.result


def test_an_idle_system_ends_the_run() -> None:
    """When every program waits for another, the run ends at once."""
    with simulated() as system:
        system.spawn(lambda env: env.thread.wait())
        assert system.run() is Outcome.IDLE


def test_errors_come_out() -> None:
    """A program's exception is raised in the test, once, and names the program."""
    with simulated() as system:
        system.spawn(lambda _: 1 // 0, "divider")
        with pytest.raises(ZeroDivisionError) as caught:
            system.run()
        assert "divider" in caught.value.__notes__[0]
        system.run()


def memory_program(env: libexo.Environment) -> tuple[bytes, bytes]:
    """Carve from the RAM it was given, map, write; return what was there before and after."""
    carved = env.sys.carve(env.sys.inventory()[0], 2)
    view = vm.map(env, Extent(carved.extent, 2, carved.first))
    before = bytes(view[:4])
    view[:4] = b"data"
    return before, bytes(view[:4])


def test_memory_and_the_ledger() -> None:
    """A program carves and maps memory; when it ends, everything is as it was before."""
    with simulated() as system:
        before = system.ledger()
        task = system.spawn(memory_program, holds=("ram",))
        system.run()
        assert task.result == (bytes(4), b"data")
        before.check(system.ledger())


def test_the_ledger_names_what_is_left() -> None:
    """A program that still holds something shows up with it, by name."""
    with simulated() as system:
        before = system.ledger()
        system.spawn(lambda env: (memory_program(env), env.thread.wait()), "hoarder", holds=("ram",))
        system.run()
        with pytest.raises(LeakError, match=r"environments: left over: hoarder") as caught:
            before.check(system.ledger())
        assert "frames: left over: 0" in str(caught.value)


def test_ledger_says_what_is_missing() -> None:
    """A ledger compares any kinds of things, both ways, and counts."""
    was, now = Ledger.take(a=["x", "x", "y"]), Ledger.take(a=["y"], b=[1])
    assert was.differences(now) == ["a: 2 missing: x", "b: left over: 1"]


def share(env: libexo.Environment) -> bytes:
    """Map an extent, lend it to the borrower, take it back, and look at it through the same view."""
    carved = env.sys.carve(env.sys.inventory()[0], 1)
    extent = Extent(carved.extent, 1, carved.first)
    view = vm.map(env, extent)
    view[0] = 7
    env.thread.call(env.lookup("borrower", 1), Message(items=(MapItem(extent.handle, int(Rights.READ)),)))
    vm.revoke(env, extent)
    return bytes(view[:1])


def borrow(env: libexo.Environment) -> None:
    """Map what was lent, say so, wait until it is gone, and touch it."""
    sender, message = env.thread.wait()
    item = message.items[0]
    assert isinstance(item, MapItem)
    view = vm.map(env, Extent(item.handle, 1, 0))
    assert view[0] == 7
    env.thread.reply(sender, Message())
    env.thread.sleep(1)
    bytes(view)


@pytest.mark.parametrize("seed", range(5))
def test_revocation_takes_the_memory(seed: int) -> None:
    """A borrower that touches memory that was taken back dies as by SIGBUS; the owner's view goes on."""
    with simulated(seed=seed) as system:
        borrower, owner = system.spawn(borrow, "borrower"), system.spawn(share, holds=("ram",))
        system.run(errors=False)
        assert (owner.result, borrower.status) == (b"\7", -7)


def test_grant_moves_a_capability() -> None:
    """A granted capability is in the receiver's table, and no more in the giver's."""

    def receiver(env: libexo.Environment) -> int:
        _, message = env.thread.wait()
        assert isinstance(message.items[0], GrantItem)
        return env.sys.inspect(message.items[0].handle).count

    def giver(env: libexo.Environment) -> tuple[int, ...]:
        [ram] = env.sys.inventory()
        env.thread.send(env.lookup("receiver", 1), Message(items=(GrantItem(ram, int(Rights.READ)),)))
        return env.sys.inventory()

    with simulated() as system:
        tasks = system.spawn(receiver, "receiver"), system.spawn(giver, holds=("ram",))
        system.run()
        assert (tasks[0].result, tasks[1].result) == (256, ())


def planned(slices: dict[str, int]) -> System:
    """Programs that compute for ever, under a plan with *slices* in microseconds, after ten seconds."""

    def scheduler(env: libexo.Environment) -> None:
        plan = [traps.Slice(env.lookup(name, 1), length) for name, length in slices.items()]
        env.sys.plan(env.sys.inventory()[0], plan)
        env.thread.sleep(1e6)

    with simulated() as system:
        tasks = [system.spawn(lambda _: burn(10**15), name, cpu=0) for name in slices]
        system.spawn(scheduler, "scheduler", holds=("cpus",))
        system.run(*tasks, seconds=10)
        return system


def test_plan_shares_the_processor() -> None:
    """Slices of 3:2:1 give computing programs 3:2:1 of the processor's time, to a percent."""
    system = planned({"a": 3000, "b": 2000, "c": 1000})
    used = [task.body.consumed() / 1e9 for task in system.tasks[:3]]
    assert used == pytest.approx([5, 10 / 3, 10 / 6], rel=0.01)


@pytest.mark.slow
def test_kill_at_a_handover() -> None:
    """A server killed at its k-th handover leaves its caller with an error, not a hang, wherever that is."""
    statuses = set()
    for at in range(1, 30):
        with simulated(failures=Failures([Failure(FailureKind.KILL, 0, at)])) as system:
            server, client = system.spawn(echo, "echo"), system.spawn(ask)
            assert system.run(client, errors=False, seconds=10) is Outcome.DONE
            assert isinstance(client.error, ExoError) or client.result == (0, 1, 2)
            statuses.add((server.status, type(client.error)))
    assert {(-9, NoPartner), (None, type(None))} <= statuses


def test_faulty_transport() -> None:
    """Over a transport that loses and repeats messages, timed calls end in an answer or a time-out."""

    def client(env: libexo.Environment) -> int:
        to, answered = env.lookup("echo", timeout=1), 0
        for n in range(50):
            try:
                answered += env.thread.call(to, Message(words=(n,)), timeout=0.1).words == (n,)
            except ExoError:
                continue
        return answered

    odds = Odds(drop=0.2, delay=0.1, duplicate=0.2, cut=0.1)
    with simulated(seed=3, wrap=lambda plain, _: FaultyTransport(plain, seed=3, odds=odds)) as system:
        system.spawn(echo, "echo")
        task = system.spawn(client)
        system.run(task)
        assert isinstance(task.result, int)
        assert 5 < task.result < 45


def write(order: list[str], name: str, _: libexo.Environment) -> None:
    order.append(name)


def two_writers(order: list[str], choose: object) -> None:
    """Two programs write their names down, one step each."""
    with simulated(choose=choose) as system:  # type: ignore[arg-type]
        for name in ("a", "b"):
            system.spawn(partial(write, order, name), name)
        system.run()


@pytest.mark.slow
def test_exploring_finds_every_order() -> None:
    """A scenario is run in every order of its steps, so that both outcomes of a race are seen."""
    seen: set[tuple[str, ...]] = set()

    def scenario(choose: object) -> None:
        order: list[str] = []
        two_writers(order, choose)
        seen.add(tuple(order))

    assert explore(scenario) > 20
    assert seen == {("a", "b"), ("b", "a")}


def test_exploring_names_the_choices() -> None:
    """A failure says which choices led to it, and those can be replayed."""

    def scenario(choose: object) -> None:
        order: list[str] = []
        two_writers(order, choose)
        assert order == ["a", "b"]

    with pytest.raises(AssertionError) as caught:
        explore(scenario)
    choices = [int(word) for word in caught.value.__notes__[-1].split("[")[1].split("]")[0].split(",")]
    with pytest.raises(AssertionError):
        scenario(replay(choices))
