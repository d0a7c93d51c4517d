"""The older memory protocol: label 0, as the Pistachio fork has it, and what was wrong with its server."""

import pytest

from kernel.abi.limits import FRAME_SIZE as PAGE
from libexo import l4
from libexo.environment import Environment
from libexo.ipc.message import FpageItem, Message
from libexo.l4.exo import MEM_ALLOC, memory_alloc, memory_free, memory_server
from libexo.l4.space.space import space_of
from servers.memory.api import Memory
from tests.servers.memory.stage import ask, call, used
from tests.servers.rig import kill, servers


def test_what_is_allocated_can_be_used() -> None:
    """The address of the answer is one the client can read and write at: the memory came with it."""

    def client(env: Environment) -> tuple[bytes, int]:
        address = memory_alloc(memory_server(), 3 * PAGE - 5)
        space_of(env).store(address + 3 * PAGE - 2, b"ok")
        return space_of(env).load(address + 3 * PAGE - 3, 3), used(env)

    with servers() as system:
        assert ask(system, client) == (b"\0ok", 3)


def test_the_words_of_a_request() -> None:
    """A request is three words from MR1 on, and is understood; the four of the fork's client never were."""

    def client(env: Environment) -> list[tuple[int, int]]:
        found = []
        for words in ((MEM_ALLOC, PAGE, 0), (0, MEM_ALLOC, PAGE, 0), (MEM_ALLOC, PAGE), (5, PAGE, 0), ()):
            answer = call(env, Message(words=words))
            found.append((len(answer.words), len(answer.items)))
            assert bool(answer.words[0]) == bool(answer.items)
        return found

    with servers() as system:
        assert ask(system, client) == [(1, 1), (1, 0), (1, 0), (1, 0), (1, 0)]


def test_the_words_of_the_answer() -> None:
    """One untyped word is the address; two typed ones are the map item whose send base it is."""

    def client(env: Environment) -> tuple[Message, int]:
        answer = call(env, Message(words=(MEM_ALLOC, 2 * PAGE, 0)))
        return answer, answer.words[0]

    with servers() as system:
        answer, address = ask(system, client)

        assert l4.MapItem.of(answer.typed) == l4.MapItem(l4.Fpage(address, 2 * PAGE) + 7, address)
        (found,) = answer.items
        assert isinstance(found, FpageItem)
        assert [extent[:2] for extent in found.extents] == [(0, 2 * PAGE)]


def test_address_0_means_refused() -> None:
    """A refusal has address 0, so nothing is ever allocated there."""

    def client(env: Environment) -> list[int]:
        server = memory_server()
        asked = [memory_alloc(server, size) for size in (0, 1 << 40, (1 << 64) - 1, 129 * PAGE)]
        return [*asked, memory_alloc(server, PAGE)]

    with servers() as system:
        *refused, first = ask(system, client)

        assert refused == [0] * 4
        assert first > 0


def test_freeing() -> None:
    """Memory given back is unmapped, its frames are free, and it cannot be given back twice."""

    def client(env: Environment) -> list[object]:
        server = memory_server()
        address = memory_alloc(server, 2 * PAGE)
        done = [memory_free(server, address, 2 * PAGE), memory_free(server, address, 2 * PAGE)]
        return [*done, list(space_of(env)), used(env)]

    with servers() as system:
        free = system.kernel.frames.free
        assert ask(system, client) == [True, False, [], 0]
        assert system.kernel.frames.free == free


def test_freeing_is_checked() -> None:
    """Another's memory, another size, a place inside, and what was never allocated are not given back."""

    def owner(env: Environment) -> tuple[list[bool], bytes]:
        server = memory_server()
        address = memory_alloc(server, 2 * PAGE)
        space_of(env).store(address, b"mine")
        tries = [
            (address, PAGE),
            (address + PAGE, PAGE),
            (address + 1, 2 * PAGE),
            (address, 3 * PAGE),
            (0, PAGE),
        ]
        found = [memory_free(server, *each) for each in (*tries, (1 << 63, PAGE), (address, 0))]
        found += [bool(w) for w in env.thread.call(env.lookup("other", 1), Message(words=(address,))).words]
        return found, space_of(env).load(address, 4)

    def other(env: Environment) -> None:
        sender, message = env.thread.wait()
        found = memory_free(memory_server(), message.words[0], 2 * PAGE)
        env.thread.reply(sender, Message(words=(int(found),)))

    with servers() as system:
        tasks = system.spawn(owner, "owner"), system.spawn(other, "other")
        system.run(*tasks)

        assert tasks[0].result == ([False] * 8, b"mine")


def test_freeing_takes_it_from_everybody() -> None:
    """Memory given back is taken, too, from those to whom its owner mapped it."""

    def owner(env: Environment) -> bool:
        address = memory_alloc(memory_server(), PAGE)
        other = env.lookup("other", 1)
        page = l4.Fpage(address, PAGE) + l4.Readable
        l4.LoadMRs(0, (l4.MsgTag.of(t=2), *l4.MapItem(page, 0).words))
        assert not l4.Call(other).E
        freed = memory_free(memory_server(), address, PAGE)
        l4.LoadMR(0, l4.MsgTag.of())
        assert not l4.Call(other).E
        return freed

    def other(env: Environment) -> tuple[int, int]:
        l4.Accept(l4.MapGrantItems(l4.Fpage(0x100_0000, PAGE)))
        sender, _ = l4.Wait()
        before = len(list(space_of(env)))
        l4.LoadMR(0, l4.MsgTag.of())
        sender, _ = l4.ReplyWait(sender)
        after = len(list(space_of(env)))
        l4.LoadMR(0, l4.MsgTag.of())
        l4.Reply(sender)
        return before, after

    with servers() as system:
        tasks = system.spawn(owner, "owner"), system.spawn(other, "other")
        system.run(*tasks)

        assert (tasks[0].result, tasks[1].result) == (True, (1, 0))


def test_a_closed_acceptor() -> None:
    """A caller without an open window gets an overflow in place of memory it could not use."""

    def client(env: Environment) -> tuple[bool, int]:
        l4.Accept(l4.UntypedWordsAcceptor)
        l4.LoadMRs(0, (l4.MsgTag.of(u=3), MEM_ALLOC, PAGE, 0))
        return l4.Call(memory_server()).E, l4.ErrorCode() >> 1 & 7

    with servers() as system:
        assert ask(system, client) == (True, 4)


def test_restarted_in_between() -> None:
    """After a restart the server has another id, is found under it, and frees what its predecessor allocated."""

    def client(env: Environment) -> tuple[bool, bool]:
        first = memory_server()
        address = memory_alloc(first, PAGE)
        ready.append(True)
        env.thread.sleep(3)
        return memory_server() != first, memory_free(memory_server(), address, PAGE)

    ready: list[bool] = []
    with servers() as system:
        task = system.spawn(client, "client")
        system.run(until=lambda: bool(ready))
        kill(system, "memory")
        system.run(task)

        assert task.result == (True, True)


@pytest.mark.parametrize("pages", [1, 2, 3, 5, 8])
def test_allocations_count_as_others(pages: int) -> None:
    """They are in the statistics, and together with typed allocations in the quota."""

    def client(env: Environment) -> tuple[int, bool]:
        memory_alloc(memory_server(), pages * PAGE)
        (own,) = [u for u in Memory.connect(env).statistics().users if u.name == "client"]
        Memory.connect(env).allocate(128 - pages)
        return own.frames, memory_alloc(memory_server(), PAGE) == 0

    with servers() as system:
        assert ask(system, client) == (pages, True)
