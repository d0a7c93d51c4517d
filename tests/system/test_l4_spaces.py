"""ThreadControl, SpaceControl and what spaces do, by a root task on a real system, where each is a process."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.booted import wait_until
from tests.system.command import Command, place

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]
conforms = pytest.mark.conforms
ROOT = Path(__file__).parents[2]
BESIDE = """
import os
import libexo
from kernel.abi.limits import FRAME_SIZE as PAGE
from libexo import l4
from libexo.l4.space.space import space_of

FIRST, SECOND, THIRD = (l4.GlobalId(3000 + n, 1) for n in range(3))
KIP, UTCB, MORE = l4.Fpage(0x8000_0000, 1 << 24), l4.Fpage(0x9000_0000, 1 << 13), 1024
HERE, THERE, ALL = 0x10_0000, 0x40_0000, l4.CompleteAddressSpace
NIL = l4.nilthread

def put(*words, label=0):
    l4.LoadMRs(0, (l4.MsgTag.of(label=label, u=len(words)), *words))

def said(tag):
    return f"error {l4.ErrorCode():#x}" if tag.E else list(l4.StoreMRs(1, tag.u))

def make(thread, utcb=UTCB):
    me = l4.Myself()
    return (
        l4.ThreadControl(thread, thread, me, NIL),
        l4.SpaceControl(thread, 0, KIP, utcb, NIL),
        l4.ThreadControl(thread, thread, NIL, me, l4.Address(utcb)),
    )

def start(thread, function, sp=0):
    put(function, sp)
    return said(l4.Send(thread))

def delete(*threads):
    return [l4.ThreadControl(thread, NIL, NIL, NIL) for thread in threads]

@l4.entry
def report(sp):
    put(sp, l4.MyGlobalId(), l4.MyLocalId(), libexo.attach().number, os.getpid())
    l4.Send(l4.Pager())
    while True:
        sender, tag = l4.Wait()
        put(*(word + 1 for word in l4.StoreMRs(1, tag.u)))
        l4.Reply(sender)

@l4.entry
def call(other):
    put(41)
    put(*said(l4.Call(other)))
    l4.Send(l4.Pager())
    l4.Wait()

@l4.entry
def stranger(other):
    put(1)
    tag = l4.Call(other)
    put(l4.ErrorCode() if tag.E else 0)
    l4.Send(l4.Pager())
    l4.Wait()

@l4.entry
def areas(sp):
    l4.Accept(l4.MapGrantItems(ALL))
    while True:
        l4.Receive(l4.Pager())
        put(*(region.base for region in space_of(libexo.attach())))
        l4.Send(l4.Pager())

@l4.entry
def raises(sp):
    l4.Set_ExceptionHandler(l4.Pager())
    1 / 0

@l4.entry
def threads(sp):
    tries = [l4.ThreadControl(SECOND, l4.Myself(), l4.Myself(), NIL), l4.ErrorCode()]
    tries += [*l4.SpaceControl(l4.Myself(), 0, KIP, UTCB, NIL), l4.ErrorCode()]
    put(*tries)
    l4.Send(l4.Pager())
    l4.Wait()
"""


class Root(Command):
    """A root task, which is a file, booted and read."""

    def prints(self, program: str) -> list[str]:
        """Boot it with *program* as its `main`; return the lines it printed, once it has ended."""
        (self.folder / "beside.py").write_text(BESIDE)
        text = f"from beside import *\n{program}\nprint('over')\n"
        (self.folder / "task.py").write_text(text)
        self.exo("kickstart", "-d", "-roottask=task.py")
        log = self.run / "log" / "task.log"
        try:
            over = wait_until(
                lambda: log.exists() and ("over\n" in (said := log.read_text()) or "Error" in said)
            )
            lines = log.read_text().splitlines()
        finally:
            self.exo("down")
        assert over, lines
        assert lines[-1:] == ["over"], "\n".join(lines)
        return lines[:-1]


@pytest.fixture
def root() -> Iterator[Root]:
    with place(Root) as made:
        yield made


@conforms("ThreadControl: create and activate")
@conforms("SpaceControl: areas")
def test_a_space_from_three_calls(root: Root) -> None:
    """ThreadControl, SpaceControl, ThreadControl and a start message make a process with the areas it was given."""
    lines = root.prints(
        """
