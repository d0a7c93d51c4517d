"""sigma0 on the simulated machine: its grants and its refusals."""

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.kip import Head
from kernel.abi.limits import MAX_OFFERS
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from libexo import l4, vm
from libexo.environment import Environment
from libexo.errors import IpcError
from libexo.ipc.message import FpageItem, GrantItem, MapItem, Message
from libexo.l4.space.space import space_of
from servers.memory.api import Memory
from tests.servers.memory.stage import NIL, PAGE, ask, call, extents, fpage, item, keep, operate, rpc, used
from tests.servers.rig import servers

conforms = pytest.mark.conforms


@conforms("sigma0: request")
def test_an_fpage_is_mapped() -> None:
    """The requested memory comes with full rights, its address as the send base, as one zeroed extent."""

    def client(env: Environment) -> tuple[l4.MapItem, FpageItem, bytes, int]:
        answer = rpc(env, fpage(8, 4))
        (found,) = answer.items
        assert isinstance(found, FpageItem)
        return item(answer), found, bytes(env.views.map(found.extents[0][2])), used(env)

    with servers() as system:
        mapped, found, content, frames = ask(system, client)

        assert mapped == l4.MapItem(fpage(8, 4) + l4.FullyAccessible, 8 * PAGE)
        ((offset, size, _, rights),) = found.extents
        assert (offset, size, content) == (0, 4 * PAGE, bytes(4 * PAGE))
        assert rights == Rights.READ | Rights.WRITE | Rights.EXECUTE | Rights.TRANSFER
        assert frames == 4


@conforms("sigma0: any page")
def test_any_page() -> None:
    """A base of all ones asks for the first naturally aligned run of that size."""

    def client(env: Environment) -> list[l4.Fpage]:
        top = (1 << 64) - 1
        return [item(rpc(env, l4.FpageLog2(top, log2))).snd_fpage for log2 in (14, 14, 12, 13)]

    with servers() as system:
        assert ask(system, client) == [
            page + l4.FullyAccessible for page in (fpage(4, 4), fpage(8, 4), fpage(1), fpage(2, 2))
        ]


@conforms("sigma0: request")
def test_the_same_again() -> None:
    """Asked again, sigma0 maps the same extent again, with what is in it; no frame more is used."""

    def client(env: Environment) -> tuple[l4.Fpage, bytes, int]:
        l4.Sigma0_GetPage(0, fpage(8))
        space_of(env).store(8 * PAGE, b"here")
        again = l4.Sigma0_GetPage_RcvWindow(0, fpage(8), fpage(512))
        return again, space_of(env).load(512 * PAGE, 4), used(env)

    with servers() as system:
        assert ask(system, client) == (fpage(8) + l4.FullyAccessible, b"here", 1)


@conforms("sigma0: request")
def test_flushed_it_is_still_its_owners() -> None:
    """The owner of a page can have it again after it gave its mapping up, and nobody else can."""

    def owner(env: Environment) -> bytes:
        l4.Sigma0_GetPage(0, fpage(8))
        space_of(env).store(8 * PAGE, b"mine")
        l4.Flush(fpage(8) + l4.FullyAccessible)
        assert not list(space_of(env))
        answers.append(env.thread.call(env.lookup("other", 1), Message()).words)
        l4.Sigma0_GetPage(0, fpage(8))
        return space_of(env).load(8 * PAGE, 4)

    def other(env: Environment) -> None:
        sender, _ = env.thread.wait()
        env.thread.reply(sender, Message(words=(int(item(rpc(env, fpage(8))) == NIL),)))

    answers: list[tuple[int, ...]] = []
    with servers() as system:
        tasks = system.spawn(owner, "owner"), system.spawn(other, "other")
        system.run(*tasks)

        assert (tasks[0].result, answers) == (b"mine", [(1,)])


@conforms("sigma0: request")
def test_the_first_owner_wins() -> None:
    """Memory given to one program, or allocated by it, is refused to others; the refusal reveals nothing."""

    def first(env: Environment) -> None:
        rpc(env, fpage(8, 4))
        env.thread.sleep(30)

    def second(env: Environment) -> list[bool]:
        before = env.kip.head(Head.FREE_FRAMES)
        asked = [fpage(8, 4), fpage(9), fpage(8, 8), fpage(100), fpage(96, 8)]
        refused = [item(rpc(env, page)) == NIL for page in asked]
        return [*refused, used(env) == 0, env.kip.head(Head.FREE_FRAMES) == before]

    with servers() as system:
        system.spawn(first, "first")
        system.spawn(keep(2, 100), "native")
        system.pass_time(0.1)

        assert ask(system, second, "second") == [True] * 7


