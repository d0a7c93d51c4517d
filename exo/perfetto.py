"""The trace as a file for Perfetto (https://ui.perfetto.dev): tracks, slices, arrows, counters, as its protobufs.

A track for each processor shows who had it, one for each environment what it did; names of the ended are there.
Arrows go from a page fault to what was supplied for it, from a sender to the receiver that it was bound to, and
from a program that falls asleep to the one that it says it waits for. The kernel sees no message, so none has an
arrow.
Numbers of fields are those of protos/perfetto/trace/trace_packet.proto and of what it imports.
"""

from collections.abc import Iterator
from enum import IntEnum
from itertools import count
from typing import NamedTuple

from exo.protobuf import fixed, message, number, text
from kernel.abi.errors import Fault, Refusal
from kernel.abi.events import ANYBODY, Event
from kernel.abi.ids import KERNEL_PREDICATES
from kernel.abi.limits import MAX_CLAUSES
from kernel.abi.rights import Kind
from kernel.abi.traps import TRAPS
from libexo.trace import History, Record, Span, State

_SEQUENCE = 1
"""All packets are of one writer."""
_CLEARED = 1
"""Its first packet says that nothing came before it."""
_LOW = (1 << 32) - 1


class Packet(IntEnum):
    """Fields of TracePacket; of Trace, `PACKET`."""

    PACKET = 1
    TIMESTAMP = 8
    SEQUENCE_ID = 10
    TRACK_EVENT = 11
    SEQUENCE_FLAGS = 13
    TRACK_DESCRIPTOR = 60


class Descriptor(IntEnum):
    """Fields of TrackDescriptor."""

    UUID = 1
    NAME = 2
    PARENT_UUID = 5
    COUNTER = 8


class Field(IntEnum):
    """Fields of TrackEvent, and of DebugAnnotation."""

    DEBUG_ANNOTATIONS = 4
    TYPE = 9
    TRACK_UUID = 11
    CATEGORIES = 22
    NAME = 23
    COUNTER_VALUE = 30
    FLOW_IDS = 47
    TERMINATING_FLOW_IDS = 48
    ANNOTATION_INT = 4
    ANNOTATION_TEXT = 6
    ANNOTATION_NAME = 10


class Type(IntEnum):
    """Types of TrackEvent, in the order in which those of one moment are written: an end before a begin."""

    END = 2
    BEGIN = 1
    INSTANT = 3
    COUNTER = 4


class Track(NamedTuple):
    """A row of the picture."""

    uuid: int
    name: str
    parent: int = 0
    counts: bool = False


Flows = tuple[int, ...]


class Happening(NamedTuple):
    """What a packet says of a track. Times in ns since the boot."""

    at: int
    type: Type
    track: int
    name: str = ""
    category: str = ""
    notes: tuple[tuple[str, int | str], ...] = ()
    flows: Flows = ()
    ends: Flows = ()
    """Flows that end here."""
    value: int = 0


_PROCESSORS, _ENVIRONMENTS, _COUNTERS = 1, 2, 3
"""Tracks that have others below them."""
_PROCESSOR, _WAITING, _ENVIRONMENT = 1 << 8, 1 << 9, 1 << 32
"""The first of each kind."""
_FAULTS, _FREE = 4, 5
_ORDER = {kind: at for at, kind in enumerate(Type)}


def write(past: History, booted: int, cores: list[int], free: int) -> bytes:
    """Return the trace of *past*: processors are those *cores* of the host, and *free* frames are free now."""
    picture = _Picture(past, booted, cores, free)
    found = sorted(picture.happenings(), key=lambda each: (each.at, _ORDER[each.type]))
    tracks = [_packet(_descriptor(track), 0, first=at == 0) for at, track in enumerate(picture.tracks())]
    return b"".join(tracks + [_packet(_event(each), each.at) for each in found])


def _packet(content: bytes, at: int, *, first: bool = False) -> bytes:
    parts = [number(Packet.TIMESTAMP, at), number(Packet.SEQUENCE_ID, _SEQUENCE)]
    if first:
        parts.append(number(Packet.SEQUENCE_FLAGS, _CLEARED))
    return message(Packet.PACKET, *parts, content)


def _descriptor(track: Track) -> bytes:
    parts = [number(Descriptor.UUID, track.uuid), text(Descriptor.NAME, track.name)]
    if track.parent:
        parts.append(number(Descriptor.PARENT_UUID, track.parent))
    if track.counts:
        parts.append(message(Descriptor.COUNTER))
    return message(Packet.TRACK_DESCRIPTOR, *parts)


