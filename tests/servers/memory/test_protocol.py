"""The messages of sigma0 and of the older protocol, word by word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.abi.ids import ANY_FRAME
from kernel.abi.limits import FRAME_SIZE as PAGE
from kernel.abi.messages import Label
from libexo import l4
from libexo.ipc.message import FpageItem
from libexo.l4.exo import MEM_ALLOC, MEM_FREE
from servers.memory.lent import Piece
from servers.memory.policy import MemoryRefused
from servers.memory.protocol import (
    Malformed,
    covering,
    extended_request,
    fault_request,
    is_fault,
    mapped,
    older_request,
    page_request,
    refused,
)

conforms = pytest.mark.conforms
FRAMES = 256
ALL_ONES = (1 << 64) - 1


def page(address: int, size: int = PAGE) -> int:
    return int(l4.Fpage(address, size))


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ((page(0x5000), 0), (5, 1)),
        ((page(0x5000), 1), (5, 1)),  # write-back
        ((page(0x5000), 0, 7), (5, 1)),  # a third word nobody announced
        ((page(0x5000) | 8, 0, 0), (5, 1)),
        ((page(0x7000, 0x4000), 0), (4, 4)),
        ((page(0, FRAMES * PAGE), 0), (0, FRAMES)),
        ((int(l4.FpageLog2(ALL_ONES, 14)), 0), (ANY_FRAME, 4)),
        ((ALL_ONES >> 10 << 10 | 12 << 4 | 7, 0), (ANY_FRAME, 1)),  # the bits below the size set, too
    ],
)
def test_what_a_request_asks_for(words: tuple[int, ...], wanted: tuple[int, int]) -> None:
    """MR1 is the fpage, MR2 the attribute, MR3 the upper bits if bit 3 says so; a base of all ones is any page."""
    assert page_request(words, (), FRAMES) == wanted


@conforms("sigma0: refusal")
@conforms("sigma0: attributes")
@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((int(l4.Nilpage), 0), "smallest page"),
        ((page(0x5000, 2048), 0), "smallest page"),
        ((3 << 4, 0), "smallest page"),  # a size that is none
        ((int(l4.IoFpage(0x60, 4)), 0), "no ports"),
        ((page(0x5000), 2), "attribute"),
        ((page(0x5000), ALL_ONES), "attribute"),
        ((page(FRAMES * PAGE), 0), "outside RAM"),
        ((page(0, 2 * FRAMES * PAGE), 0), "outside RAM"),
        ((page(0x5000) | 8, 0, 1), "outside RAM"),
        ((page(0x5000) | 8, 0), "outside RAM"),
    ],
)
def test_what_is_refused(words: tuple[int, ...], why: str) -> None:
    """Too small, no RAM, ports, attributes of other machines: each is refused with its reason."""
    with pytest.raises(MemoryRefused, match=why):
        page_request(words, (), FRAMES)


@pytest.mark.parametrize(
    ("words", "typed"), [((), ()), ((page(0),), ()), ((page(0), 0, 0, 0), ()), ((page(0), 0), (8, 0))]
)
def test_malformed_requests(words: tuple[int, ...], typed: tuple[int, ...]) -> None:
    """A request has two or three untyped words and no typed ones; a page fault has two."""
    with pytest.raises(Malformed):
        page_request(words, typed, FRAMES)
    with pytest.raises(Malformed):
        fault_request(words, typed, FRAMES)


@conforms("sigma0: page fault")
def test_the_page_of_a_fault() -> None:
    """A fault asks for the page its address is in; one outside RAM for none."""
    assert fault_request((0x5FFF, ALL_ONES), (), FRAMES) == (5, 1)
    with pytest.raises(MemoryRefused, match="outside RAM"):
        fault_request((FRAMES * PAGE, 0), (), FRAMES)


@given(st.lists(st.integers(0, ALL_ONES), max_size=4), st.integers(0, 1))
def test_any_words_are_answered(words: list[int], typed: int) -> None:
    """Whatever a request says, it asks for frames that are there, for any, or is refused."""
    for read in (page_request, fault_request):
        try:
            wanted = read(words, (0,) * typed, FRAMES)
        except MemoryRefused:
            continue
        assert wanted.length >= 1
        assert wanted.first == ANY_FRAME or 0 <= wanted.first <= FRAMES - wanted.length


@pytest.mark.parametrize("access", range(8))
def test_the_labels_of_faults(access: int) -> None:
    """The low bits of a fault's label are the access; the other protocols' labels are none of it."""
    assert is_fault(Label.PAGE_FAULT | access, Label.PAGE_FAULT)
    assert is_fault(Label.IO_FAULT | access, Label.IO_FAULT)
    assert not is_fault(Label.SIGMA0 | access, Label.PAGE_FAULT)
    assert not is_fault(Label.PAGE_FAULT | access, Label.IO_FAULT)


def test_extended_requests() -> None:
    """Verbosity and a level, or a dump and whether it is to be answered; nothing else."""
    assert extended_request((1, 9), ()) == (1, 9)
    assert extended_request((2, 0), ()) == (2, 0)
    for words, typed in (((3, 0), ()), ((1,), ()), ((1, 2, 3), ()), ((1, 2), (8, 0))):
        with pytest.raises(Malformed):
            extended_request(words, typed)


def test_older_requests() -> None:
    """Operation, size and address are the three words of an older request; sizes count in whole pages."""
    assert older_request((MEM_ALLOC, 1, 0), ()) == (MEM_ALLOC, 1, 0)
    assert older_request((MEM_FREE, PAGE + 1, 0x5000), ()) == (MEM_FREE, 2, 0x5000)
    for words in ((), (0, MEM_ALLOC, PAGE, 0), (2, PAGE, 0)):
        with pytest.raises(Malformed):
            older_request(words, ())


@pytest.mark.parametrize(
    ("pieces", "address", "size"),
    [
        ([Piece(5, 1, 9)], 0x5000, 0x1000),
        ([Piece(4, 3, 9)], 0x4000, 0x4000),
        ([Piece(3, 2, 9)], 0, 0x8000),
        ([Piece(4, 1, 9), Piece(6, 2, 8)], 0x4000, 0x4000),
    ],
)
def test_the_fpage_that_covers(pieces: list[Piece], address: int, size: int) -> None:
    """The answer's fpage is the smallest there is that covers what is mapped, with all rights."""
    assert covering(pieces) == l4.Fpage(address, size) + l4.FullyAccessible


def test_the_answer() -> None:
    """Its typed words are a map item, the address its send base, with the fpage; with it come the extents."""
    answer = mapped([Piece(4, 1, 9), Piece(6, 2, 8)], 23)

    assert (answer.words, answer.label) == ((), 0)
    assert l4.MapItem.of(answer.typed) == l4.MapItem(l4.Fpage(0x4000, 0x4000) + 7, 0x4000)
    assert answer.items == (FpageItem(((0, PAGE, 9, 23), (2 * PAGE, 2 * PAGE, 8, 23))),)


@conforms("sigma0: refusal")
def test_the_answer_that_refuses() -> None:
    """A refusal has the same form: a map item of the nil fpage."""
    assert l4.MapItem.of(refused().typed) == l4.MapItem(l4.Nilpage, 0)
    assert refused().items == (FpageItem(()),)
