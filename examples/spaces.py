"""Spaces: an L4 X.2 root task makes two address spaces, starts a thread in each, and is the pager of both.

    exo kickstart -d -roottask=examples/spaces.py
    exo logs spaces
    exo down

A space is made in three calls, and its thread then waits for the pager's start message, which gives it an
instruction pointer (an *entry*) and a word (its stack pointer). Both threads use one address, unmapped at first:
their page faults come here as messages, and the answers map one page of ours, to the one for writing, to the other
for reading only. Each space imports this file, so the root task's own part is at its end.
"""

import libexo
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from libexo import l4
from libexo.l4.space.space import space_of

HERE, THERE = 0x10_0000, 0x40_0000
"""Addresses of the page in the root task, and in its spaces."""
WRITER, READER = l4.GlobalId(3000, 1), l4.GlobalId(3001, 1)
KIP_AREA, UTCB_AREA = l4.Fpage(0x8000_0000, 1 << 24), l4.Fpage(0x9000_0000, 1 << 12)
NAMES: dict[int, str] = {WRITER: "writer", READER: "reader"}


@l4.entry
def write(sp: int) -> None:
    """Write at *sp*, and tell the pager."""
    space_of(libexo.attach()).store(sp, b"written in one space")
    l4.LoadMR(0, l4.MsgTag.of(label=1))
    l4.Call(l4.Pager())


@l4.entry
def read(sp: int) -> None:
    """Read at *sp*, and send the pager the content: three words of it."""
    text = space_of(libexo.attach()).load(sp, 24)
    words = [int.from_bytes(text[at : at + 8], "little") for at in range(0, 24, 8)]
    l4.LoadMRs(0, (l4.MsgTag.of(label=2, u=3), *words))
    l4.Call(l4.Pager())


def make(thread: int, begin: int) -> None:
    """Make a space with *thread*, and start it."""
    me = l4.Myself()
    assert l4.ThreadControl(thread, thread, me, l4.nilthread)
    assert l4.SpaceControl(thread, 0, KIP_AREA, UTCB_AREA, l4.nilthread)[1]
    assert l4.ThreadControl(thread, thread, l4.nilthread, me, l4.Address(UTCB_AREA))
    l4.LoadMRs(0, (l4.MsgTag.of(u=2), begin, THERE))
    assert l4.IpcSucceeded(l4.Send(thread))


def page(thread: int, rights: int) -> tuple[int, ...]:
    """Answer the page faults of *thread* with our page, until another message comes; return that."""
    while True:
        tag = l4.Receive(thread)
        if tag.label & ~l4.FullyAccessible != Label.PAGE_FAULT:
            return l4.StoreMRs(1, tag.u)
        print(f"{NAMES[thread]}: page fault at {l4.StoreMR(1):#x}")
        answer = l4.Msg()
        l4.MsgPut(answer, 0, (), (l4.MapItem(l4.Fpage(HERE, FRAME_SIZE) + rights, THERE),))
        l4.MsgLoad(answer)
        l4.Reply(thread)


def main() -> None:
    """Get a page of sigma0, make the spaces one after the other, and watch them."""
    l4.Sigma0_GetAny(l4.nilthread, 12, l4.Fpage(HERE, FRAME_SIZE))
    make(WRITER, write)
    page(WRITER, l4.ReadWriteOnly)
    print("writer: has written")
    make(READER, read)
    words = page(READER, l4.Readable)
    print("reader:", b"".join(word.to_bytes(8, "little") for word in words).rstrip(b"\0").decode())
    for thread in NAMES:
        assert l4.ThreadControl(thread, l4.nilthread, l4.nilthread, l4.nilthread)
    print("both spaces are gone")


if __name__ == "__main__":
    main()
