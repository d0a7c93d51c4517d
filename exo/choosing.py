"""Words of people about policies: which one, with which arguments, tried on which programs."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from exo import numbers
from exo.system import Trouble, Usage

if TYPE_CHECKING:
    from servers.scheduler.api import Choice


def configure(parser: ArgumentParser) -> None:
    """Add the options of 'compare'."""
    compare = parser.add_argument_group("of 'compare'")
    compare.add_argument(
        "--real",
        action="store_true",
        help="with real programs on the running system, one policy after another",
    )
    compare.add_argument(
        "--seconds", type=numbers.seconds, default=10, help="how long under each policy (10)"
    )
    compare.add_argument("--seed", type=numbers.count, default=0, help="what is by chance is by this (0)")
    compare.add_argument(
        "--program",
        action="append",
        default=[],
        metavar="NAME=KIND,KEY=VALUE…",
        help="a program: loop; sleeps or bursts with run=2ms sleep=10ms; periodic with period=20ms runtime=5ms; "
        "weight and other keys are what the policy is told (default: a usual mix)",
    )


def choice(policy: str, words: Sequence[str]) -> "Choice":
    """Return the choice of *policy*, with arguments *words*. Raises Usage, Trouble."""
    from servers.scheduler.api import Choice

    file, colon, name = policy.rpartition(":")
    if not policy:
        raise Usage("name a policy: one that 'exo sched policies' lists, or FILE.py:Class")
    if not colon and policy.endswith(".py"):
        raise Usage(f"name the class in {policy}: exo sched use {policy}:MyPolicy")
    source = _text(file) if colon else ""
    return Choice(name, dict(map(pair, words)), source, str(Path(file).resolve()) if colon else "")


def _text(file: str) -> str:
    from servers.scheduler.api import MAX_SOURCE

    try:
        data = Path(file).read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Trouble(f"{file} cannot be read: {error}") from None
    if len(data) > MAX_SOURCE:
        raise Trouble(f"{file} has {len(data)} bytes, a policy's file at most {MAX_SOURCE}")
    return text


def pair(word: str) -> "tuple[str, int | float | str]":
    """Return key and value of *word*. Raises Usage."""
    key, equals, value = word.partition("=")
    if not key.isidentifier() or not equals:
        raise Usage(f"{word!r} is no KEY=VALUE")
    return key, _value(value)


def _value(text: str) -> "int | float | str":
    """Return a number, a time in whole nanoseconds, or the text."""
    if (nanoseconds := numbers.time(text)) is not None:
        return nanoseconds
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
