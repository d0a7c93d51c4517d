"""Memory through messages: whole programs whose pages, strings and grants come by the X.2 system call Ipc."""

from collections.abc import Callable

from libexo import l4
from libexo.environment import Environment
from libexo.l4.space.space import space_of
from libexo.testing import simulated
from tests.libexo.l4.spaces import BASE, PAGE, fpage

Faults = list[tuple[int, int]]
LABEL = 0x40


def carve(env: Environment, address: int, text: bytes = b"") -> None:
    """Map a new extent at *address*, which begins with *text*; the environment holds the RAM first of all."""
    handle = env.sys.carve(env.sys.inventory()[0], 1).extent
    space_of(env).map(address, handle, PAGE, 31)
    space_of(env).store(address, text)


def pager(faults: Faults) -> Callable[[Environment], None]:
    """Answer every fault with a page of one's own at the same address, and note them in *faults*."""

    def serve(env: Environment) -> None:
        client, tag = l4.Wait()
        while True:
            address, access = l4.StoreMR(1), l4.Label(tag) & 7
            faults.append((address, access))
            page = address // PAGE * PAGE
            if not any(region.base == page for region in space_of(env)):
                carve(env, page, b"page")
            send(l4.MapItem(fpage(page, rights=access), page))
            client, tag = l4.ReplyWait(client)

    return serve


def send(item: "l4.MapItem | l4.GrantItem") -> None:
    """Load a message of one item."""
    msg = l4.Msg()
    l4.Set_MsgLabel(msg, LABEL)
    if isinstance(item, l4.GrantItem):
        l4.MsgAppendGrantItem(msg, item)
    else:
        l4.MsgAppendMapItem(msg, item)
    l4.MsgLoad(msg)


def paged(env: Environment) -> None:
    """Have the faults of this program's thread go to the pager."""
    l4.Set_Pager(env.lookup("pager", 1))


def test_a_page_fault_and_its_answer() -> None:
    """A read faults, the pager maps read-only; a write faults again, and the pager maps with that right, too."""
    faults: Faults = []

    def client(env: Environment) -> tuple[bytes, bytes, int]:
        paged(env)
        l4.LoadMR(1, 7)
        space = space_of(env)
        read = space.load(BASE + 1, 3)
        space.store(BASE, b"P")
        return read, space.load(BASE, 4), l4.StoreMR(1)

    with simulated() as system:
        system.spawn(pager(faults), "pager", holds=("ram",))
        task = system.spawn(client, "client")
        system.run(task)

        assert task.result == (b"age", b"Page", 7)
        assert faults == [(BASE + 1, l4.Readable), (BASE, l4.Writable)]


def test_faults_in_a_string() -> None:
    """Sender and receiver of a string fault on their own sides, and the message is none the wiser."""
    faults: Faults = []

    def sender(env: Environment) -> bool:
        paged(env)
        msg = l4.Msg()
        l4.MsgAppendWord(msg, 42)
        l4.MsgAppendStringItem(msg, l4.StringItem(4, BASE))
        l4.MsgLoad(msg)
        return l4.IpcSucceeded(l4.Send(env.lookup("receiver", 1)))

    def receiver(env: Environment) -> tuple[int, bytes]:
        paged(env)
        buffer = l4.MsgBuffer()
        l4.MsgBufferAppendSimpleRcvString(buffer, l4.StringItem(PAGE, BASE + PAGE - 2))
        l4.AcceptStrings(l4.StringItemsAcceptor, buffer)
        l4.Wait()
        return l4.StoreMR(1), space_of(env).load(BASE + PAGE - 2, 4)

    with simulated() as system:
        system.spawn(pager(faults), "pager", holds=("ram",))
        tasks = [system.spawn(receiver, "receiver"), system.spawn(sender, "sender")]
        system.run(*tasks)

        assert [task.result for task in tasks] == [(42, b"page"), True]
        assert sorted(address for address, _ in faults) == [BASE, BASE + PAGE - 2, BASE + PAGE]


def test_a_grant_by_message() -> None:
    """A page granted by message is the receiver's; the sender has it no more, once the message was taken."""

    def giver(env: Environment) -> list[int]:
        carve(env, BASE, b"gift")
        send(l4.GrantItem(fpage(BASE), BASE))
        taker = env.lookup("taker", 1)
        l4.Send(taker)
        left = [region.base for region in space_of(env)]
        l4.Receive(taker)  # what was carved from one's RAM goes with oneself
        return left

    def taker(env: Environment) -> bytes:
        l4.Accept(l4.MapGrantItems(l4.CompleteAddressSpace))
        giver, tag = l4.Wait()
        assert l4.IpcSucceeded(tag)
        found = space_of(env).load(BASE, 4)
        l4.LoadMR(0, l4.Niltag)
        l4.Send(giver)
        return found

    with simulated() as system:
        tasks = [system.spawn(taker, "taker"), system.spawn(giver, "giver", holds=("ram",))]
        system.run(*tasks)

        assert [task.result for task in tasks] == [b"gift", []]


def test_a_cut_message_tells_both() -> None:
    """A map item into a nil window is error 4 on both sides, and maps nothing."""

    def giver(env: Environment) -> int:
        carve(env, BASE)
        send(l4.MapItem(fpage(BASE), BASE))
        assert l4.IpcFailed(l4.Send(env.lookup("taker", 1)))
        return l4.ErrorCode()

    def taker(env: Environment) -> tuple[bool, int, int]:
        l4.Accept(l4.UntypedWordsAcceptor)
        _, tag = l4.Wait()
        return l4.IpcFailed(tag), l4.ErrorCode(), len(list(space_of(env)))

    with simulated() as system:
        tasks = [system.spawn(taker, "taker"), system.spawn(giver, "giver", holds=("ram",))]
        system.run(*tasks)

        assert [task.result for task in tasks] == [(True, 4 << 1 | 1, 0), 4 << 1]
