"""Message objects: put together, taken apart, loaded and stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libexo import l4
from libexo.l4.format.registers import Registers

words = st.integers(0, (1 << 64) - 1)
PAGE = l4.Fpage(0x8000, 4096) + l4.FullyAccessible
MAP = l4.MapItem(PAGE, 0x1000)
GRANT = l4.GrantItem(PAGE, 0x2000)
STRING = l4.StringItem(5, 0x7000)
COMPOUND = l4.AddSubstringTo(l4.AddSubstringAddressTo(STRING, 0x7100), l4.StringItem(9, 0x7200))
REGISTERS = l4.CtrlXferItem(0, {0: 0x400, 5: 0x500})


def message(*untyped: int) -> l4.Msg:
    """A message of label 7 with these untyped words."""
    made = l4.Msg()
    l4.MsgPut(made, 7, untyped)
    return made


def test_a_message_as_a_whole() -> None:
    """MsgPut lays out tag, untyped words, items as the registers have them; MsgGet gives them back."""
    made = l4.Msg()

    l4.MsgPut(made, 0x40, [1, 2], [MAP, COMPOUND])

    assert made.raw[:10] == [0x40_0000 | 7 << 6 | 2, 1, 2, *MAP.words, *COMPOUND.words]
    assert l4.MsgGet(made) == ((1, 2), (MAP, COMPOUND))
    assert repr(message(16)) == "<Msg <MsgTag label=0x7 u=1 t=0> 0x10>"


def test_a_message_that_is_too_long_changes_nothing() -> None:
    """A message has 63 words; MsgPut of more is refused and leaves the object as it was."""
    made = message(1, 2)

    with pytest.raises(ValueError, match="typed words beside 62 untyped ones"):
        l4.MsgPut(made, 8, range(62), [MAP])
    with pytest.raises(ValueError, match="is not in"):
        l4.MsgPut(made, 8, [-1])
    assert (l4.MsgLabel(made), made.untyped) == (7, (1, 2))


def test_tag_and_label() -> None:
    """The tag of a message is its first word; the label is set alone, the tag as a whole."""
    made = message(1, 2)

    l4.Set_MsgLabel(made, 9)
    assert l4.MsgMsgTag(made) == l4.MsgTag.of(label=9, u=2)
    assert l4.MsgLabel(made) == 9

    l4.Set_MsgMsgTag(made, l4.MsgTag.of(label=1, u=1))
    assert made.untyped == (1,)

    l4.MsgClear(made)
    assert l4.MsgMsgTag(made) == l4.Niltag


def test_a_word_after_items_shifts_the_items_up() -> None:
    """MsgAppendWord after items: the word joins the untyped ones, and the items move up by one."""
    made = message(1)
    l4.MsgAppendMapItem(made, MAP)
    l4.MsgAppendGrantItem(made, GRANT)

    l4.MsgAppendWord(made, 2)

    assert made.raw[1:7] == [1, 2, *MAP.words, *GRANT.words]
    assert (made.tag.u, made.tag.t) == (2, 4)


@given(st.lists(st.one_of(words, st.sampled_from([MAP, GRANT, STRING, COMPOUND, REGISTERS])), max_size=12))
def test_appending_in_any_order(several: list[int | l4.Item]) -> None:
    """In whatever order words and items are appended, words are the untyped ones and items the typed ones."""
    made = l4.Msg()
    for one in several:
        match one:
            case int():
                l4.MsgAppendWord(made, one)
            case l4.MapItem():
                l4.MsgAppendMapItem(made, one)
            case l4.GrantItem():
                l4.MsgAppendGrantItem(made, one)
            case l4.StringItem():
                l4.MsgAppendStringItem(made, one)
            case l4.CtrlXferItem():
                l4.MsgAppendCtrlXferItem(made, one)

    untyped, items = l4.MsgGet(made)
    assert list(untyped) == [one for one in several if isinstance(one, int)]
    assert list(items) == [one for one in several if isinstance(one, l4.Item)]


def test_appending_leaves_label_and_flags_alone() -> None:
    """A message marked for propagation stays so, whatever is appended."""
    made = message()
    l4.Set_MsgMsgTag(made, l4.Set_Propagation(made.tag))

    l4.MsgAppendWord(made, 1)
    l4.MsgAppendMapItem(made, MAP)

    assert made.tag == 7 << 16 | 1 << 12 | 2 << 6 | 1


def test_a_simple_string_is_the_first_substring() -> None:
    """MsgAppendSimpleStringItem and its Put take one piece of a compound string: two words, j and c zero."""
    made = l4.Msg()
    l4.MsgAppendSimpleStringItem(made, COMPOUND)
    l4.MsgPutSimpleStringItem(made, 2, COMPOUND)

    assert made.typed == (5 << 10, 0x7000)
    assert made.raw[3:5] == [5 << 10, 0x7000]


def test_an_item_without_registers_is_not_appended() -> None:
    """A control-register item whose mask is empty says nothing, and takes no word of the message."""
    made = message(1)

    l4.MsgAppendCtrlXferItem(made, l4.CtrlXferItemInit(3))

    assert made.tag == l4.MsgTag.of(7, 1, 0)


def test_a_full_message_takes_nothing_more() -> None:
    """The 64th word is refused, untyped or of an item, and the message stays as it was."""
    full, nearly = message(*range(63)), message(*range(62))

    with pytest.raises(ValueError, match="words"):
        l4.MsgAppendWord(full, 63)
    with pytest.raises(ValueError, match="words"):
        l4.MsgAppendMapItem(nearly, MAP)
    assert full.untyped == tuple(range(63))
    assert nearly.untyped == tuple(range(62))
    assert len(full.raw) == len(nearly.raw) == 64


def test_configuration_of_faults() -> None:
    """AppendFaultConfCtrlXferItems: a head for each fault of the mask; C in all but the last, which has its own."""
    made = l4.Msg()

    l4.AppendFaultConfCtrlXferItems(made, 1 << 2 | 1 << 40, 0b101, 0)
    l4.AppendFaultConfCtrlXferItems(made, 1 << 3, 0b1, 1)

    assert made.untyped == (
        0b101 << 12 | 2 << 4 | 0b1101,
        0b101 << 12 | 40 << 4 | 0b1100,
        0b001 << 12 | 3 << 4 | 0b1101,
    )


def test_words_in_place() -> None:
    """Put and Get of a word count from 0: word 0 is MR1; the tag stays."""
    made = message(0, 0)

    l4.MsgPutWord(made, 0, 5)
    l4.MsgPutWord(made, 1, 6)

    assert made.raw[1:3] == [5, 6]
    assert (l4.MsgWord(made, 0), l4.MsgGetWord(made, 1)) == (5, 6)
    assert made.tag == l4.MsgTag.of(7, 2)


@pytest.mark.parametrize("u", [-1, 63])
def test_words_that_do_not_exist(u: int) -> None:
    """There are untyped words 0 to 62; a negative index counts from nowhere."""
    with pytest.raises(ValueError, match="untyped word"):
        l4.MsgPutWord(message(), u, 0)
    with pytest.raises(ValueError, match="untyped word"):
        l4.MsgWord(message(), u)


def test_items_in_place() -> None:
    """Put and Get of items count typed words from 0, behind the untyped ones; Get says how many words it took."""
    made = message(1, 2)
    l4.MsgPutMapItem(made, 0, MAP)
    l4.MsgPutGrantItem(made, 2, GRANT)
    l4.MsgPutStringItem(made, 4, COMPOUND)
    l4.MsgPutCtrlXferItem(made, 9, REGISTERS)

    assert l4.MsgGetMapItem(made, 0) == (MAP, 2)
    assert l4.MsgGetGrantItem(made, 2) == (GRANT, 2)
    assert l4.MsgGetStringItem(made, 4) == (COMPOUND, 5)
    assert l4.MsgGetCtrlXferItem(made, 3 + 9) == (REGISTERS, 3)
    assert made.tag == l4.MsgTag.of(7, 2)


def test_the_wrong_kind_is_seen() -> None:
    """Get reads what is there; the item then says that it is of another type."""
    made = message()
    l4.MsgPutMapItem(made, 0, MAP)
    l4.MsgPutStringItem(made, 2, STRING)

    assert not l4.IsMapItem(l4.MsgGetMapItem(made, 2)[0])
    assert not l4.IsGrantItem(l4.MsgGetGrantItem(made, 0)[0])
    assert not l4.IsStringItem(l4.MsgGetStringItem(made, 0)[0])
    assert not l4.IsCtrlXferItem(l4.MsgGetCtrlXferItem(made, 1)[0])


def test_items_that_leave_the_message() -> None:
    """An item that would end behind MR63 is neither put nor got."""
    made = message(*range(60))

    l4.MsgPutMapItem(made, 1, MAP)
    with pytest.raises(ValueError, match="the last message register is MR63"):
        l4.MsgPutMapItem(made, 2, MAP)
    with pytest.raises(ValueError, match="the last message register is MR63"):
        l4.MsgGetMapItem(made, 2)
    with pytest.raises(ValueError, match="typed word -1"):
        l4.MsgGetMapItem(made, -1)

    l4.MsgPutWord(made, 60, 0x1F0)  # 32 substrings
    with pytest.raises(ValueError, match="word 61: a string descriptor of 33 words, but 3 are left"):
        l4.MsgGetStringItem(made, 0)
    l4.MsgPutWord(made, 62, 0b1 << 12 | 0b1100)  # one register
    with pytest.raises(ValueError, match="word 63: a control-register item of 2 words, but 1 are left"):
        l4.MsgGetCtrlXferItem(made, 63)


def test_loading_and_storing(registers: Registers) -> None:
    """MsgLoad fills MR0 to MRu+t and no other; MsgStore takes them out again, into a new object or a given one."""
    registers.mr[:] = [0xFF] * 64
    made = message(1, 2)
    l4.MsgAppendMapItem(made, MAP)

    l4.MsgLoad(made)

    assert registers.mr[:6] == [7 << 16 | 2 << 6 | 2, 1, 2, *MAP.words, 0xFF]
    given_object = message(*range(20))
    stored = l4.MsgStore(l4.MsgTag(), given_object)
    assert stored is given_object
    assert l4.MsgGet(stored) == l4.MsgGet(l4.MsgStore(l4.MsgTag())) == ((1, 2), (MAP,))


def test_the_longest_message_goes_through(registers: Registers) -> None:
    """63 words fit in the registers and come out again."""
    l4.MsgLoad(message(*range(63)))

    assert l4.MsgStore(l4.MsgTag()).untyped == tuple(range(63))


def test_a_tag_that_counts_too_many(registers: Registers) -> None:
    """A tag with u + t above 63 neither loads, nor stores, nor is counted."""
    hostile = l4.MsgTag(63 | 63 << 6)
    made = message(1)
    l4.Set_MsgMsgTag(made, hostile)

    for function in (l4.MsgLoad, l4.MsgGet, lambda msg: l4.MsgAppendWord(msg, 1)):
        with pytest.raises(ValueError, match=r"counts 63 \+ 63 words"):
            function(made)
    with pytest.raises(ValueError, match="number of words the tag counts 126"):
        l4.MsgStore(hostile)