def _event(each: Happening) -> bytes:
    parts = [number(Field.TYPE, each.type), number(Field.TRACK_UUID, each.track)]
    if each.name:
        parts += [text(Field.NAME, each.name), text(Field.CATEGORIES, each.category)]
    parts += [message(Field.DEBUG_ANNOTATIONS, *_note(name, value)) for name, value in each.notes]
    parts += [fixed(Field.FLOW_IDS, flow) for flow in each.flows]
    parts += [fixed(Field.TERMINATING_FLOW_IDS, flow) for flow in each.ends]
    if each.type is Type.COUNTER:
        parts.append(number(Field.COUNTER_VALUE, each.value))
    return message(Packet.TRACK_EVENT, *parts)


def _note(name: str, value: int | str) -> tuple[bytes, bytes]:
    said = (
        text(Field.ANNOTATION_TEXT, value) if isinstance(value, str) else number(Field.ANNOTATION_INT, value)
    )
    return text(Field.ANNOTATION_NAME, name), said


class _Picture:
    """Tracks and what is on them."""

    def __init__(self, past: History, booted: int, cores: list[int], free: int) -> None:
        self._past, self._booted, self._cores, self._free = past, booted, cores, free
        self._flows = count(1)
        self._supplies: dict[tuple[int, int], int] = {}
        """By pager and time, the flow that ends in what it supplied."""
        self._wanted: dict[tuple[int, int], list[int]] = {}
        """By key, and time of a slice, the flows that end in it."""

    def tracks(self) -> Iterator[Track]:
        """Yield all, parents first."""
        yield Track(_PROCESSORS, "processors")
        for processor, core in enumerate(self._cores):
            name = f"processor {processor} (host core {core})"
            yield Track(_PROCESSOR + processor, name, _PROCESSORS)
        yield Track(_ENVIRONMENTS, "environments")
        keys = dict.fromkeys([*self._past.names, *self._past.spans, *(key for key, _ in self._past.events)])
        for key in keys:
            yield Track(_ENVIRONMENT + key, self._past.name(key), _ENVIRONMENTS)
        yield Track(_COUNTERS, "counters")
        for processor in range(len(self._cores)):
            name = f"want processor {processor}"
            yield Track(_WAITING + processor, name, _COUNTERS, counts=True)
        yield Track(_FAULTS, "page faults that wait", _COUNTERS, counts=True)
        yield Track(_FREE, "free frames", _COUNTERS, counts=True)

    def happenings(self) -> Iterator[Happening]:
        """Yield all that happened, in no order."""
        yield from self._faults()
        all_of_them = [span for spans in self._past.spans.values() for span in spans]
        for span in all_of_them:
            if span.state is State.ASLEEP:
                yield from self._sleep(span)
        for span in all_of_them:
            if span.state not in (State.GONE, State.ASLEEP):
                yield from self._span(span)
        for key, record in self._past.events:
            yield from self._instant(key, record)
        yield from self._counters()

    def _at(self, ns: int) -> int:
        return max(0, ns - self._booted)

    def _spread(
        self, span: Span, track: int, name: str, category: str, flows: Flows = (), ends: Flows = ()
    ) -> Iterator[Happening]:
        notes = _notes(span) if span.state is State.RUNS else ()
        yield Happening(self._at(span.begin), Type.BEGIN, track, name, category, notes, flows, ends)
        yield Happening(self._at(span.end), Type.END, track)

    def _span(self, span: Span) -> Iterator[Happening]:
        """Yield a span: on the track of its environment, and of the processor that it had."""
        track = _ENVIRONMENT + span.key
        ends = tuple(self._wanted.get((span.key, span.begin), ()))
        yield from self._spread(span, track, _SHOWN[span.state], "state", ends=ends)
        if span.state is State.RUNS:
            yield from self._spread(span, _PROCESSOR + span.processor, self._past.name(span.key), "cpu")

    def _sleep(self, span: Span) -> Iterator[Happening]:
        """Yield a sleep, with an arrow to the next slice of whom it waits for, or to a server's track."""
        if span.whom in _NO_PARTNER:
            name = _NO_PARTNER[span.whom]
            yield from self._spread(span, _ENVIRONMENT + span.key, name, "state")
            return
        name, partner = f"waits for {self._past.of_thread(span.whom)}", self._past.key_of_thread(span.whom)
        flows: Flows = ()
        if partner is not None:
            flow = next(self._flows)
            flows = (flow,)
            runs = (
                s for s in self._past.spans.get(partner, ()) if s.state is State.RUNS and s.end > span.begin
            )
            if (following := next(runs, None)) is not None and following.begin >= span.begin:
                self._wanted.setdefault((partner, following.begin), []).append(flow)
            else:  # it runs already, or is under no plan
                yield Happening(
                    self._at(span.begin), Type.INSTANT, _ENVIRONMENT + partner,
                    f"{self._past.name(span.key)} waits for it", "ipc", ends=(flow,),
                )  # fmt: skip
        yield from self._spread(span, _ENVIRONMENT + span.key, name, "state", flows=flows)

    def _faults(self) -> Iterator[Happening]:
        """Yield page faults, with an arrow each to what was supplied."""
        for fault in self._past.faults:
            flows: Flows = ()
            if fault.pager >= 0 and fault.end < self._past.now:
                flow = self._supplies.setdefault((fault.pager, fault.end), next(self._flows))
                flows = (flow,)
            yield Happening(
                self._at(fault.begin), Type.INSTANT, _ENVIRONMENT + fault.key,
                f"page fault in object {fault.object}", "paging", flows=flows,
            )  # fmt: skip

    def _instant(self, key: int, record: Record) -> Iterator[Happening]:
        said = _said(record)
        if said is None:
            return
        name, category = said
        event = Happening(self._at(record.ns), Type.INSTANT, _ENVIRONMENT + key, name, category)
        if record.event == Event.SUPPLIED and (flow := self._supplies.get((key, record.ns))):
            event = event._replace(ends=(flow,))
        receiver = self._past.key_of_thread(record.a >> 32) if record.event == Event.BOUND else None
        if receiver is not None:
            flow = next(self._flows)
            event = event._replace(flows=(flow,), name=f"bound to {self._past.name(receiver)}")
            yield event._replace(
                track=_ENVIRONMENT + receiver,
                name=f"{self._past.name(key)} is bound to it",
                flows=(),
                ends=(flow,),
            )
        yield event

    def _counters(self) -> Iterator[Happening]:
        """Yield who wants each processor, and page faults that wait, whenever that changes; free frames, of now."""
        changes: dict[int, dict[int, int]] = {}
        for spans in self._past.spans.values():
            for span in spans:
                if span.state in (State.RUNS, State.READY) and span.processor >= 0:
                    _change(changes.setdefault(_WAITING + span.processor, {}), span.begin, span.end)
        for fault in self._past.faults:
            _change(changes.setdefault(_FAULTS, {}), fault.begin, fault.end)
        for track, steps in changes.items():
            value = 0
            for ns in sorted(steps):
                value += steps[ns]
                if steps[ns]:
                    yield Happening(self._at(ns), Type.COUNTER, track, value=value)
        yield Happening(self._at(self._past.now), Type.COUNTER, _FREE, value=self._free)


