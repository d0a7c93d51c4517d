"""Frames asked for: who gives back, who refuses, what is taken, and in what order."""

import msgspec
import pytest

from kernel.abi.kip import Page
from libexo import pressure, vm
from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.extent import Extent
from libexo.heap import Heap
from libexo.ipc.message import FpageItem, Message
from libexo.testing import burn
from servers.memory import pressing
from servers.memory.api import Memory, Pressed, Taken
from servers.process.api import Processes
from tests.servers.memory.presses import extents, frames_of, idle, kill_now, press, started
from tests.servers.memory.stage import fpage, item, rpc, used
from tests.servers.rig import ask, command, kill, offer, servers


def test_what_heaps_keep_ready_goes_first() -> None:
    """A program without a word about it gives back the unused chunks of its heaps, and nothing is taken."""
    told: list[tuple[int, float]] = []

    def client(env: Environment) -> None:
        heap = Heap(env, chunk=64)
        pressure.on_pressure(env, lambda *wanted: told.append(wanted))
        blocks = [heap.allocate(60_000) for _ in range(2)]
        for block in blocks:
            heap.free(block)
        extents(env, 4)
        idle(env)

    with servers() as system:
        started(system, client)
        before = frames_of(system, "client")
        found = press(system, "client", before - 10)

        assert (found.taken, found.frames <= before - 10, found.given == before - found.frames) == (
            0,
            True,
            True,
        )
        assert (told, frames_of(system, "client")) == ([], found.frames)


def test_the_program_chooses() -> None:
    """What caches do not make up for, the program's handler gives back, of what it likes; nothing is taken."""

    def client(env: Environment) -> None:
        some = extents(env, 5, 5, 5)

        def give_back(frames: int, seconds: float) -> None:
            told.append((frames, seconds))
            env.sys.drop(some[1].handle)

        pressure.on_pressure(env, give_back)
        idle(env)

    told: list[tuple[int, float]] = []
    with servers() as system:
        started(system, client)

        assert press(system, "client", 12, 0.5) == Pressed(10, 5, 0)
        assert told == [(3, 0.5)]


def test_a_refusal_loses_what_is_missing() -> None:
    """Of one that gives nothing, as many extents go as are needed, from the highest frame down, at the deadline."""

    def client(env: Environment) -> None:
        some.extend(extents(env, 4, 2, 3))
        idle(env)

    some: list[Extent] = []
    with servers() as system:
        started(system, client)
        before = system.machine.clock.now()
        found = press(system, "client", 5, 2)
        waited = (system.machine.clock.now() - before) / 1e9

        assert (found, 2 <= waited < 2.1) == (Pressed(4, 0, 5), True)
        assert frames_of(system, "client") == 4


def test_named_first_spared_last() -> None:
    """What was named goes first, in that order; what was spared stays, though it has the highest frames."""

    def client(env: Environment) -> list[object]:
        a, b, c, d, e = extents(env, 2, 2, 2, 2, 2)
        rules = pressure.Rules(env)
        rules.set(first=[e, b], spared=[d, c])
        env.thread.sleep(5)
        names = {each.handle: name for each, name in ((a, "a"), (b, "b"), (c, "c"), (d, "d"), (e, "e"))}
        lost = [names[handle] for handle in pressure.repossessed(env)]
        return [
            lost,
            [(t.first, t.pages, t.place) for t in Memory.connect(env).taken()]
            == [(e.first, 2, -1), (b.first, 2, -1), (a.first, 2, -1)],
        ]

    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(0.2)

        assert press(system, "client", 5) == Pressed(5, 0, 6)
        system.run(task)
        assert task.result == [["e", "b", "a"], True]


def test_sparing_everything_wins_nothing() -> None:
    """What is spared beyond what may be kept is taken as well, the last of it first."""

    def client(env: Environment) -> list[str]:
        some = extents(env, 3, 3, 3)
        pressure.Rules(env).set(spared=some)
        env.thread.sleep(5)
        return [
            name for each, name in zip(some, "abc", strict=True) if each.handle in pressure.repossessed(env)
        ]

    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(0.2)

        assert press(system, "client", 4) == Pressed(4, 0, 6)
        system.run(task)
        assert task.result == ["b", "c"]


@pytest.mark.parametrize("room", [2, 3])
def test_contents_are_saved(room: int) -> None:
    """The contents of what is taken are in the place that was named for them, which may be larger."""

    def client(env: Environment) -> list[object]:
        content, place, other = extents(env, 2, room, 2)
        rules = pressure.Rules(env)
        view = vm.map(env, content)
        view[:4], view[-4:] = b"head", b"tail"
        rules.set(first=[(content, place)], spared=[place])
        env.thread.sleep(5)
        saved = vm.map(env, place)
        [taken] = Memory.connect(env).taken()
        return [
            bytes(saved[:4]),
            bytes(saved[: content.size][-4:]),
            taken == Taken(content.first, 2, place.first),
            other.pages,
        ]

    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(0.2)
        press(system, "client", 3 + room)
        system.run(task)

        assert task.result == [b"head", b"tail", True, 2]


