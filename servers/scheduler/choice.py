"""The policy that is in force: one by name, or a class of an operator's own."""

import linecache
from collections.abc import Callable
from types import ModuleType
from typing import Any

from libexo.sched import Policy
from servers.scheduler.apart import Apart
from servers.scheduler.api import Choice
from servers.scheduler.policies import POLICIES
from servers.scheduler.settings import PolicyRefused


def make(choice: Choice) -> Policy:
    """Return a new policy. Raises PolicyRefused."""
    kind = _defined(choice) if choice.source else POLICIES.get(choice.name)
    if kind is None:
        raise PolicyRefused(f"there is no policy {choice.name!r}: {', '.join(POLICIES)}, or FILE.py:Class")
    if not callable(getattr(kind, "plan", None)):
        raise PolicyRefused(f"{choice.name} has no method plan(members, now): see libexo.sched")
    if getattr(kind, "everywhere", False):
        whole: Policy = attempt(f"{choice} cannot be made", lambda: kind(**choice.parameters))
        return whole
    apart: Policy = attempt(f"{choice} cannot be made", lambda: Apart(lambda: kind(**choice.parameters)))
    return apart


def _defined(choice: Choice) -> Callable[..., Policy]:
    module = ModuleType("policy")
    module.__file__ = choice.file
    lines = choice.source.splitlines(keepends=True)
    linecache.cache[choice.file] = len(choice.source), None, lines, choice.file
    code = attempt("its file is no Python", lambda: compile(choice.source, choice.file, "exec"))
    attempt("its file cannot be run", lambda: exec(code, module.__dict__))  # noqa: S102 - an operator's own
    kind = getattr(module, choice.name, None)
    if not isinstance(kind, type):
        classes = [name for name, each in vars(module).items() if isinstance(each, type)]
        raise PolicyRefused(
            f"{choice.file} has no class {choice.name!r}: it has {', '.join(classes) or 'none'}"
        )
    return kind


def attempt(what: str, does: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """Return what an operator's code *does*. Raises PolicyRefused: it raised."""
    try:
        return does()
    except Exception as error:
        raise PolicyRefused(f"{what}: {type(error).__name__}: {error}") from error


def known() -> dict[str, str]:
    """Return each policy with the first line of what it says of itself."""
    return {name: (kind.__doc__ or "").partition("\n")[0] for name, kind in POLICIES.items()}
