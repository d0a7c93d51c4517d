"""Message objects: messages built, or taken apart, outside the message registers.

`Msg` has the 64 words of the registers and the same layout: the tag, u untyped words, t typed words. Nothing is
sent before `MsgLoad`; `MsgStore` takes a received message out before the next IPC overwrites it. Indices count
from 0: untyped word 0 is MR1, typed word 0 is MR1+u. Message objects change, unlike tags and items.
"""

from collections.abc import Iterable, Sequence

from kernel.abi.limits import MAX_WORDS
from libexo.l4.format.decoding import decode
from libexo.l4.format.items import (
    CtrlXferItem,
    GrantItem,
    IsCtrlXferItem,
    Item,
    MapItem,
    check_length,
    ctrlxfer_head,
    ctrlxfer_length,
)
from libexo.l4.format.registers import NUM_MRS, LoadMRs, StoreMRs
from libexo.l4.format.strings import IsStringItem, StringItem, simple, string_end
from libexo.l4.format.tag import MsgTag, MsgTagAddLabel
from libexo.l4.format.words import WORD_BITS, within, word, words

__all__ = [
    "AppendFaultConfCtrlXferItems",
    "Msg",
    "MsgAppendCtrlXferItem",
    "MsgAppendGrantItem",
    "MsgAppendMapItem",
    "MsgAppendSimpleStringItem",
    "MsgAppendStringItem",
    "MsgAppendWord",
    "MsgClear",
    "MsgGet",
    "MsgGetCtrlXferItem",
    "MsgGetGrantItem",
    "MsgGetMapItem",
    "MsgGetStringItem",
    "MsgGetWord",
    "MsgLabel",
    "MsgLoad",
    "MsgMsgTag",
    "MsgPut",
    "MsgPutCtrlXferItem",
    "MsgPutGrantItem",
    "MsgPutMapItem",
    "MsgPutSimpleStringItem",
    "MsgPutStringItem",
    "MsgPutWord",
    "MsgStore",
    "MsgWord",
    "Set_MsgLabel",
    "Set_MsgMsgTag",
]


class Msg:
    """A message object, empty at first. `raw` has the 64 words; the functions below keep them plain ints."""

    __slots__ = ("raw",)

    def __init__(self) -> None:
        """Be a message of no words with label 0."""
        self.raw = [0] * NUM_MRS

    @property
    def tag(self) -> MsgTag:
        """The first word."""
        return MsgTag(self.raw[0])

    @property
    def untyped(self) -> tuple[int, ...]:
        """The untyped words. Raises ValueError when the tag counts more words than a message has."""
        return tuple(self.raw[1 : 1 + _counted(self).u])

    @property
    def typed(self) -> tuple[int, ...]:
        """The typed words. Raises ValueError when the tag counts more words than a message has."""
        tag = _counted(self)
        return tuple(self.raw[1 + tag.u : 1 + tag.u + tag.t])

    def __repr__(self) -> str:
        """Show the tag and the words it counts."""
        shown = self.raw[1 : 1 + self.tag.u + self.tag.t]
        return f"<Msg {self.tag!r} {' '.join(map(hex, shown))}>"


def _counted(msg: Msg) -> MsgTag:
    tag = msg.tag
    if not tag.fits:
        raise ValueError(f"the tag counts {tag.u} + {tag.t} words: a message has at most {MAX_WORDS}")
    return tag


# ---------------------------------------------------------------------------------------------------- as a whole


def MsgPut(msg: Msg, label: int, untyped: Sequence[int] = (), items: Iterable[Item] = ()) -> None:
    """Make *msg* the message of *label*, *untyped* words and *items*. Raises ValueError and changes nothing."""
    typed = [w for item in items for w in item.words]
    tag = MsgTag.of(label, len(untyped), len(typed))
    msg.raw[: 1 + len(untyped) + len(typed)] = [int(tag), *words(untyped), *typed]


def MsgGet(msg: Msg) -> tuple[tuple[int, ...], tuple[Item, ...]]:
    """Return the untyped words and the items of *msg*. Raises ValueError when they are malformed."""
    return msg.untyped, tuple(decode(msg.typed))


def MsgMsgTag(msg: Msg) -> MsgTag:
    """Return the tag of *msg*."""
    return msg.tag


