"""What an operator said of a member, as policies read it: times that are some, in nanoseconds."""

from collections.abc import Mapping

from libexo.sched import Member, Parameter


def time(member: Member, key: str, said: Mapping[str, Parameter] | None = None) -> int | None:
    """Return the time *key* in what is *said* of *member*: its parameters; None: it has none. Raises ValueError."""
    value = (member.parameters if said is None else said).get(key)
    if value is not None and (not isinstance(value, int) or value <= 0):
        raise ValueError(f"{member.name}: a {key} is a time, as in {key}=20ms, not {value!r}")
    return value


def group(member: Member) -> str:
    """Return the name of its group; empty: it is in none."""
    return str(member.parameters.get("group", ""))
