"""Replacement of a server of the topology by another program, while its clients go on.

The old one is ended, and the new one is its successor: it has its thread number, its name, its capabilities, and
its estate. It is *tried* until the operator confirms that it answers. When it ends before that, or is
called off, what ran before is put back.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from kernel.abi.program import Back, ProgramKind
from kernel.abi.topology import ServerConfig
from servers.process import policy
from servers.process.api import Exit, ProgramSpec
from servers.process.policy import CannotReplace, SpawnRefused

if TYPE_CHECKING:
    from servers.process.children import Child
    from servers.process.keeper import Keeper

Tell = Callable[[str], None]
"""Takes the outcome, in words; empty: success."""


def spec_of(name: str, server: ServerConfig) -> ProgramSpec:
    """Return the program that the topology names for server *name*."""
    kind = ProgramKind.PYTHON if server.is_file else ProgramKind.SERVER
    return ProgramSpec(int(kind), server.argv, name, share=0, restart=server.restart)


class Replacement:
    """One server that is being replaced."""

    def __init__(
        self, before: ProgramSpec, spec: ProgramSpec, descriptors: list[object], roles: tuple[int, ...]
    ) -> None:
        """Have *spec* take the place of what ran *before*; its descriptors are consumed."""
        self.before = before
        self.spec = spec
        self.descriptors = descriptors
        self.roles = roles
        self.back = Back.SAME
        self.tried: Child | None = None
        """The new program, once it was started."""
        self.began: Tell = _nothing
        """Called when the new one was started, or with the reason why it was not."""
        self.over: Tell = _nothing
        """Called with the reason when the old one is back."""
        self.why = ""
        """Why it is called off."""


def _nothing(_text: str) -> None:
    """Ignore the outcome."""


class Replacements:
    """All servers that are being replaced, by name."""

    def __init__(self, server: "Keeper") -> None:
        """Start with none."""
        self._server = server
        self._under_way: dict[str, Replacement] = {}

    def begin(
        self,
        name: str,
        spec: ProgramSpec | None,
        descriptors: list[object],
        roles: tuple[int, ...],
        began: Tell,
    ) -> Replacement:
        """End server *name*, and start *spec* in its place; None: what the topology names.

        *began* is called when that was started, or with the reason. Raises CannotReplace, NoSuchProgram.
        """
        config = self._server.topology.server.get(name)
        if config is None or config.start == "attach" or "factory" in config.holds:
            raise CannotReplace(
                f"{name} cannot be replaced: only servers that the topology starts, and that hold no factory, can"
            )
        if name in self._under_way:
            raise CannotReplace(f"{name} is being replaced already")
        child = self._server.named(name)
        made = Replacement(child.spec, spec or spec_of(name, config), descriptors, roles)
        made.spec.name, made.spec.share, made.spec.restart = name, 0, config.restart
        made.back = Back.SAME if spec is not None else Back.FIRST
        made.began = began
        self._under_way[name] = made
        self._server.signal(child, 9)
        return made

    def ended(self, child: "Child", exited: Exit) -> bool:
        """Go on with the replacement of *child*, which ended; say whether there was one."""
        made = self._under_way.get(child.spec.name)
        if made is None:
            return False
        if made.tried is not None:
            made.why = made.why or f"it ended before it answered: {_how(exited)}"
            self._put_back(made, child)
            return True
        if made.why:
            del self._under_way[made.spec.name]
            self._server.succeed_or_retry(child)
            made.over(made.why)
            return True
        began, made.began = made.began, _nothing
        try:
            made.tried = self._server.succeed(child, made.spec, made.descriptors, made.roles, made.back)
        except SpawnRefused as refused:
            del self._under_way[made.spec.name]
            self._server.succeed_or_retry(child)
            began(str(refused))
        else:
            began("")
        return True

    def keep(self, made: Replacement) -> str:
        """Keep the new one, which answers. Return why that fails when it has ended meanwhile."""
        if self._under_way.get(made.spec.name) is made and not made.why:
            del self._under_way[made.spec.name]
        return made.why

    def call_off(self, made: Replacement, why: str, over: Tell) -> None:
        """Put back what ran before, because of *why*; *over* is called when that is done."""
        if self._under_way.get(made.spec.name) is not made:
            over(made.why or "there is nothing to call off")
            return
        made.why, made.over = made.why or why, over
        if made.tried is not None:
            self._server.signal(made.tried, 9)

    def _put_back(self, made: Replacement, child: "Child") -> None:
        """Start what ran before as the successor of *child*; if that is refused now, later."""
        changed = bool(made.roles) or made.back == Back.FIRST
        back = Back.BEFORE if changed else Back.SAME
        try:
            self._server.succeed(child, made.before, [], (), back)
        except SpawnRefused as refused:
            text = f"{made.spec.name} is not back yet: {refused}"
            print(text, file=sys.stderr)  # noqa: T201 - that is the log
            self._server.server.after(policy.MAX_DELAY, lambda: self._put_back(made, child))
            return
        del self._under_way[made.spec.name]
        made.over(made.why)


def _how(exited: Exit) -> str:
    """Return how a program ended, in words."""
    return exited.text or (f"signal {-exited.status}" if exited.status < 0 else f"status {exited.status}")
