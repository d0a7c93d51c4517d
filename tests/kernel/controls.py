"""ThreadControl and SpaceControl as a privileged puppet makes them, and rows of the thread table."""

from typing import Any

from kernel.abi import traps
from kernel.abi.ids import ANY_LOCAL_THREAD, ThreadId, thread_id, thread_number
from kernel.abi.kip import THREAD, THREADS, UTCB_SIZE
from kernel.abi.messages import Label
from kernel.abi.program import Program, ProgramKind, Role
from kernel.abi.space import UTCB_AREA
from kernel.environment import Environment
from libexo import attach
from tests.kernel.puppets import Puppet, Theatre, wait_for_ever

NEW = thread_id(1000)
"""A thread id nobody has."""
OTHER = thread_id(1001)
PROGRAM = Program(kind=ProgramKind.PYTHON, argv=("child",))
TALKER = Program(kind=ProgramKind.PYTHON, argv=("child",), roles=(Role.STDOUT,))
UTCB = UTCB_AREA.start + UTCB_SIZE
"""The first location in a default area that is free."""
LOCAL = ANY_LOCAL_THREAD
"""An id that is no global one."""
KIP_AREA = 0x5000_0000_0000 | 20 << 4
SPACE_UTCB = 0x6000_0000_0000
SPACE_AREA = SPACE_UTCB | 12 << 4
"""A UTCB area for four threads."""


def root(stage: Theatre) -> Puppet:
    """A puppet that may control threads, and a program that spaces can run."""
    stage.machine.programs["child"] = lambda: wait_for_ever(attach())
    return stage.puppet("root", holds=("factory",))


def control(puppet: Puppet, thread: int, space: int, **wishes: Any) -> None:  # noqa: ANN401 - fields of the trap
    """Do a ThreadControl."""
    puppet.sys.thread_control(traps.ThreadControl(thread, space, **wishes))


def thread_in(boss: Puppet, home: Puppet, thread: ThreadId = NEW, **wishes: Any) -> ThreadId:  # noqa: ANN401
    """Create an active thread in the space of *home*."""
    control(boss, thread, home.thread, **{"scheduler": boss.thread, "pager": boss.thread, **wishes})
    return thread


def space(boss: Puppet, thread: ThreadId = NEW, *, area: int = SPACE_AREA) -> None:
    """Create a space with one inactive thread, and initialise it."""
    control(boss, thread, thread, scheduler=boss.thread)
    boss.sys.space_control(thread, 0, KIP_AREA, area)


def launched(stage: Theatre, boss: Puppet, thread: ThreadId = NEW) -> Puppet:
    """Create a space and activate its thread in it."""
    space(boss, thread)
    control(boss, thread, thread, pager=boss.thread, program=PROGRAM)
    return stage.of(home_of(stage, thread))


def home_of(stage: Theatre, thread: int) -> Environment:
    """Return the environment of a thread, active or not."""
    found = stage.kernel.threads.known(thread)
    assert found is not None
    return found.environment


def row(stage: Theatre, thread: int) -> tuple[int, ...]:
    """Return the row of a thread in the KIP: id, environment + 1, state, pager, scheduler, redirector."""
    at = THREADS + thread_number(thread) * THREAD.size
    return THREAD.unpack_from(stage.kernel.kip._buffer, at)


def thread_news(puppet: Puppet) -> list[tuple[int, ...]]:
    """Return the words of what the kernel told it about its own threads since the last time."""
    return [words for label, words in puppet.told() if label == Label.THREAD]
