"""SIGTERM in a program: it ends as by an exception, so that its handlers, `finally` and `atexit` run.

An exception that is raised while the interpreter collects garbage, or calls back, goes nowhere: it is shown and
forgotten. Then it is raised once more, a moment later, where the program goes on.
"""

import os
import signal
import sys
import threading
from contextlib import suppress
from typing import NoReturn

_MOMENT = 0.01
"""Seconds until it is raised once more: here it would go nowhere, too."""


class Terminated(SystemExit):
    """SIGTERM came."""


def expect() -> None:
    """Have SIGTERM raise Terminated from now on."""
    signal.signal(signal.SIGTERM, _raise)
    sys.unraisablehook = _raise_again


def leave() -> None:
    """The program ends anyway: what one exit function does not hear, no other needs to."""
    if sys.unraisablehook is _raise_again:
        sys.unraisablehook = _forget


def _raise(_number: int, _frame: object) -> NoReturn:
    raise Terminated(128 + signal.SIGTERM)


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    if isinstance(lost.exc_value, Terminated):
        with suppress(RuntimeError):  # the host has no thread for it
            threading.Timer(_MOMENT, os.kill, (os.getpid(), signal.SIGTERM)).start()
    else:
        sys.__unraisablehook__(lost)


def _forget(lost: "sys.UnraisableHookArgs") -> None:
    if not isinstance(lost.exc_value, Terminated):
        sys.__unraisablehook__(lost)