print(*make(FIRST))
print(start(FIRST, report, 7))
sp, me, local, number, pid = said(l4.Receive(FIRST))
print(sp, me == FIRST, local == l4.Address(UTCB), number != libexo.attach().number, pid != os.getpid())
put(1, 2)
print(said(l4.Call(FIRST)))
print(l4.SpaceControl(FIRST, 0, 0, 0, NIL), "ignored while a thread is active")
print(delete(FIRST, FIRST))
put(1)
print(said(l4.Send(FIRST)))
"""
    )

    assert lines == [
        "1 (0, 1) 1",
        "[]",
        "7 True True True True",
        "[2, 3]",
        "(0, 1) ignored while a thread is active",
        "[1, 1]",
        "error 0x4",
    ]


@conforms("ThreadControl: create and activate")
def test_spaces_call_one_another(root: Root) -> None:
    """Two spaces of one root task call each other; the second thread of one is called like its first."""
    lines = root.prints(
        """
print(*make(FIRST), *make(SECOND))
start(FIRST, report)
l4.Receive(FIRST)
start(SECOND, call, FIRST)
print(said(l4.Receive(SECOND)))
print(l4.ThreadControl(THIRD, FIRST, l4.Myself(), l4.Myself(), l4.Address(UTCB) + MORE))
start(THIRD, report, 3)
sp, me, local, *_ = said(l4.Receive(THIRD))
print(sp, me == THIRD, local - l4.Address(UTCB))
put(5)
print(said(l4.Call(THIRD)), delete(THIRD, FIRST, SECOND))
"""
    )

    assert lines == ["1 (0, 1) 1 1 (0, 1) 1", "[42]", "1", "3 True 1024", "[6] [1, 1, 1]"]


@conforms("ThreadControl: errors")
@conforms("SpaceControl: errors")
def test_what_is_refused(root: Root) -> None:
    """Errors 2 to 7, from the real kernel, and 1 to a space, which has no privilege."""
    lines = root.prints(
        """
me, U = l4.Myself(), (1 << 64) - 1
def no(result):
    return (result, l4.ErrorCode())
print(no(l4.ThreadControl(l4.GlobalId(70, 1), me, me, NIL)))
print(no(l4.ThreadControl(FIRST, THIRD, me, NIL)))
print(no(l4.ThreadControl(FIRST, FIRST, NIL, NIL)))
l4.ThreadControl(FIRST, FIRST, me, NIL)
print(no(l4.ThreadControl(FIRST, FIRST, NIL, me)))
print(no(l4.SpaceControl(FIRST, 0, KIP, l4.Fpage(0x9000_0000, 1 << 10), NIL)))
print(no(l4.SpaceControl(FIRST, 0, KIP, l4.Fpage(0x8000_0000, 1 << 12), NIL)))
print(no(l4.SpaceControl(FIRST, 1, KIP, UTCB, NIL)))
print(no(l4.SpaceControl(SECOND, 0, KIP, UTCB, NIL)))
print(l4.SpaceControl(FIRST, 0, KIP, UTCB, NIL))
print(no(l4.ThreadControl(FIRST, FIRST, NIL, me, 0x9000_0001)))
print(l4.ThreadControl(FIRST, FIRST, NIL, me, l4.Address(UTCB)), start(FIRST, threads) is not None)
print(said(l4.Receive(FIRST)), delete(FIRST))
"""
    )

    assert lines == [
        "(0, 2)",
        "(0, 3)",
        "(0, 4)",
        "(0, 3)",
        "((0, 0), 6)",
        "((0, 0), 7)",
        "((0, 0), 5)",
        "((0, 0), 3)",
        "(0, 1)",
        "(0, 6)",
        "1 True",
        "[0, 1, 0, 0, 1] [1]",
    ]


@conforms("Items: reserved areas")
def test_its_areas_are_never_mapped_over(root: Root) -> None:
    """Memory sent to a space's UTCB or KIP area stays with its sender; beside them it is mapped."""
    lines = root.prints(
        """
make(FIRST)
start(FIRST, areas)
for at in (l4.Address(UTCB), l4.Address(KIP), THERE):
    l4.Sigma0_GetAny(NIL, 12, l4.Fpage(HERE, PAGE))
    message = l4.Msg()
    l4.MsgPut(message, 0, (), (l4.MapItem(l4.Fpage(HERE, PAGE) + 6, at),))
    l4.MsgLoad(message)
    l4.Send(FIRST)
    print(said(l4.Receive(FIRST)))
print(delete(FIRST))
"""
    )

    assert lines == ["[]", "[]", "[4194304]", "[1]"]


