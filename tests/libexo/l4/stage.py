"""A cast of X.2 threads on the simulated machine: each does a script of calls, and returns what it saw.

    def server(cast): ...
    def client(cast): return said(l4.Call(cast.server))
    assert play(server=server, client=client)["client"] == Said((7,))

Each part is the first thread of an environment of its own; `Cast.beside` makes further threads in it. All know each
other by name. Time is the machine's: a part that sleeps lets the others get to where the test wants them.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from kernel.abi.ids import thread_id
from kernel.abi.messages import IpcCode, Phase
from libexo import attach, l4
from libexo.ipc import READY
from libexo.l4.entries import entry
from libexo.l4.format.constants import ipc_error_parts
from libexo.testing import System, Task, simulated
from libexo.testing.system import Holding, Wrap

Part = Callable[["Cast"], object]

MOMENT: Final = 10_000
"""Long enough for everybody else to get where they wait, in microseconds; longer than any zero time-out."""
LONG: Final = 100 * MOMENT
WAITS: Final = "waits"
"""The result of a part that has not ended."""
READY_US: Final = int(READY * 1e6)
"""What a zero time-out allows a partner who is about to receive, in microseconds."""
NEVER: Final = l4.Timeouts(l4.Never, l4.Never)
"""Both phases wait for as long as it takes."""
_FIRST_BESIDE = 2000
_PATIENCE = 1000
"""How many moments a part that is through waits for the threads it made."""
SEEDS = range(5)


class Said(NamedTuple):
    """A message as it was received: its words, its label, the flags of its tag."""

    words: tuple[int, ...]
    label: int = 0
    flags: str = ""


class Failed(NamedTuple):
    """A failed IPC: what its tag and ErrorCode say."""

    code: IpcCode
    phase: Phase
    offset: int = 0


TIMED_OUT: Final = {phase: Failed(IpcCode.TIMEOUT, phase) for phase in Phase}
NO_PARTNER: Final = {phase: Failed(IpcCode.NO_PARTNER, phase) for phase in Phase}


class Cast:
    """The threads of a play."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.ids: dict[str, int] = {}
        self.results: dict[str, object] = {}
        self.tasks: dict[str, Task] = {}
        self._besides: dict[int, list[str]] = {}

    def __getattr__(self, name: str) -> int:
        try:
            return self.ids[name]
        except KeyError:
            raise AttributeError(f"nobody in the cast is called {name!r}") from None

    def add(self, name: str, part: Part, holds: Sequence[Holding] = ("factory",)) -> Task:
        """Let *part* be the first thread of an environment of its own."""
        task = self.tasks[name] = self.system.spawn(lambda _: self._live(part), name, holds=holds)
        self.ids[name] = task.thread
        return task

    def _live(self, part: Part) -> object:
        """Do *part*, and stay until the threads it made are through, or wait for ever: they end with it."""
        names = self._besides[attach().number] = []
        result = part(self)
        for _ in range(_PATIENCE):
            if all(other in self.results for other in names):
                break
            sleep()
        return result

    def beside(self, name: str, part: Part, *, pager: int = l4.nilthread) -> int:
        """Have *part* run as another thread of the calling environment, and return its id, once it was started."""
        thread = self.waiting(name, pager)

        def begin(_: int) -> None:
            self.results[name] = part(self)

        self.start(thread, entry_of(name, begin))
        return thread

    def waiting(self, name: str, pager: int = l4.nilthread) -> int:
        """Make another thread of the calling environment, which waits for its start message."""
        me, thread = l4.Myself(), thread_id(_FIRST_BESIDE + len(self.ids))
        self._besides[attach().number].append(name)
        assert l4.ThreadControl(thread, me, me, pager or me), l4.ErrorCode_String(l4.ErrorCode())
        self.ids[name] = thread
        return thread

    def start(self, thread: int, ip: int, sp: int = 0) -> None:
        """Send the start message."""
        put(ip, sp)
        assert not l4.Send(thread).E

    def result(self, name: str) -> Any:  # noqa: ANN401 - whatever the part returned
        """The result of *name*, or WAITS."""
        task = self.tasks.get(name)
        if task is None:
            return self.results.get(name, WAITS)
        return WAITS if task.status is None else task.result


def entry_of(name: str, begin: Callable[[int], object]) -> int:
    """The entry of a function that is a part's own."""

    def named(sp: int) -> object:
        return begin(sp)

    named.__qualname__ = f"part {name}"
    return entry(named)


@contextmanager
def stage(*, seed: int = 0, wrap: Wrap | None = None) -> Iterator[Cast]:
    """A machine, and nobody on it yet."""
    with simulated(seed=seed, wrap=wrap) as system:
        yield Cast(system)


def play(*, seed: int = 0, wrap: Wrap | None = None, **parts: Part) -> dict[str, Any]:
    """Run *parts* until nothing is left to do; return what each thread of the cast returned."""
    with stage(seed=seed, wrap=wrap) as cast:
        for name, part in parts.items():
            cast.add(name, part)
        cast.system.run()
        return {name: cast.result(name) for name in cast.ids}


# ------------------------------------------------------------------------------------------- in a part's script


def put(*words: int, label: int = 0, p: bool = False) -> l4.MsgTag:
    """Load a message of untyped *words*; return its tag."""
    tag = l4.MsgTag.of(label=label, u=len(words))
    tag = l4.Set_Propagation(tag) if p else tag
    l4.LoadMRs(0, (int(tag), *words))
    return tag


def said(tag: l4.MsgTag) -> Said | Failed:
    """The message of an IPC that ended with *tag*, or its failure."""
    if tag.E:
        return failure()
    flags = "".join(name for name in "prX" if getattr(tag, name))
    return Said(l4.StoreMRs(1, tag.u), tag.label, flags)


def failure() -> Failed:
    """The ErrorCode of the last IPC, which failed."""
    phase, code, offset = ipc_error_parts(l4.ErrorCode())
    return Failed(code, phase, offset)


def heard(received: tuple[int, l4.MsgTag]) -> tuple[int, Said | Failed]:
    """The message and the sender of `Wait` and its like."""
    sender, tag = received
    return sender, said(tag)


def await_name(cast: Cast, name: str) -> int:
    """Wait until thread *name* is there, and receives; return its id."""
    while name not in cast.ids:
        sleep(100)
    sleep(3_000)
    return cast.ids[name]


def sleep(microseconds: int = MOMENT) -> int:
    """Let that much time pass; return what the clock says then."""
    l4.Sleep(l4.TimePeriod(microseconds))
    return now()


def now() -> int:
    """The environment's clock, in microseconds."""
    return l4.SystemClock()
