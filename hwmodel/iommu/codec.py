"""From fields to bytes and back, the same way for each architecture: its `encode` and `decode`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from hwmodel.iommu.layout import Bits, Format, Inputs, MalformedEntry, Values, Violation, numbers

Unit = TypeVar("Unit")
"""What a unit of the architecture has, as far as it decides which entries are legal."""


class Unsupported(Violation):
    """A kind of queue entry that there is not, or that the unit has not."""


@dataclass(frozen=True)
class Codec(Generic[Unit]):
    """The formats of one architecture, and its own rules for queue entries."""

    selector: Bits
    """The field that says which kind a queue entry is."""
    entries: Mapping[int, Format]
    """Queue entries, by the selector's value."""
    structures: Sequence[Format]
    """What else lies in memory or registers."""
    sizes: Sequence[int]
    """How many bytes a queue entry may have, the usual number first."""
    malformed: Callable[[Violation], MalformedEntry]
    """Names what the architecture calls a violation in a queue entry."""
    refuse: Callable[[Values, Unit], None]
    """Raises Violation for fields that are legal, though not on this unit."""
    complete: Callable[[Values], Values] = lambda values: values
    """Adds what follows from the fields given for those that were not."""
    size: Callable[[Values], int] | None = None
    """The number of bytes of an entry, where `sizes` leaves a choice."""

    def encode(self, inputs: Inputs, unit: Unit) -> bytes:
        """Return the bytes of a queue entry, which has the selector, or of the first structure with these fields.

        Raises MalformedEntry for a field that is missing, unknown or does not fit, and for what *unit* would
        refuse; ValueError for a value that is no number, or if no structure has these fields.
        """
        values = numbers(inputs)
        if self.selector.name not in values:
            format_ = self._structure_with(values.keys())
            with _refused_as(format_.malformed):
                return format_.pack(values).to_bytes(format_.size, "little")
        with _refused_as(self.malformed):
            entry = self._kind(values[self.selector.name]).pack(self.complete(values))
            read = self.unpack(entry, unit)
        return entry.to_bytes(self.size(read) if self.size else self.sizes[0], "little")

    def decode(self, data: bytes, structure: str | None, unit: Unit) -> Values:
        """Return all fields of a queue entry, or of the *structure* of that name.

        Raises MalformedEntry for what *unit* would refuse; ValueError for a wrong length or an unknown name.
        """
        if structure is None:
            entry = _number(data, "a queue entry", self.sizes)
            with _refused_as(self.malformed):
                return self.unpack(entry, unit)
        format_ = self._structure(structure)
        entry = _number(data, structure, (format_.size,))
        with _refused_as(format_.malformed):
            return format_.unpack(entry)

    def unpack(self, entry: int, unit: Unit) -> Values:
        """Return the fields of a queue entry that is a number already. Raises Violation."""
        values = self._kind(self.selector.unpack(entry)[self.selector.name]).unpack(entry)
        self.refuse(values, unit)
        return values

    def _kind(self, selector: int) -> Format:
        if selector not in self.entries:
            raise Unsupported(f"there is no queue entry with {self.selector.name} {selector:#x}")
        return self.entries[selector]

    def _structure(self, name: str) -> Format:
        for format_ in self.structures:
            if format_.name == name:
                return format_
        names = ", ".join(format_.name for format_ in self.structures)
        raise ValueError(f"there is no structure {name!r}: there are {names}")

    def _structure_with(self, fields: AbstractSet[str]) -> Format:
        for format_ in self.structures:
            if fields <= format_.names:
                return format_
        raise ValueError(f"no structure has the fields {', '.join(sorted(fields))}")


@contextmanager
def _refused_as(malformed: Callable[[Violation], MalformedEntry]) -> Iterator[None]:
    """Turn a Violation into what *malformed* calls it."""
    try:
        yield
    except Violation as violation:
        raise malformed(violation) from violation


def _number(data: bytes, what: str, sizes: Sequence[int]) -> int:
    if len(data) not in sizes:
        raise ValueError(f"{what} has {' or '.join(map(str, sizes))} bytes, and these are {len(data)}")
    return int.from_bytes(data, "little")
