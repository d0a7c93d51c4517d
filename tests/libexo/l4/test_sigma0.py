"""Asking sigma0 for memory, and page faults that it, or a pager that has its memory from it, resolves."""

from collections.abc import Callable

import pytest

from kernel.abi.ids import USER_BASE, thread_number
from kernel.abi.kip import MEMORY, MEMORY_DESC, MemoryType
from kernel.abi.limits import FRAME_SIZE as PAGE
from kernel.abi.messages import Label
from kernel.x2.page import Range
from libexo import l4
from libexo.environment import Environment
from libexo.l4.sigma0 import sigma0
from libexo.l4.space.space import space_of
from tests.libexo import moves
from tests.servers.memory.stage import keep
from tests.servers.rig import ask, kill, servers

conforms = pytest.mark.conforms
EVERYWHERE = l4.CompleteAddressSpace


def fpage(frame: int, pages: int = 1) -> l4.Fpage:
    return l4.Fpage(frame * PAGE, pages * PAGE)


def shown(env: Environment) -> list[tuple[int, int]]:
    """Return where something is mapped, in pages: first, how many."""
    return [(region.base // PAGE, region.size // PAGE) for region in space_of(env)]


def test_nilthread_is_sigma0() -> None:
    """The nil argument is the first user thread, by the version it has now; naming it does the same."""

    def client(env: Environment) -> list[bool]:
        s0 = sigma0(env.kip)
        found = [thread_number(s0) == USER_BASE, s0 == env.lookup("memory")]
        return [*found, *(l4.Sigma0_GetPage(who, fpage(8)) == fpage(8) + 7 for who in (l4.nilthread, s0))]

    with servers() as system:
        assert ask(system, client) == [True] * 4


def test_nilthread_after_a_restart() -> None:
    """sigma0 restarted has a new version; nilthread still finds it, the old id leads nowhere."""

    def client(env: Environment) -> list[l4.Fpage]:
        before = sigma0(env.kip)
        ready.append(True)
        env.thread.sleep(3)
        return [l4.Sigma0_GetPage(who, fpage(64)) for who in (before, l4.nilthread)]

    ready: list[bool] = []
    with servers() as system:
        task = system.spawn(client, "client")
        system.run(until=lambda: bool(ready))
        kill(system, "memory")
        system.run(task)

        assert task.result == [l4.Nilpage, fpage(64) + 7]


def test_get_page() -> None:
    """The fpage is mapped to its own address, zeroed and writable, and returned with its rights."""

    def client(env: Environment) -> tuple[l4.Fpage, bytes, list[tuple[int, int]]]:
        got = l4.Sigma0_GetPage(l4.nilthread, fpage(8, 4))
        space_of(env).store(10 * PAGE, b"x")
        return got, space_of(env).load(10 * PAGE, 2), shown(env)

    with servers() as system:
        assert ask(system, client) == (fpage(8, 4) + l4.FullyAccessible, b"x\0", [(8, 4)])


def test_a_receive_window() -> None:
    """A window of the same size is where the page is; in a larger one the send base, its address, says where."""

    def client(env: Environment) -> list[tuple[int, int]]:
        l4.Sigma0_GetPage_RcvWindow(0, fpage(8), fpage(100))
        l4.Sigma0_GetPage_RcvWindow(0, fpage(9), fpage(128, 16))
        return shown(env)

    with servers() as system:
        assert ask(system, client) == [(100, 1), (128 + 9, 1)]


def test_the_upper_bits() -> None:
    """With bit 3 set the address has a third word; RAM has nothing there unless it is zero."""

    def client(_env: Environment) -> list[l4.Fpage]:
        extended = l4.Fpage.of(fpage(8) | 8)
        return [l4.Sigma0_GetPage_RcvWindow_High(0, extended, EVERYWHERE, high) for high in (1, 0)]

    with servers() as system:
        assert ask(system, client) == [l4.Nilpage, fpage(8) + 7]


def test_get_any() -> None:
    """Any page of a size, somewhere in the window, each time another; a size that is none raises ValueError."""

    def client(_env: Environment) -> list[l4.Fpage]:
        with pytest.raises(ValueError, match="log2"):
            l4.Sigma0_GetAny(0, 5, EVERYWHERE)
        return [l4.Sigma0_GetAny(0, log2, EVERYWHERE) for log2 in (12, 12, 13, 40)]

    with servers() as system:
        assert ask(system, client) == [fpage(1) + 7, fpage(2) + 7, fpage(4, 2) + 7, l4.Nilpage]


def test_refused() -> None:
    """Every kind of refusal is Nilpage; nothing is mapped then, and the acceptor is as before."""

    def client(env: Environment) -> tuple[list[l4.Fpage], list[tuple[int, int]], l4.Acceptor]:
        l4.Accept(l4.StringItemsAcceptor)
        asked = [fpage(256), l4.Fpage(0, 1024), l4.Nilpage, EVERYWHERE, l4.IoFpage(0x60, 1), fpage(0, 8)]
        return [l4.Sigma0_GetPage(0, page) for page in asked], shown(env), l4.Accepted()

    with servers() as system:
        assert ask(system, client) == ([l4.Nilpage] * 6, [], l4.StringItemsAcceptor)


def test_a_window_that_is_smaller() -> None:
    """In a window that is smaller than the fpage, the part is shown that its address, the send base, selects."""

    def client(env: Environment) -> tuple[l4.Fpage, list[tuple[int, int]]]:
        return l4.Sigma0_GetPage_RcvWindow(0, fpage(8, 4), fpage(100)), shown(env)

    with servers() as system:
        assert ask(system, client) == (fpage(8, 4) + 7, [(100, 1)])


def test_get_special() -> None:
    """The first range of RAM of a type is mapped page by page, until one is refused; 0 is where it is itself."""

    def client(env: Environment) -> tuple[int, int, int, list[tuple[int, int]]]:
        nowhere = l4.Sigma0_GetSpecial(l4.SharedMemoryType, 0, PAGE)
        there = l4.Sigma0_GetSpecial(l4.DedicatedMemoryType, 0, PAGE)
        elsewhere = l4.Sigma0_GetSpecial(l4.DedicatedMemoryType, 0x1000 * PAGE, PAGE)
        return nowhere, there // PAGE, elsewhere // PAGE, shown(env)

    with servers() as system:
        dedicated = Range(MemoryType.DEDICATED, 64 * PAGE, 4 * PAGE).words()
        MEMORY.pack_into(system.kernel.kip._buffer, MEMORY_DESC + 2 * MEMORY.size, *dedicated)
        system.spawn(keep(1, 66), "other")
        system.pass_time(0.1)

        assert ask(system, client) == (0, 64, 0x1000, [(64, 1), (65, 1), (0x1000, 1), (0x1001, 1)])


def test_no_special_memory() -> None:
    """The kernel's reserved memory is no RAM: its address is known, and nothing is mapped."""

    def client(env: Environment) -> tuple[int, list[tuple[int, int]]]:
        return l4.Sigma0_GetSpecial(l4.ReservedMemoryType, 0, PAGE), shown(env)

    with servers() as system:
        assert ask(system, client) == (256 * PAGE, [])


# ------------------------------------------------------------------------------------------------- page faults


@conforms("sigma0: page fault")
def test_a_page_fault() -> None:
    """A thread that touches RAM with sigma0 as its pager has that very page from then on, and nothing else."""

    def client(env: Environment) -> tuple[bytes, list[tuple[int, int]]]:
        l4.Set_Pager(sigma0(env.kip))
        space_of(env).store(8 * PAGE + 5, b"by fault")
        return space_of(env).load(8 * PAGE + 4, 9), shown(env)

    with servers() as system:
        assert ask(system, client) == (b"\0by fault", [(8, 1)])


def test_a_page_fault_across_pages() -> None:
    """An access that goes over several pages faults once for each."""

    def client(env: Environment) -> tuple[bytes, list[tuple[int, int]]]:
        l4.Set_Pager(sigma0(env.kip))
        space_of(env).store(8 * PAGE - 1, b"." * (PAGE + 2))
        return space_of(env).load(9 * PAGE, 2), shown(env)

    with servers() as system:
        assert ask(system, client) == (b".\0", [(7, 1), (8, 1), (9, 1)])


@conforms("sigma0: page fault")
def test_a_page_fault_in_what_was_flushed() -> None:
    """After a flush the fault brings the same memory again: of a larger extent, all of it."""

    def client(env: Environment) -> tuple[bytes, list[tuple[int, int]]]:
        l4.Set_Pager(sigma0(env.kip))
        l4.Sigma0_GetPage(0, fpage(8, 4))
        space_of(env).store(10 * PAGE, b"there")
        l4.Flush(fpage(8, 4) + l4.FullyAccessible)
        return space_of(env).load(10 * PAGE, 5), shown(env)

    with servers() as system:
        assert ask(system, client) == (b"there", [(8, 4)])


def pager(offset: int, faults: list[tuple[int, int]]) -> Callable[[Environment], object]:
    """Answer page faults with memory from sigma0, *offset* bytes further on, which it faults for itself."""

    def program(env: Environment) -> None:
        l4.Set_Pager(sigma0(env.kip))
        sender, tag = l4.Wait()
        while True:
            address = l4.StoreMR(1)
            faults.append((address, tag.label & 7))
            assert (tag.label & ~7, tag.u, tag.t) == (Label.PAGE_FAULT, 2, 0)
            source = address // PAGE * PAGE + offset
            space_of(env).store(source, b"from the pager")
            rights = l4.ReadWriteOnly
            l4.LoadMRs(0, (l4.MsgTag.of(t=2), *l4.MapItem(l4.Fpage(source, PAGE) + rights, address).words))
            sender, tag = l4.ReplyWait(sender)

    return program


@conforms("Page fault: answer")
@pytest.mark.parametrize("seed", range(3))
def test_a_pager_in_between(seed: int) -> None:
    """A pager maps on what it has from sigma0; its own fault for that is handled while its client waits."""

    def client(env: Environment) -> tuple[bytes, list[tuple[int, int]]]:
        l4.Set_Pager(env.lookup("pager", 1))
        before = l4.StoreMRs(0, 3)
        text = space_of(env).load(0x900 * PAGE, 14)
        space_of(env).store(0x900 * PAGE + 14, b"!")
        assert l4.StoreMRs(0, 3) == before
        return text, shown(env)

    faults: list[tuple[int, int]] = []
    with servers(seed=seed) as system:
        between = system.spawn(pager((64 - 0x900) * PAGE, faults), "pager")
        assert ask(system, client) == (b"from the pager", [(0x900, 1)])

        assert faults == [(0x900 * PAGE, l4.Readable)]
        frames = {e.name: e.frames for e in system.kernel.environments if e.alive}
        assert frames["pager"] == 1  # what it mapped on stays its own
        between.kill()


def test_the_pager_between_ends() -> None:
    """When the pager ends, its clients lose what it mapped to them, and RAM has it all back."""

    def client(env: Environment) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        l4.Set_Pager(env.lookup("pager", 1))
        space_of(env).load(0x900 * PAGE, 1)
        before = shown(env)
        env.thread.sleep(2)
        moves.pump_gate(env)
        return before, shown(env)

    with servers() as system:
        free = system.kernel.frames.free
        between = system.spawn(pager((64 - 0x900) * PAGE, []), "pager")
        task = system.spawn(client, "client")
        system.pass_time(1)
        between.kill()
        system.run(task)

        assert task.result == ([(0x900, 1)], [])
        assert system.kernel.frames.free == free


def test_a_fault_outside_ram() -> None:
    """Addresses outside RAM cannot be had by a fault: it is tried for ever, and others are served meanwhile."""

    def wild(env: Environment) -> None:
        l4.Set_Pager(sigma0(env.kip))
        tried.append(True)
        space_of(env).load(256 * PAGE, 1)
        tried.append(False)

    def other(_env: Environment) -> l4.Fpage:
        return l4.Sigma0_GetPage(0, fpage(8))

    tried: list[bool] = []
    with servers() as system:
        task = system.spawn(wild, "wild")
        system.run(until=lambda: bool(tried))

        assert ask(system, other, "other") == fpage(8) + 7
        assert tried == [True]
        task.kill()
