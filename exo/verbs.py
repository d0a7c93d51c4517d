"""Every verb with its one line, so that `exo --help` imports none of them; and the parser of each."""

import importlib
from typing import TYPE_CHECKING, Protocol

from exo.system import Usage

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

VERBS = {
    "up": "boot a system, in front of you or detached",
    "kickstart": "boot exactly the servers and programs that are named, in that order",
    "down": "end the system",
    "status": "show the state of the system",
    "ping": "ask servers whether they serve",
    "run": "run a program in an environment of its own",
    "serve": "start a server",
    "kill": "send a signal to programs and servers, by name",
    "ps": "list environments",
    "top": "list environments, again and again",
    "logs": "show what programs, servers and the kernel wrote",
    "mem": "show how much memory each environment has",
    "press": "ask a program for memory",
    "sched": "show the plan of each processor",
    "cpu": "list processors, take one out, put it back",
    "trace": "show what happened in the kernel, event by event",
    "doctor": "say what this host gives, and how to get the rest",
    "tour": "see every server do a checked piece of work",
    "bench": "measure, beside an outside reference",
    "completion": "print the completion of a shell",
}

INTERMIXED = ("kickstart", "sched")
"""Verbs whose options may be between their other words."""


class Verb(Protocol):
    """The module of a verb."""

    ARGUMENTS: str
    EXAMPLES: str
    __doc__: str | None

    def configure(self, parser: "ArgumentParser") -> None:
        """Add the verb's own options to *parser*."""

    def main(self, options: "Namespace") -> int:
        """Do it; return the exit status."""


def load(name: str) -> Verb:
    """Import the module of a verb. Raises Usage for an unknown name."""
    if name not in VERBS:
        raise Usage(f"there is no verb {name!r}: 'exo --help' lists them{_nearest(name)}")
    verb: Verb = importlib.import_module(f"exo.{name}")
    return verb


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, VERBS, 1)
    return f"; did you mean '{near[0]}'?" if near else ""


def parser(name: str) -> "ArgumentParser":
    """Return the parser of a verb, with the options that all verbs have."""
    import argparse

    verb = load(name)
    made = argparse.ArgumentParser(
        prog=f"exo {name}",
        usage=f"exo {name} {verb.ARGUMENTS}".rstrip(),
        description=verb.__doc__,
        epilog=f"examples:\n{verb.EXAMPLES}" if verb.EXAMPLES else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "--run",
        metavar="DIR",
        help="the run directory of the system (default: EXO_RUN, or the one 'exo up' takes)",
    )
    verb.configure(made)
    return made


def parse(name: str, words: "Sequence[str]") -> "Namespace":
    """Return the options of verb *name* as *words* give them."""
    made = parser(name)
    return made.parse_intermixed_args(words) if name in INTERMIXED else made.parse_args(words)


def overview() -> str:
    """Return the text of `exo --help`."""
    width = max(map(len, VERBS))
    lines = [f"  {name:{width}}  {line}" for name, line in VERBS.items()]
    return "\n".join(
        [
            "usage: exo [--run DIR] VERB ...",
            "",
            "An exokernel that boots as ordinary processes: the kernel is one, each server and each program too.",
            "",
            *lines,
            "",
            "to begin with:",
            "  exo tour                       see all of it at work, in two seconds",
            "  exo up -d                      boot a system and leave it running",
            "  exo run -- hello.py            run a program there; its streams, signals and exit status are yours",
            "  exo down                       end it",
            "",
            "'exo VERB --help' explains a verb. EXO_RUN or --run names the run directory, so that several systems",
            "can run side by side.",
        ]
    )