@conforms("SpaceControl: redirector")
def test_a_redirected_space(root: Root) -> None:
    """A redirected space's message to a third comes to its redirector, which learns the intended receiver."""
    lines = root.prints(
        """
make(FIRST), make(SECOND)
print(l4.SpaceControl(SECOND, 0, KIP, UTCB, l4.Myself()))
start(FIRST, report)
l4.Receive(FIRST)
start(SECOND, call, FIRST)
tag = l4.Receive(SECOND)
print(said(tag), tag.r, l4.IntendedReceiver() == FIRST)
put(9)
l4.Reply(SECOND)
print(said(l4.Receive(SECOND)), delete(FIRST, SECOND))
"""
    )

    assert lines == ["(0, 1)", "[41] True True", "[9] [1, 1]"]


@conforms("ThreadControl: delete")
def test_deleting_and_making_again(root: Root) -> None:
    """A deleted first thread takes its process along, raises no exception, and its id can be made again at once."""
    lines = root.prints(
        """
for turn in range(3):
    make(FIRST)
    start(FIRST, report, turn)
    said(l4.Receive(FIRST))
    print(turn, delete(FIRST), said(l4.Wait_Timeout(l4.TimePeriod(20_000))[1]))
"""
    )

    assert lines == [f"{turn} [1] error 0x3" for turn in range(3)]


@conforms("IPC: error 2")
def test_answering_one_that_was_deleted(root: Root) -> None:
    """A thread deleted while it waits for an answer is not there: error 2 of the send phase."""
    lines = root.prints(
        """
make(FIRST)
start(FIRST, call, l4.Myself())
print(said(l4.Receive(FIRST)), delete(FIRST))
put(1)
print(said(l4.Reply(FIRST)))
"""
    )

    assert lines == ["[41] [1]", "error 0x4"]


@conforms("ThreadControl: rename")
def test_a_renamed_thread(root: Root) -> None:
    """A thread with a new version is known by that alone, to itself as well."""
    lines = root.prints(
        """
new = l4.GlobalId(3000, 3)
make(FIRST)
start(FIRST, report)
said(l4.Receive(FIRST))
print(l4.ThreadControl(new, FIRST, NIL, NIL))
put(1)
print(said(l4.Send(FIRST)))
put(1)
print(said(l4.Call(new)), delete(new))
"""
    )

    assert lines == ["1", "error 0x4", "[2] [1]"]


@conforms("Exception: message")
def test_an_exception_in_a_fresh_space(root: Root) -> None:
    """The first thread of a space that raises tells its handler, and goes on where the answer says."""
    lines = root.prints(
        """
make(FIRST)
start(FIRST, raises)
tag = l4.Receive(FIRST)
print(hex(tag.label & 0xFFFF), tag.u, l4.StoreMR(4))
put(report, 5, 0, label=tag.label)
l4.Reply(FIRST)
print(said(l4.Receive(FIRST))[0], delete(FIRST))
"""
    )

    assert lines == ["0xffb0 6 8", "5 [1]"]


@conforms("ExchangeRegisters: dest")
def test_exchange_registers_of_another_space(root: Root) -> None:
    """Registers are exchanged within a space: a thread of another one is error 2."""
    lines = root.prints(
        """
make(FIRST)
print(l4.ExchangeRegisters(FIRST, 0x200)[0], l4.ErrorCode(), delete(FIRST))
"""
    )

    assert lines[0].split(" ", 1)[1] == "2 [1]"