def test_ones_own_allocations_are_not_mapped() -> None:
    """Memory that a program allocated by a typed call is its own to map: sigma0 gives none of it."""

    def client(env: Environment) -> bool:
        Memory.connect(env).allocate(1, 8)
        return item(rpc(env, fpage(8))) == NIL

    with servers() as system:
        assert ask(system, client) is True


@conforms("sigma0: request")
def test_part_of_a_run_is_there() -> None:
    """Of a run of which the caller has parts, those come again, and the gaps as extents of their own."""

    def client(env: Environment) -> tuple[l4.Fpage, list[tuple[int, int]], int]:
        l4.Sigma0_GetPage(0, fpage(9))
        l4.Sigma0_GetPage(0, fpage(12, 2))
        answer = rpc(env, fpage(8, 8))
        return item(answer).snd_fpage, extents(answer), used(env)

    with servers() as system:
        assert ask(system, client) == (
            fpage(8, 8) + l4.FullyAccessible,
            [(n * PAGE, size * PAGE) for n, size in ((0, 1), (1, 1), (2, 2), (4, 2), (6, 2))],
            8,
        )


@conforms("sigma0: unit")
def test_part_of_an_extent_brings_the_whole() -> None:
    """An extent is mapped whole: a request for a page of a larger one brings all of that again."""

    def client(env: Environment) -> list[l4.Fpage]:
        l4.Sigma0_GetPage(0, fpage(8, 4))
        l4.Flush(fpage(8, 4) + l4.FullyAccessible)
        again = l4.Sigma0_GetPage(0, fpage(9))
        return [again, *(l4.Fpage(region.base, region.size) for region in space_of(env))]

    with servers() as system:
        assert ask(system, client) == [fpage(8, 4) + l4.FullyAccessible, fpage(8, 4)]


def test_all_or_nothing() -> None:
    """A run with one frame of somebody else's in it is refused, and its other frames stay free."""

    def client(env: Environment) -> tuple[bool, int]:
        before = env.kip.head(Head.FREE_FRAMES)
        return item(rpc(env, fpage(96, 8))) == NIL, before - env.kip.head(Head.FREE_FRAMES)

    with servers() as system:
        system.spawn(keep(1, 103), "native")
        system.pass_time(0.1)

        assert ask(system, client) == (True, 0)


def test_more_extents_than_a_message_brings() -> None:
    """A run that would come in more extents than can be on offer is refused; asked for in parts, it comes."""

    def client(env: Environment) -> tuple[bool, int]:
        for frame in range(128, 256, 3):
            assert item(rpc(env, fpage(frame))) != NIL
        return item(rpc(env, fpage(128, 128))) == NIL, len(extents(rpc(env, fpage(128, 64))))

    with servers() as system:
        assert ask(system, client) == (True, 43)
        assert MAX_OFFERS < 85


@conforms("sigma0: refusal")
def test_the_quota() -> None:
    """The quota of a typed allocation counts here, for both kinds together; memory that was flushed counts, too."""

    def client(env: Environment) -> list[bool]:
        l4.Sigma0_GetPage(0, fpage(64, 64))
        Memory.connect(env).allocate(63)
        l4.Flush(fpage(64, 64) + l4.FullyAccessible)
        return [
            item(rpc(env, page)) != NIL for page in (fpage(130, 2), fpage(130), fpage(131), fpage(64, 64))
        ]

    with servers() as system:
        assert ask(system, client) == [False, True, False, True]


def test_the_quota_is_the_environments() -> None:
    """A second thread of a program is given what the first was given, and has no quota of its own."""

    def second(_sp: int) -> None:
        sender, _ = l4.Wait()
        found = [l4.Sigma0_GetPage(0, page) for page in (fpage(64, 64), fpage(192, 64), fpage(130))]
        l4.LoadMRs(0, (l4.MsgTag.of(u=3), *found))
        l4.Reply(sender)

    def root(env: Environment) -> tuple[int, ...]:
        l4.Sigma0_GetPage(0, fpage(64, 64))
        own, thread = env.thread.id, thread_id(2000)
        assert l4.ThreadControl(thread, own, own, own)
        l4.LoadMRs(0, (l4.MsgTag.of(u=2), l4.entry(second), 0))
        l4.Send(thread)
        l4.LoadMR(0, l4.MsgTag.of())
        l4.Call(thread)
        return l4.StoreMRs(1, 3)

    with servers() as system:
        task = system.spawn(root, "root", holds=["factory"])
        system.run(task)

        assert task.result == (fpage(64, 64) + 7, fpage(192, 64) + 7, l4.Nilpage)


