"""The first thread of a fresh space: its page faults, its pager's memory, its areas, like any thread's."""

from collections.abc import Callable
from typing import Any

import pytest

from kernel.abi.messages import Label
from libexo import l4
from tests.libexo.l4.meetings import ALL, BASE, PAGE, accept, carve, fpage, load_message, own, shown
from tests.libexo.l4.stage import SEEDS, Cast, Part, Said, play, put, said, stage
from tests.libexo.l4.test_start import FRESH, KIP_AREA, UTCB_AREA, make_space

conforms = pytest.mark.conforms
KIP, UTCB, END = l4.Address(KIP_AREA), l4.Address(UTCB_AREA), l4.Size(UTCB_AREA)


def load(address: int) -> None:
    """Begin in a fresh space: send the pager the word at *address*, which it has to be asked for."""
    word = int.from_bytes(own().load(address, 8), "little")
    put(word, l4.MyLocalId())
    l4.Send(l4.Pager())
    l4.Receive(l4.Pager())


def receive(_: int) -> None:
    """Begin in a fresh space: take mappings, and tell the pager what is mapped then."""
    accept(ALL)
    while True:
        l4.Receive(l4.Pager())
        where = shown()
        put(len(where), *(base for base, _ in where))
        l4.Send(l4.Pager())


def reserve(_: int) -> None:
    """Begin in a fresh space: say which of three addresses the program itself may map something at."""
    put(*(refused(address) for address in (UTCB, KIP, BASE)))
    l4.Send(l4.Pager())


def refused(address: int) -> bool:
    try:
        own().map(address, 1 << 16 | 1, PAGE, l4.FullyAccessible)
    except ValueError:
        return True
    return False


def alone(part: Part, seed: int = 0) -> Any:  # noqa: ANN401 - whatever the part returned
    """Play one part, which may make spaces and carve."""
    with stage(seed=seed) as cast:
        cast.add("boss", part, holds=("factory", "ram"))
        cast.system.run()
        return cast.result("boss")


def begin(function: Callable[[int], object], sp: int = 0) -> None:
    put(l4.entry(function), sp)
    assert not l4.Send(FRESH).E


def end() -> None:
    assert l4.ThreadControl(FRESH, l4.nilthread, l4.nilthread, l4.nilthread)


@conforms("Page fault: to whom")
@pytest.mark.parametrize("seed", SEEDS)
def test_a_page_fault_of_the_first_thread(seed: int) -> None:
    """A read of unmapped memory asks its pager by X.2's message, and goes on with the answer."""

    def boss(_: Cast) -> object:
        carve(BASE, fill=(77).to_bytes(8, "little"))
        make_space(FRESH)
        begin(load, BASE)
        sender, tag = l4.Wait()
        fault = sender, said(tag)
        load_message(l4.MapItem(fpage(BASE, rights=l4.Readable), BASE))
        assert not l4.Reply(FRESH).E
        answer = said(l4.Receive(FRESH))
        end()
        return fault, answer

    fault, answer = alone(boss, seed)

    assert fault == (FRESH, Said((BASE, l4.entry(load)), Label.PAGE_FAULT | l4.Readable))
    assert answer == Said((77, UTCB))


@conforms("Items: reserved areas")
def test_its_own_areas_are_never_mapped_over() -> None:
    """Of an fpage that reaches over the UTCB or KIP area chosen for it, a space takes what lies beside them."""

    def boss(_: Cast) -> object:
        make_space(FRESH)
        begin(receive)
        seen = []
        for area in (KIP, UTCB, UTCB + END - PAGE):
            carve(BASE, 1)
            load_message(l4.MapItem(fpage(BASE), area))
            assert not l4.Send(FRESH).E
            seen.append(said(l4.Receive(FRESH)))
        carve(BASE, 1)
        carve(BASE + PAGE, 1)
        load_message(l4.MapItem(fpage(BASE, 2), UTCB + END), l4.MapItem(fpage(BASE, 2), UTCB - 2 * PAGE))
        assert not l4.Send(FRESH).E
        seen.append(said(l4.Receive(FRESH)))
        end()
        return seen

    *over, beside = alone(boss)

    assert over == [Said((0,))] * 3
    assert set(beside.words) >= {UTCB + END, UTCB + END + PAGE}


@conforms("Items: reserved areas")
def test_its_own_areas_are_reserved() -> None:
    """Nor does its own program map anything there."""

    def boss(_: Cast) -> object:
        make_space(FRESH)
        begin(reserve)
        seen = said(l4.Receive(FRESH))
        end()
        return seen

    assert play(boss=boss)["boss"] == Said((1, 1, 0))
