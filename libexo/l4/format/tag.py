"""The message tag, MR0: a message's length and label, and the outcome of its IPC.

bits 5..0 u (untyped words), 11..6 t (typed words), 12 p (propagated), 13 r (redirected), 14 X (crossed
processors), 15 E (error), 63..16 label. The sender sets p; the kernel rewrites r, X and E.
"""

from typing import Self

from kernel.abi.limits import MAX_WORDS
from kernel.abi.messages import LABEL_BITS
from libexo.l4.format.registers import LoadMR, StoreMR
from libexo.l4.format.words import within, word

__all__ = [
    "IpcFailed",
    "IpcPropagated",
    "IpcRedirected",
    "IpcSucceeded",
    "IpcXcpu",
    "IsMsgTagEqual",
    "IsMsgTagNotEqual",
    "Label",
    "MsgTag",
    "MsgTagAddLabel",
    "MsgTagAddLabelTo",
    "Niltag",
    "Set_Label",
    "Set_MsgTag",
    "Set_Propagation",
    "TypedWords",
    "UntypedWords",
]

_COUNT_MASK = 0x3F
_T_AT = 6
PROPAGATED = 1 << 12
REDIRECTED = 1 << 13
CROSSED = 1 << 14
FAILED = 1 << 15
_FLAGS = PROPAGATED | REDIRECTED | CROSSED | FAILED
_LABEL_AT = 16
_LOW = (1 << _LABEL_AT) - 1


class MsgTag(int):
    """A tag: `MsgTag()` is the calling thread's MR0 (X.2's function), `MsgTag(word)` the tag in *word*.

    Any word is a tag; `fits` tells whether its counts fit in a message. ``tag + label`` is MsgTagAddLabel, as in
    the C++ interface.
    """

    __slots__ = ()

    def __new__(cls, raw: int | None = None) -> Self:
        """Read MR0, or take word *raw*. Raises ValueError when that is not a word."""
        return super().__new__(cls, StoreMR(0) if raw is None else word(raw, "tag"))

    @classmethod
    def of(cls, label: int = 0, u: int = 0, t: int = 0, flags: int = 0) -> Self:
        """Return the tag of a message with *u* untyped and *t* typed words; *flags* are bits 15..12 in place.

        Raises ValueError: a message has at most 63 words; labels as in `MsgTagAddLabel`.
        """
        within(u, 0, MAX_WORDS, "number of untyped words")
        within(t, 0, MAX_WORDS - u, f"number of typed words beside {u} untyped ones")
        if flags & ~_FLAGS:
            raise ValueError(f"{flags:#x} are no flags of a tag")
        return cls(_label(label) << _LABEL_AT | flags | t << _T_AT | u)

    @property
    def u(self) -> int:
        """Untyped words: MR1..MRu."""
        return self & _COUNT_MASK

    @property
    def t(self) -> int:
        """Typed words: MRu+1..MRu+t."""
        return self >> _T_AT & _COUNT_MASK

    @property
    def fits(self) -> bool:
        """Whether u + t words fit into the message registers."""
        return self.u + self.t <= MAX_WORDS

    @property
    def p(self) -> bool:
        """Propagated."""
        return bool(self & PROPAGATED)

    @property
    def r(self) -> bool:
        """Redirected."""
        return bool(self & REDIRECTED)

    @property
    def X(self) -> bool:
        """Between processors."""
        return bool(self & CROSSED)

    @property
    def E(self) -> bool:
        """Failed: ErrorCode says why."""
        return bool(self & FAILED)

    @property
    def label(self) -> int:
        """The label: 48 bits, whose meaning is the partners' own."""
        return self >> _LABEL_AT

    def __add__(self, label: int) -> "MsgTag":
        """Return the tag with *label* in place of its own."""
        return MsgTagAddLabel(self, label)

    def __repr__(self) -> str:
        """Show the fields."""
        flags = "".join(letter for letter in "prXE" if getattr(self, letter))
        return f"<MsgTag label={self.label:#x} u={self.u} t={self.t}{flags and ' '}{flags}>"


Niltag = MsgTag(0)


def _label(label: int) -> int:
    """The label as its field holds it: a negative one (kernel protocols) is cut to 48 bits."""
    return within(label, -(1 << LABEL_BITS - 1), (1 << LABEL_BITS) - 1, "label") & ((1 << LABEL_BITS) - 1)


def Set_MsgTag(t: MsgTag) -> None:
    """Make *t* the calling thread's MR0."""
    LoadMR(0, t)


def Label(t: MsgTag) -> int:
    """Return the label of *t*."""
    return t.label


def UntypedWords(t: MsgTag) -> int:
    """Return the number of untyped words of a message of tag *t*."""
    return t.u


def TypedWords(t: MsgTag) -> int:
    """Return the number of typed words of a message of tag *t*."""
    return t.t


def MsgTagAddLabel(t: MsgTag, label: int) -> MsgTag:
    """Return *t* with *label* in place of its own.

    Raises ValueError when *label* is not in -2**47..2**48-1; negative ones are cut to 48 bits, as C does it.
    """
    return MsgTag(_label(label) << _LABEL_AT | t & _LOW)


def MsgTagAddLabelTo(t: MsgTag, label: int) -> MsgTag:
    """Return *t* with *label* in place of its own: assign it, tags do not change."""
    return MsgTagAddLabel(t, label)


def Set_Label(t: MsgTag, label: int) -> MsgTag:
    """Return *t* with *label* in place of its own: assign it, tags do not change."""
    return MsgTagAddLabel(t, label)


def Set_Propagation(t: MsgTag) -> MsgTag:
    """Return *t* with p set and r, X and E clear: assign it, tags do not change."""
    return MsgTag(t & ~_FLAGS | PROPAGATED)


def IsMsgTagEqual(left: MsgTag, right: MsgTag) -> bool:
    """Say whether two tags are the same word."""
    return left == right


def IsMsgTagNotEqual(left: MsgTag, right: MsgTag) -> bool:
    """Say whether two tags differ."""
    return left != right


def IpcSucceeded(t: MsgTag) -> bool:
    """Say whether the IPC that returned *t* succeeded."""
    return not t.E


def IpcFailed(t: MsgTag) -> bool:
    """Say whether the IPC that returned *t* failed."""
    return t.E


def IpcPropagated(t: MsgTag) -> bool:
    """Say whether the message was sent for another thread; ActualSender sent it."""
    return t.p


def IpcRedirected(t: MsgTag) -> bool:
    """Say whether the message was meant for another thread, IntendedReceiver."""
    return t.r


def IpcXcpu(t: MsgTag) -> bool:
    """Say whether the message came from another processor."""
    return t.X