def Set_MsgMsgTag(msg: Msg, t: MsgTag) -> None:
    """Make *t* the tag of *msg*; its words stay."""
    msg.raw[0] = word(t, "tag")


def MsgLabel(msg: Msg) -> int:
    """Return the label of *msg*."""
    return msg.tag.label


def Set_MsgLabel(msg: Msg, label: int) -> None:
    """Make *label* the label of *msg*. Raises ValueError as `MsgTagAddLabel` does."""
    msg.raw[0] = int(MsgTagAddLabel(msg.tag, label))


def MsgClear(msg: Msg) -> None:
    """Make *msg* a message of no words with label 0."""
    msg.raw[0] = 0


def MsgLoad(msg: Msg) -> None:
    """Load the calling thread's message registers with *msg*. Raises ValueError if its tag counts too many."""
    tag = _counted(msg)
    LoadMRs(0, msg.raw[: 1 + tag.u + tag.t])


def MsgStore(t: MsgTag, msg: Msg | None = None) -> Msg:
    """Take the message with tag *t* out of the calling thread's message registers, into *msg* if given.

    Returns the message object. Raises ValueError when *t* counts more words than a message has.
    """
    stored = Msg() if msg is None else msg
    count = within(t.u + t.t, 0, MAX_WORDS, "number of words the tag counts")
    stored.raw[: 1 + count] = [int(t), *StoreMRs(1, count)]
    return stored


# ----------------------------------------------------------------------------------------------------- appending


def _recount(msg: Msg, u: int, t: int) -> None:
    tag = msg.tag
    flags = tag & (0xF << 12)
    msg.raw[0] = int(MsgTag.of(tag.label, u, t, flags))


def _append(msg: Msg, item: Item) -> None:
    tag = _counted(msg)
    end = 1 + tag.u + tag.t
    _recount(msg, tag.u, tag.t + len(item.words))
    msg.raw[end : end + len(item.words)] = item.words


def MsgAppendWord(msg: Msg, w: int) -> None:
    """Add *w* to the untyped words; items move up by one. Raises ValueError when *msg* is full."""
    tag, value = _counted(msg), word(w)
    _recount(msg, tag.u + 1, tag.t)
    start, end = 1 + tag.u, 1 + tag.u + tag.t
    msg.raw[start : end + 1] = [value, *msg.raw[start:end]]


def MsgAppendMapItem(msg: Msg, m: MapItem) -> None:
    """Add a map item. Raises ValueError when *msg* is full."""
    _append(msg, m)


def MsgAppendGrantItem(msg: Msg, g: GrantItem) -> None:
    """Add a grant item. Raises ValueError when *msg* is full."""
    _append(msg, g)


def MsgAppendSimpleStringItem(msg: Msg, s: StringItem) -> None:
    """Add the first substring of *s* as a string item. Raises ValueError when *msg* is full."""
    _append(msg, simple(s))


def MsgAppendStringItem(msg: Msg, s: StringItem) -> None:
    """Add a string item, compound or not. Raises ValueError when *msg* is full."""
    _append(msg, s)


def MsgAppendCtrlXferItem(msg: Msg, c: CtrlXferItem) -> None:
    """Add a control-register item, unless it has no registers. Raises ValueError when *msg* is full."""
    if c.mask:
        _append(msg, c)


def AppendFaultConfCtrlXferItems(msg: Msg, fault_id_mask: int, fault_mask: int, C: int) -> None:
    """Add an untyped word for each fault of *fault_id_mask*: the register groups, *fault_mask*, of its message.

    Each word is the head of a control-register item: the fault's number in place of the group. C means that more
    follow: set in all but the last, which has *C*. Raises ValueError when *msg* is full.
    """
    faults = [n for n in range(WORD_BITS) if word(fault_id_mask, "mask of faults") >> n & 1]
    groups = [n for n in range(WORD_BITS) if word(fault_mask, "mask of register groups") >> n & 1]
    for n in faults:
        MsgAppendWord(msg, ctrlxfer_head(n, groups) | (n != faults[-1] or bool(C)))


# ------------------------------------------------------------------------------------------------ words in place


