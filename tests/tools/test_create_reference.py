"""The generated pages of docs/ say what kernel/abi says."""

from typing import Annotated

import msgspec
import pytest

from kernel.abi import traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.gate import Small, Word
from kernel.abi.trap import Token
from tools.create_reference import PAGES, ROOT, groups, main, notes, render, show_type


@pytest.mark.parametrize("path", PAGES)
def test_page_is_current(path: str) -> None:
    """A page is what the tool would write now; where not: python tools/create_reference.py."""
    assert (ROOT / path).read_text(encoding="utf-8") == render(path)


def test_check_says_so() -> None:
    """With --check, current pages are no news."""
    assert main(["--check"]) == 0


def test_every_trap_belongs_to_one_object() -> None:
    """The section comments of kernel/abi/traps.py divide all traps among them."""
    grouped = [trap for _, members in groups() for trap in members]

    assert sorted(t.__name__ for t in grouped) == sorted(t.__name__ for t in traps.TRAPS.values())


def test_every_number_is_on_its_page() -> None:
    """Each trap has a section, each refusal and each fault a row."""
    page, errors = render("docs/traps.md"), render("docs/errors.md")

    assert all(f"### {trap.__name__}\n" in page for trap in traps.TRAPS.values())
    assert all(f"| {each.value} | `{each.name}` | {each.text} |" in errors for each in (*Refusal, *Fault))


def test_every_refusal_can_happen() -> None:
    """No refusal is defined that neither a trap nor attaching returns."""
    returned = {refusal for trap in traps.TRAPS.values() for refusal in trap.refusals}

    assert {refusal.name for refusal in set(Refusal) - returned} <= {"MAY_NOT_ATTACH"}


@pytest.mark.parametrize(
    ("annotation", "shown"),
    [
        (int, "int"),
        (None, "nothing"),
        (Small, "int 0..2³²-1"),
        (Word, "int ≥ 0"),
        (Token, "bytes, 16 long"),
        (tuple[int, ...], "tuple of int"),
        (Annotated[str, msgspec.Meta(max_length=31)], "str, at most 31"),
    ],
)
def test_types_are_shown_with_their_bounds(annotation: object, shown: str) -> None:
    """An argument's bounds stand beside its type."""
    assert show_type(annotation) == shown


def test_notes_belong_to_the_member_above() -> None:
    """The sentence below a member is its meaning; a member without one has none."""
    said = notes(traps, "Inspection")

    assert said["kind"] == ""
    assert said["count"].startswith("Frames; the `Activity` of an environment, 0 once it has ended; ")