@pytest.mark.parametrize("how", ["stopped", "deaf"])
def test_frames_are_free_in_time(how: str) -> None:
    """One that is stopped, or computes and never looks, loses the frames at the deadline; they are free then."""

    def client(env: Environment) -> None:
        for _ in range(10):
            extents(env, 4)
        if how == "deaf":
            burn(10_000_000_000)
        idle(env)

    with servers() as system:
        started(system, client)
        [victim] = [e for e in system.kernel.environments if e.name == "client"]
        if how == "stopped":
            victim.body.signal(19)
        free = system.kernel.frames.free

        assert press(system, "client", 0, 0.5) == Pressed(0, 0, 40)
        assert system.kernel.frames.free == free + 40


def test_no_more_memory_meanwhile() -> None:
    """Who is asked gets none until it is over; then its quota is what it was."""

    def client(env: Environment) -> list[str]:
        memory = Memory.connect(env)
        extents(env, 10)
        env.thread.sleep(0.5)
        during = []
        for action in (lambda: memory.allocate(1), lambda: memory.promise(1)):
            try:
                action()
                during.append("done")
            except RemoteError as error:
                during.append(error.kind)
        env.thread.sleep(5)
        memory.allocate(20)
        return during

    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(0.2)
        press(system, "client", 10 - 1, 2)
        system.run(task)

        assert task.result == ["QuotaExceeded", "QuotaExceeded"]


def test_what_sigma0_mapped_is_taken() -> None:
    """Memory that an X.2 program has from sigma0 goes as well; it may ask for the same frames again after."""

    def client(env: Environment) -> list[object]:
        asked = [item(rpc(env, fpage(64, 4))).snd_fpage, item(rpc(env, fpage(80, 2))).snd_fpage]
        env.thread.sleep(3)
        again = item(rpc(env, fpage(80, 2))).snd_fpage
        return [again == asked[1], used(env)]

    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(0.2)

        assert press(system, "client", 4) == Pressed(4, 0, 2)
        system.run(task)
        assert task.result == [True, 6]


def test_what_was_flushed_is_taken() -> None:
    """Memory from sigma0 that a program has flushed is kept for it, counts, and goes too."""

    def client(env: Environment) -> list[object]:
        found = rpc(env, fpage(64, 4)).items[0]
        assert isinstance(found, FpageItem)
        env.sys.drop(found.extents[0][2])
        rpc(env, fpage(80, 2))
        env.thread.sleep(3)
        return [used(env)]

    with servers() as system:
        task = system.spawn(client, "client")
        system.pass_time(0.2)
        free = system.kernel.frames.free

        assert press(system, "client", 2) == Pressed(2, 0, 4)
        assert system.kernel.frames.free == free + 4
        system.run(task)
        assert task.result == [2]


def test_what_is_on_offer_is_withdrawn() -> None:
    """Memory that was granted to a program, and that it does not accept, is no place to keep it."""

    def client(env: Environment) -> None:
        extents(env, 2)
        arguments = (msgspec.msgpack.encode([5, -1]),)
        allocate = Message(Memory.label, (1,), arguments)
        for _ in range(3):
            env.thread.send(env.lookup("memory"), allocate)  # it takes no answer
        idle(env)

    with servers() as system:
        started(system, client)
        before = system.kernel.frames.free
        assert press(system, "client", 2) == Pressed(2, 0, 0)
        assert (press(system, "client", 1), system.kernel.frames.free - before) == (Pressed(0, 0, 2), 17)


def test_a_family_is_asked_by_what_each_has() -> None:
    """Each member is told its part; one that gives its part loses nothing for another that does not."""

    def child(env: Environment) -> None:
        some = extents(env, *[1] * 30)

        def give_back(frames: int, _: float) -> None:
            told.append(frames)
            for _ in range(frames):
                env.sys.drop(some.pop().handle)

        pressure.on_pressure(env, give_back)
        idle(env)

    def parent(env: Environment) -> None:
        Processes.connect(env).spawn(spec)
        extents(env, *[1] * 10)
        idle(env)

    told: list[int] = []
    with servers() as system:
        spec = offer(system, child)
        started(system, parent, "parent")

        assert press(system, "parent", 20) == Pressed(20, 15, 5)
        assert (told, frames_of(system, "job"), frames_of(system, "parent")) == ([15], 15, 5)