def MsgPutWord(msg: Msg, u: int, w: int) -> None:
    """Make *w* untyped word *u* (0..62); the tag stays. Raises ValueError."""
    msg.raw[1 + within(u, 0, MAX_WORDS - 1, "untyped word")] = word(w)


def MsgWord(msg: Msg, u: int) -> int:
    """Return untyped word *u* (0..62). Raises ValueError."""
    return msg.raw[1 + within(u, 0, MAX_WORDS - 1, "untyped word")]


def MsgGetWord(msg: Msg, u: int) -> int:
    """Return untyped word *u* (0..62). Raises ValueError."""
    return MsgWord(msg, u)


# ------------------------------------------------------------------------------------------------ items in place


def _place(msg: Msg, t: int, length: int) -> slice:
    """The slice of *length* words from typed word *t* on; they are in the message registers."""
    start = 1 + msg.tag.u + within(t, 0, MAX_WORDS - 1, "typed word")
    if start + length > NUM_MRS:
        raise ValueError(f"{length} words from MR{start} on: the last message register is MR{NUM_MRS - 1}")
    return slice(start, start + length)


def _put(msg: Msg, t: int, item: Item) -> None:
    msg.raw[_place(msg, t, len(item.words))] = item.words


def MsgPutMapItem(msg: Msg, t: int, m: MapItem) -> None:
    """Put a map item at typed word *t*; the tag stays. Raises ValueError when it does not fit."""
    _put(msg, t, m)


def MsgPutGrantItem(msg: Msg, t: int, g: GrantItem) -> None:
    """Put a grant item at typed word *t*; the tag stays. Raises ValueError when it does not fit."""
    _put(msg, t, g)


def MsgPutSimpleStringItem(msg: Msg, t: int, s: StringItem) -> None:
    """Put the first substring of *s* at typed word *t*; the tag stays. Raises ValueError when it does not fit."""
    _put(msg, t, simple(s))


def MsgPutStringItem(msg: Msg, t: int, s: StringItem) -> None:
    """Put a string item at typed word *t*; the tag stays. Raises ValueError when it does not fit."""
    _put(msg, t, s)


def MsgPutCtrlXferItem(msg: Msg, t: int, c: CtrlXferItem) -> None:
    """Put a control-register item at typed word *t*, unless it is empty; the tag stays. Raises ValueError."""
    if c.mask:
        _put(msg, t, c)


# The items below are what the words say, of any type: ask IsMapItem and its like before relying on one.


def MsgGetMapItem(msg: Msg, t: int) -> tuple[MapItem, int]:
    """Return the two words from typed word *t* on as a map item, and that they are 2. Raises ValueError."""
    return MapItem.of(msg.raw[_place(msg, t, 2)]), 2


def MsgGetGrantItem(msg: Msg, t: int) -> tuple[GrantItem, int]:
    """Return the two words from typed word *t* on as a grant item, and that they are 2. Raises ValueError."""
    return GrantItem.of(msg.raw[_place(msg, t, 2)]), 2


def MsgGetStringItem(msg: Msg, t: int) -> tuple[StringItem, int]:
    """Return the string item at typed word *t*, and its length in words.

    Where no string begins these are the two words there, which IsStringItem denies. Raises ValueError for
    a string that leaves the message registers.
    """
    start = _place(msg, t, 2).start
    end = string_end(msg.raw, start) if IsStringItem(Item.of(msg.raw[start:])) else start + 2
    return StringItem.of(msg.raw[start:end]), end - start


def MsgGetCtrlXferItem(msg: Msg, mr: int) -> tuple[CtrlXferItem, int]:
    """Return the control-register item at *message register* mr (1..63), and its length in words.

    Where no such item begins this is the word there, which IsCtrlXferItem denies. Raises ValueError for an
    item that leaves the message registers. L4Ka::Pistachio counts message registers here, not typed words.
    """
    start = within(mr, 1, MAX_WORDS, "message register")
    head = CtrlXferItem.of(msg.raw[start : start + 1])
    if not IsCtrlXferItem(head):
        return head, 1
    length = ctrlxfer_length(head.words[0])
    check_length(msg.raw, start, length, "control-register item")
    return CtrlXferItem.of(msg.raw[start : start + length]), length
