"""An explanation as programs exchange it: why an environment did not run, with keys that are kept stable."""

import msgspec

from libexo.trace.why import Cause, Why


class Stop(msgspec.Struct):
    """What stopped it."""

    cause: str
    """The name of a `Cause`, in lower case."""
    ns: int
    who: dict[str, int]
    """Of some causes: who had the processor, for whom it waited, whose page, which clause; for how many ns each."""


class Explanation(msgspec.Struct):
    """What is known of one environment in a window. Times in ns."""

    name: str
    processor: int | None
    """Under whose plan it was last; None: under none."""
    window_ns: int
    missing_ns: int
    """How much of the window was before the first event that the ring still has."""
    ran_ns: int
    got: float
    """The part of the time that it ran, while it was there."""
    planned: float
    """The part of the processor that the plans gave it, on average, while it was there."""
    plan_us: tuple[int, int]
    """What the last plan gives it of a round, and how long that is."""
    slices: int
    longest_without_ns: int
    state: str
    """What it does at the end of the window."""
    ended: str | None
    causes: list[Stop]
    """The longest first; with what it ran, and the time in which it was not there, they are the window."""
    held: dict[str, int]
    """Who had the processor while it was not its own."""

    @classmethod
    def of(cls, found: Why) -> "Explanation":
        """Return *found*, to be sent."""
        return cls(
            name=found.name,
            processor=found.processor if found.processor >= 0 else None,
            window_ns=found.end - found.begin,
            missing_ns=found.missing,
            ran_ns=found.spent[Cause.RAN],
            got=round(found.got, 4),
            planned=round(found.planned, 4),
            plan_us=found.plan_us,
            slices=found.slices,
            longest_without_ns=found.longest,
            state=found.state.name.lower(),
            ended=found.ended or None,
            causes=[
                Stop(
                    cause.name.lower(),
                    ns,
                    dict(found.whom[cause].most_common() if cause in found.whom else ()),
                )
                for cause, ns in found.causes()
            ],
            held=dict(found.held.most_common()),
        )
