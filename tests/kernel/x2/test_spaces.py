"""Address spaces that ThreadControl makes: environments without a body, until something runs in them."""

import pytest

from hwmodel.machine import Exhausted
from kernel.abi import traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.ids import thread_number
from kernel.abi.kip import EnvironmentState, ThreadState
from kernel.abi.program import Program, ProgramKind
from tests.kernel.controls import (
    NEW,
    OTHER,
    PROGRAM,
    SPACE_UTCB,
    TALKER,
    UTCB,
    control,
    home_of,
    launched,
    root,
    row,
    space,
    thread_news,
)
from tests.kernel.puppets import refusal, theatre
from tests.kernel.x2.test_thread_refusals import snapshot


def test_a_fresh_space() -> None:
    """A space made by ThreadControl is an environment without a body: it is shown, named, and holds nothing."""
    with theatre() as stage:
        boss = root(stage)
        control(boss, NEW, NEW, scheduler=boss.thread)
        home = home_of(stage, NEW)

        assert (home.state, home.name, home.thread) == (EnvironmentState.STARTING, "space-1000", NEW)
        assert (home.launched, home.pid, home.table.used) == (False, 0, 0)
        assert row(stage, NEW) == (NEW, home.number + 1, ThreadState.INACTIVE, 0, boss.thread, 0)
        assert stage.kernel.kip.owner("space-1000") == NEW


def test_a_name_for_a_space() -> None:
    """A space gets a name of its own, even if other spaces have that name."""
    with theatre() as stage:
        boss = root(stage)
        stage.puppet("space-1000")
        control(boss, NEW, NEW, scheduler=boss.thread)

        assert home_of(stage, NEW).name == "space-1000+"


def test_a_space_is_launched_by_its_first_pager() -> None:
    """The thread that is activated first in a space starts its program, and is the first thread of that."""
    with theatre() as stage:
        boss = root(stage)
        space(boss)
        control(boss, OTHER, NEW, scheduler=boss.thread)
        trap = traps.ThreadControl(OTHER, NEW, pager=boss.thread, program=TALKER)
        boss.sys.thread_control(trap, [stage.machine.console()])
        child = stage.of(home_of(stage, OTHER))

        assert (child.environment.state, child.thread) == (EnvironmentState.READY, OTHER)
        assert child.body.given(TALKER.roles[0]) is not None
        assert child.sys.kernel_interface()[0].thread == OTHER == stage.kernel.kip.owner("space-1000")
        assert thread_news(child) == [(0, OTHER, boss.thread, boss.thread, SPACE_UTCB)]
        assert row(stage, NEW)[1:3] == (child.environment.number + 1, ThreadState.INACTIVE)


def test_what_a_space_inherits() -> None:
    """The environment of a space may call whom its creator may, and runs under its creator's plan."""
    with theatre() as stage:
        stage.machine.programs["child"] = lambda: None
        friend = stage.puppet("friend")
        boss = stage.puppet("root", holds=("factory",), cpu=0, may_bind=[thread_number(friend.thread)])
        control(boss, NEW, NEW, scheduler=boss.thread)

        home = home_of(stage, NEW)
        assert (home.cpu, home.may_bind) == (0, boss.environment.may_bind)


def test_the_last_thread_frees_the_space() -> None:
    """A space without a body goes with its last thread, and is known by another while it has one."""
    with theatre() as stage:
        boss = root(stage)
        space(boss)
        control(boss, OTHER, NEW, scheduler=boss.thread)
        control(boss, NEW, 0)
        first = home_of(stage, OTHER).thread, stage.kernel.kip.owner("space-1000")
        control(boss, OTHER, 0)

        assert first == (OTHER, OTHER)
        assert [e.name for e in stage.kernel.environments] == ["root"]
        assert stage.kernel.kip.owner("space-1000") == 0


def test_a_space_left_by_its_only_thread() -> None:
    """When the only thread of a space that runs nothing is moved away, the space is gone, the thread is not."""
    with theatre() as stage:
        boss, a = root(stage), stage.puppet("a")
        control(boss, NEW, NEW, scheduler=boss.thread)
        control(boss, NEW, a.thread)
        control(boss, NEW, NEW, pager=boss.thread)

        assert {e.name for e in stage.kernel.environments} == {"root", "a"}
        assert thread_news(a) == [(0, NEW, boss.thread, boss.thread, UTCB)]


def test_a_space_can_be_made_again_at_once() -> None:
    """When a space was deleted by its last thread, the same thread can be created again before its body ended."""
    with theatre() as stage:
        boss = root(stage)
        child = launched(stage, boss)
        control(boss, NEW, 0)
        space(boss)
        again = home_of(stage, NEW)
        stage.settle()

        assert (child.alive, again.alive) == (False, True)
        assert again is not child.environment


def test_a_program_that_cannot_be_started() -> None:
    """When the program of a space cannot be started, its environment ends, and its threads are gone."""
    with theatre() as stage:
        boss = root(stage)
        space(boss)
        nothing = Program(ProgramKind.PYTHON, ("no such program",))
        control(boss, NEW, NEW, pager=boss.thread, program=nothing)
        home = home_of(stage, NEW)
        stage.settle()

        assert (home.alive, home.fault) == (False, Fault.NOT_STARTED)
        assert row(stage, NEW) == (0,) * 6


@pytest.mark.parametrize("what", ["page", "launch"])
def test_a_host_that_lends_no_more(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the host lends no memory for a space, or no body for its program, nothing has changed."""

    def none_left(*_arguments: object, **_named: object) -> None:
        raise Exhausted("none left")

    with theatre() as stage:
        boss = root(stage)
        space(boss)
        before = snapshot(stage)
        monkeypatch.setattr(stage.machine, what, none_left)
        wishes = {"page": {}, "launch": {"pager": boss.thread, "program": PROGRAM}}[what]
        thread = {"page": OTHER, "launch": NEW}[what]
        refused = refusal(control, boss, thread, thread, scheduler=boss.thread, **wishes)
        after = snapshot(stage)
        monkeypatch.undo()

        assert refused == Refusal.HOST_FULL
        assert after == before