@conforms("sigma0: malformed and unknown requests")
@pytest.mark.parametrize(
    "message",
    [
        Message(Label.SIGMA0),
        Message(Label.SIGMA0, (int(fpage(8)),)),
        Message(Label.SIGMA0, (int(fpage(8)), 0, 0, 0)),
        Message(Label.SIGMA0, (int(fpage(8)), 0), typed=l4.CtrlXferItem(0, {}).words),
        Message(Label.SIGMA0, (int(fpage(8)), 5)),
        Message(Label.SIGMA0, (int(l4.IoFpage(0x60, 1)), 0)),
        Message(Label.PAGE_FAULT | l4.Readable),
        Message(Label.PAGE_FAULT | l4.Writable, (256 * PAGE, 0)),
        Message(Label.IO_FAULT | l4.ReadWriteOnly, (0x60, 0)),
        Message(Label.SIGMA0_EXTENDED, (1, 9)),
        Message(Label.SIGMA0_EXTENDED, (7, 7)),
    ],
)
def test_refused_with_an_answer(message: Message) -> None:
    """Malformed requests, ports, other attributes, what only servers may: a map item of the nil fpage answers."""

    def client(env: Environment) -> Message:
        return call(env, message)

    with servers() as system:
        answer = ask(system, client)

        assert isinstance(answer, Message)
        assert (item(answer), answer.items) == (NIL, (FpageItem(()),))


@conforms("sigma0: malformed and unknown requests")
def test_unknown_labels_are_answered() -> None:
    """A message of no protocol at all is answered, too, as one of an unknown operation."""

    def client(env: Environment) -> bool:
        answer = call(env, Message(Label.INTERRUPT, (1,)))
        (text,) = answer.items
        assert isinstance(text, bytes)
        return b"NoSuchOperation" in text

    with servers() as system:
        assert ask(system, client) is True


def test_nobody_waits_nobody_is_answered() -> None:
    """A request that is sent, and not called, is answered by nothing; the server goes on."""

    def client(env: Environment) -> bool:
        env.thread.send(env.lookup("memory"), Message(Label.SIGMA0, (int(fpage(8)), 0)), timeout=1)
        with pytest.raises(IpcError):
            env.thread.receive(env.lookup("memory"), timeout=0.1)
        return item(rpc(env, fpage(8))) != NIL

    with servers() as system:
        assert ask(system, client) is True


def test_capabilities_are_not_taken() -> None:
    """A request that brings capabilities is refused at its sender; the server's table stays as it was."""

    def client(env: Environment) -> int:
        extent = Memory.connect(env).allocate(1)
        for kind in (MapItem, GrantItem):
            with pytest.raises(IpcError):
                call(env, Message(Label.SIGMA0, (int(fpage(8)), 0), (kind(extent.handle),)))
        return len(vm.map(env, extent))

    with servers() as system:
        (memory,) = [e for e in system.kernel.environments if e.name == "memory"]
        before = memory.table.used
        assert ask(system, client) == PAGE
        system.pass_time(1)

        assert memory.table.used - before <= 1  # the pool of the caller, which goes with the next


@conforms("sigma0: extended")
def test_the_log(capfd: pytest.CaptureFixture[str]) -> None:
    """A server sets the verbosity, and has what was handed out written to the log; it is answered if it waits."""

    def client(env: Environment) -> None:
        rpc(env, fpage(8))
        rpc(env, fpage(8), 4)
        env.thread.sleep(30)

    def set_level(env: Environment) -> Message:
        return call(env, Message(Label.SIGMA0_EXTENDED, (1, 2)))

    def dump(env: Environment) -> Message:
        env.thread.send(env.lookup("memory"), Message(Label.SIGMA0_EXTENDED, (2, 0)))
        return call(env, Message(Label.SIGMA0_EXTENDED, (2, 1)))

    with servers() as system:
        assert operate(system, set_level) == Message()
        task = system.spawn(client, "client")
        system.pass_time(0.1)
        assert operate(system, dump) == Message()

        log = [line for line in capfd.readouterr().err.splitlines() if line.startswith("sigma0: ")]
        assert log[0] == "sigma0: <Fpage 0x8000+0x1000 rwx> mapped to 160.1 (client)"
        assert log[1].startswith("sigma0: 160.1, label 0xffffffffffa0, refused: attribute 0x4")
        assert (
            log[2:]
            == ["sigma0: 254 of 256 frames free, 1 extents handed out", "sigma0: 0x8000+0x1000 client"] * 2
        )
        task.kill()