def _change(steps: dict[int, int], begin: int, end: int) -> None:
    steps[begin] = steps.get(begin, 0) + 1
    steps[end] = steps.get(end, 0) - 1


_SHOWN = {State.RUNS: "runs", State.READY: "ready", State.STANDS: "stopped", State.UNKNOWN: "unknown"}


_NO_PARTNER = {0: "sleeps", ANYBODY: "waits for any sender", KERNEL_PREDICATES: "waits for its predicate"}


def _notes(span: Span) -> tuple[tuple[str, int | str], ...]:
    """Return what is known of a slice beside its times."""
    notes: list[tuple[str, int | str]] = [("slice_us", span.slice_us), ("left_us", span.left_us)]
    if span.used >= 0:
        notes += [("used_ns", span.used), ("slept_ns", span.slept)]
    if span.ending is not None:
        notes.append(("ended", span.ending.name.lower()))
    return tuple(notes)


def _said(record: Record) -> tuple[str, str] | None:
    """Return what an instant is called, and its category; None: it is none, or part of something else."""
    match record.event:
        case Event.TRAP:
            name = TRAPS[record.a].__name__ if record.a in TRAPS else f"trap {record.a:#x}"
            return (f"{name} refused: {_named(Refusal, record.b)}" if record.b else name), "trap"
        case Event.FAULT:
            return f"fault: {_named(Fault, record.a)}", "life"
        case Event.CREATED | Event.STARTED | Event.ENDED:
            return Event(record.event).name.lower(), "life"
        case Event.BOUND:
            return "bound", "ipc"
        case Event.SUPPLIED | Event.EVICTED:
            what = f"{record.a >> 32} from {record.a & _LOW} of object {record.b}"
            return f"{Event(record.event).name.lower()} {what}", "paging"
        case Event.LOST:
            return f"lost {_named(Kind, record.b)}", "revocation"
        case Event.PLANNED:
            return f"plans processor {record.b & _LOW}", "cpu"
        case Event.UPCALL_DROPPED:
            return "upcall dropped", "life"
        case Event.WOKEN:
            return (
                f"clause {record.a} is true" if record.a < MAX_CLAUSES else "no clause is possible"
            ), "ipc"
    return None


def _named(kind: type[Refusal | Fault | Kind], value: int) -> str:
    if value not in tuple(int(each) for each in kind):
        return str(value)
    return kind(value).name.lower()
