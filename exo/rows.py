"""Rows of a timeline: what each program did on a processor, in a window of the past."""

from collections.abc import Iterable, Mapping, Sequence

from exo.system import Trouble
from exo.why import nearest
from libexo.trace.history import History, Span, State, clipped

_FILLED = " ▁▂▃▄▅▆▇█"
_LEAST = 0.02
"""A cell of which less was had looks as if nothing was."""
_MARKS = {State.READY: "·", State.ASLEEP: " ", State.STANDS: "×", State.GONE: " ", State.UNKNOWN: "?"}
_STEPS = (1, 2, 5)


class Row:
    """One program on one processor, in a window."""

    def __init__(self, name: str, spans: Sequence[Span], begin: int, end: int) -> None:
        """Take its *spans* between *begin* and *end*."""
        self.name = name
        self.spans = list(clipped(spans, begin, end))
        self.begin, self.end = begin, end

    @property
    def part(self) -> float:
        """The part of the window in which it had the processor."""
        had: float = sum(span.end - span.begin for span in self.spans if span.state is State.RUNS)
        return had / max(self.end - self.begin, 1)

    def cells(self, width: int) -> str:
        """Return *width* cells."""
        length = (self.end - self.begin) / width
        ran = [0.0] * width
        marks: list[dict[State, float]] = [{} for _ in range(width)]
        for span in self.spans:
            first = int((span.begin - self.begin) / length)
            last = min(int((span.end - self.begin) / length), width - 1)
            for at in range(first, last + 1):
                low = self.begin + at * length
                here = min(span.end, low + length) - max(span.begin, low)
                if span.state is State.RUNS:
                    ran[at] += here / length
                else:
                    marks[at][span.state] = marks[at].get(span.state, 0.0) + here
        return "".join(_cell(part, mark) for part, mark in zip(ran, marks, strict=True))


def _cell(part: float, marks: dict[State, float]) -> str:
    if part < _LEAST:
        return _MARKS[max(marks, key=lambda state: marks[state])] if marks else " "
    return _FILLED[max(1, min(round(part * (len(_FILLED) - 1)), len(_FILLED) - 1))]


Rows = Mapping[int, Sequence[Row]]
"""By processor."""


def gather(past: History, names: Iterable[str], begin: int) -> Rows:
    """Return the rows of each processor since *begin*: of *names*, or of all that were there. Raises Trouble."""
    wanted = list(names)
    for name in wanted:
        if past.find(name) is None:
            raise Trouble(
                f"nothing called {name!r} runs, or ran: 'exo ps' lists what does{nearest(name, past)}"
            )
    first = max(begin, past.begin)
    found: dict[int, list[Row]] = {}
    for key, spans in past.spans.items():
        row = Row(past.name(key), spans, first, past.now)
        processors = dict.fromkeys(span.processor for span in row.spans if span.processor >= 0)
        if not processors or (wanted and row.name not in wanted):
            continue
        for processor in processors:
            there = [span for span in spans if span.processor in (processor, -1)]
            found.setdefault(processor, []).append(Row(row.name, there, first, past.now))
    return dict(sorted(found.items()))


def tick(length: int, most: int) -> int:
    """Return a round time, of which *length* has *most* at most. In ns."""
    step = 1_000
    while True:
        for factor in _STEPS:
            if length <= most * step * factor:
                return step * factor
        step *= 10
