"""Extents that programs show to this server: pages of rules, memory to be saved, and the places for that.

The server holds a capability derived from the program's, which goes with it; so nothing is to be given back.
After a restart the successor finds them among its capabilities: the kernel says from whom each came.
"""

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Kind, Rights
from libexo.errors import MemoryTaken, TrapRefused
from libexo.pressure import RuleSet, Run, decode
from servers.memory.policy import NotAllowed, check_shown

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

    from kernel.abi.traps import Inspection
    from libexo.environment import Environment
    from libexo.kip import EnvironmentRow
    from servers.memory.lent import Held

STEP = 256 * FRAME_SIZE
"""Bytes copied at a time: other programs wait meanwhile."""


class Shown:
    """Them, by who shows them, in the order they came."""

    def __init__(self, environment: "Environment", held: "Held") -> None:
        """Find what was shown to a predecessor, among *held*."""
        self._environment = environment
        self._of: dict[int, dict[int, Inspection]] = {}
        """By thread: what each handle is to."""
        living = {row.thread for row in environment.kip.environments()}
        for handle, found in held.items():
            if found.kind == Kind.EXTENT and found.origin in living:
                self._of.setdefault(found.origin, {})[handle] = found

    def __len__(self) -> int:
        """The number of extents."""
        return sum(map(len, self._of.values()))

    def __contains__(self, handle: int) -> bool:
        """Whether *handle* is of one of them."""
        return any(handle in of for of in self._of.values())

    def add(self, row: "EnvironmentRow", members: "Iterable[EnvironmentRow]", handle: int) -> None:
        """Keep *handle*, which *row*'s environment showed. Raises QuotaExceeded, NotAllowed."""
        self.review()
        check_shown(sum(len(self._of.get(each.thread, ())) for each in members), len(self))
        found = self._environment.sys.inspect(handle)
        if found.origin != row.thread:
            raise NotAllowed("the extent is not the caller's to show")
        try:
            with self._mapped(handle):
                pass
        except (TrapRefused, OSError) as error:
            raise NotAllowed(f"the server cannot map it: {error}") from error
        self._of.setdefault(row.thread, {})[handle] = found

    def review(self) -> None:
        """Forget what is not there any more."""
        left = self._environment.sys.inspections([handle for of in self._of.values() for handle in of])
        of = {thread: {h: one for h, one in of.items() if h in left} for thread, of in self._of.items()}
        self._of = {thread: handles for thread, handles in of.items() if handles}

    def rules(self, thread: int) -> RuleSet:
        """Return what *thread* said of its memory last; its page of rules is spared first."""
        for handle, found in reversed(self._of.get(thread, {}).items()):
            rules = self._read(handle) if found.count == 1 else None
            if rules is not None:
                return rules._replace(spared=(Run(found.first, 1), *rules.spared))
        return RuleSet()

    def _read(self, handle: int) -> RuleSet | None:
        with suppress(TrapRefused, OSError, MemoryTaken), self._mapped(handle) as view:
            page = bytes(view)
            self._environment.views.check([handle])
            return decode(page)
        return None

    def save(self, thread: int, first: int, place: int) -> "Generator[None, None, bool]":
        """Copy the extent that *thread* has at frame *first* to the one at *place*; return whether it is there.

        Both must have been shown.
        """
        source, target = self._find(thread, first, Rights.READ), self._find(thread, place, Rights.WRITE)
        if source is None or target is None:
            return False
        with (
            suppress(TrapRefused, OSError, MemoryTaken),
            self._mapped(source) as old,
            self._mapped(target) as new,
        ):
            if new.readonly or len(new) < len(old):
                return False
            for at in range(0, len(old), STEP):
                part = old[at : at + STEP]
                new[at : at + len(part)] = part
                yield
            self._environment.views.check([source, target])
            return True
        return False

    def _find(self, thread: int, first: int, right: Rights) -> int | None:
        of = self._of.get(thread, {}).items()
        return next((h for h, found in of if found.first == first and found.rights & right), None)

    @contextmanager
    def _mapped(self, handle: int) -> "Iterator[memoryview]":
        """Map it for a while. What its owner takes back meanwhile is zeros, which `views.check` tells."""
        views = self._environment.views
        views.lent([handle])
        view = views.map(handle)
        try:
            yield view
        finally:
            views.unmap(view)