@pytest.mark.parametrize("moment", [0.0, 0.3, 0.999, 1.0, 1.001])
def test_the_server_dies(moment: float) -> None:
    """Killed at any moment of a press, the caller's stub asks the successor: rules hold, and nothing goes twice."""

    def client(env: Environment) -> list[int]:
        some = extents(env, *[2] * 20)
        pressure.Rules(env).set(first=some[:10], spared=some[10:12])
        env.thread.sleep(20)
        lost = set(pressure.repossessed(env))
        return [at for at, each in enumerate(some) if each.handle in lost]

    def server(env: Environment) -> int:
        return Memory.connect(env).press(env.lookup("client"), 21, 1).frames

    with servers() as system:
        tasks = [system.spawn(client, "client")]
        system.pass_time(0.2)
        system.machine.clock.alarm(
            system.machine.clock.now() + round(moment * 1e9), lambda: kill_now(system, "memory")
        )
        assert command(system, server) == 21
        system.run(*tasks)

        assert tasks[0].result == list(range(10))


def test_who_may_ask() -> None:
    """Programs may not, servers are not asked, and one that does not exist is refused."""

    def client(env: Environment) -> str:
        with pytest.raises(RemoteError) as failed:
            Memory.connect(env).press(env.thread.id, 0, 0)
        return failed.value.kind

    def server(env: Environment) -> list[str]:
        found = []
        for thread in (env.lookup("process"), 77 << 14 | 1):
            with pytest.raises(RemoteError) as failed:
                Memory.connect(env).press(thread, 0, 0)
            found.append(failed.value.kind)
        return found

    with servers() as system:
        assert ask(system, client) == "NotAllowed"
        assert command(system, server) == ["NotAllowed"] * 2


def test_what_is_shown_is_bounded() -> None:
    """A family shows 32 extents at most, and more when it has given some up; foreign rights do not do."""

    def client(env: Environment) -> list[object]:
        memory = Memory.connect(env)
        some = extents(env, *[1] * 33)
        for each in some[:-1]:
            memory.show(each)
        with pytest.raises(RemoteError, match="shown are the caller's") as failed:
            memory.show(some[-1])
        env.sys.drop(some[0].handle)
        memory.show(some[-1])
        env.sys.drop(some[-1].handle)
        with pytest.raises(RemoteError) as unreadable:
            memory.show(Extent(some[1].handle, 1, some[1].first, 2))
        return [failed.value.kind, unreadable.value.kind, used(env)]

    with servers() as system:
        assert ask(system, client) == ["QuotaExceeded", "NotAllowed", 31]


def test_nonsense_in_the_page() -> None:
    """Whatever a program writes into its page of rules, it alone is treated by them, and frames come free."""

    def client(env: Environment) -> None:
        extents(env, 4, 4)
        rules = pressure.Rules(env)
        words = rules._words
        for at in range(1, len(words)):
            words[at] = (1 << 64) - 1
        idle(env)

    with servers() as system:
        started(system, client)

        assert press(system, "client", 2).frames <= 2
        assert press(system, "client", 0).frames == 0


def test_the_page_is_cut() -> None:
    """A program that takes its page or its place back while the server looks harms itself alone."""

    def client(env: Environment) -> None:
        content, place = extents(env, 4, 4)
        rules = pressure.Rules(env)
        rules.set(first=[(content, place)])
        vm.revoke(env, place)
        vm.revoke(env, rules.page)
        idle(env)

    with servers() as system:
        started(system, client)

        assert press(system, "client", 2) == Pressed(0, 0, 9)
        kill(system, "client")


def test_reading_the_environment_page() -> None:
    """Of many that were taken, the newest are listed."""
    with servers() as system:

        def client(env: Environment) -> list[int]:
            env.page[Page.REPOSSESSED] = 600
            for at in range(Page.REPOSSESSED_LIST, Page.SLICE_BEGAN):
                env.page[at] = at
            found = pressure.repossessed(env)
            env.page[Page.REPOSSESSED] = 0
            return [len(found), found[-1] - Page.REPOSSESSED_LIST]

        assert ask(system, client) == [501, 599 % 501]


def test_what_was_given_back_while_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that a program gave back while others of its were taken, and that are another's by then, stay his."""

    def client(env: Environment) -> None:
        some.extend(extents(env, *[1] * (pressing._AT_ONCE + 4)))
        env.thread.sleep(0.6)
        for each in some[:4]:
            env.sys.drop(each.handle)
        idle(env)

    def other(env: Environment) -> list[object]:
        env.thread.sleep(0.8)
        memory = Memory.connect(env)
        theirs = [memory.allocate(1, each.first) for each in some[:4]]
        for each in theirs:
            vm.map(env, each)[:4] = b"mine"
        env.thread.sleep(3)
        return [pressure.repossessed(env), [bytes(vm.map(env, each)[:4]) for each in theirs]]

    some: list[Extent] = []
    monkeypatch.setattr(pressing, "_PAUSE", 1.0)
    with servers() as system:
        task = system.spawn(other, "other")
        started(system, client)
        found = press(system, "client", 0, 0.1)
        system.run(task)

        assert task.result == [[], [b"mine"] * 4]
        assert (found.frames, found.taken) == (0, pressing._AT_ONCE)
