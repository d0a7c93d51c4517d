"""Families: a task and the spaces it makes by ThreadControl may send to one another, whatever their lists say."""

import pytest

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_number
from kernel.abi.kip import UTCB_SIZE
from libexo import attach
from tests.kernel.controls import (
    NEW,
    OTHER,
    PROGRAM,
    SPACE_UTCB,
    control,
    home_of,
    launched,
    space,
    thread_in,
)
from tests.kernel.puppets import Puppet, Theatre, refusal, theatre, wait_for_ever
from tests.kernel.test_bindings import bind
from tests.kernel.test_environments import child, create, creator, newest

conforms = pytest.mark.conforms
pytestmark = conforms("ThreadControl: create and activate")


def listed(stage: Theatre, friend: Puppet, name: str = "boss") -> Puppet:
    """A privileged puppet that may call *friend* and itself, as a root task of the topology."""
    stage.machine.programs["child"] = lambda: wait_for_ever(attach())
    boss = stage.puppet(name, holds=("factory",), may_bind=[thread_number(friend.thread)])
    boss.environment.may_bind |= {thread_number(boss.thread)}
    return boss


def test_a_task_and_its_spaces_call_one_another() -> None:
    """A maker of spaces may call their threads, they may call it, and one another, despite its lists."""
    with theatre() as stage:
        friend = stage.puppet("friend")
        boss = listed(stage, friend)
        first = launched(stage, boss)
        space(boss, OTHER, area=SPACE_UTCB + (1 << 30) | 12 << 4)
        control(boss, OTHER, OTHER, pager=first.thread, program=PROGRAM)
        second = stage.of(home_of(stage, OTHER))
        pairs = [(a, b) for a in (boss, first, second) for b in (boss, first, second, friend) if a is not b]

        assert [bind(a, b.thread).thread for a, b in pairs] == [b.thread for _, b in pairs]


def test_a_second_thread_of_a_space() -> None:
    """The right is to the space, so to every thread in it, also to one that was moved there."""
    with theatre() as stage:
        boss = listed(stage, stage.puppet("friend"))
        child = launched(stage, boss)
        thread_in(boss, boss, OTHER)
        control(boss, OTHER, child.thread, utcb=SPACE_UTCB + UTCB_SIZE)

        assert bind(boss, OTHER).thread == OTHER
        assert bind(child, OTHER, OTHER).thread == OTHER


def test_strangers_stay_strangers() -> None:
    """A list holds against everybody else: neither the task nor its spaces may call others, nor one another's."""
    with theatre() as stage:
        friend, stranger = stage.puppet("friend"), stage.puppet("stranger")
        boss = listed(stage, friend)
        mine = launched(stage, boss)
        rival = listed(stage, friend, "rival")
        theirs = launched(stage, rival, OTHER)

        for caller, callee in [
            (boss, stranger),
            (mine, stranger),
            (boss, theirs),
            (mine, rival),
            (mine, theirs),
        ]:
            assert refusal(caller.sys.bind, callee.thread) == Refusal.MAY_NOT_BIND, (caller.name, callee.name)


def test_who_was_created_otherwise_is_no_family() -> None:
    """Neither a second thread in its space nor EnvironmentCreate makes a program one of its creator's family."""
    with theatre() as stage:
        boss, program = listed(stage, stage.puppet("friend")), stage.puppet("program")
        thread_in(boss, program)
        assert refusal(boss.sys.bind, NEW) == Refusal.MAY_NOT_BIND
        stage.machine.programs["made"] = stage.machine.programs["child"]
        made = boss.sys.environment_create(
            traps.EnvironmentCreate(factory=boss.handles[0], name="made", program=PROGRAM)
        )
        stage.settle()
        boss.sys.drop(made.environment)  # the right to end an environment includes asking for its heartbeat

        assert refusal(boss.sys.bind, made.thread) == Refusal.MAY_NOT_BIND


def test_a_successor_is_of_the_family() -> None:
    """A restarted program may go on calling the spaces that its predecessor made, and they it."""
    with theatre() as stage:
        overseer, friend = creator(stage), stage.puppet("friend")
        boss, handle = child(stage, overseer, keeps=True, may_bind=(thread_number(friend.thread),))
        stage.system.give(boss.task, stage.system._things("factory")[0])
        made = launched(stage, boss)
        stage.kill(boss)
        create(overseer, succeeds=handle)
        heir = stage.of(newest(stage))

        assert bind(heir, made.thread).thread == made.thread
        assert bind(made, heir.thread).thread == heir.thread


def test_a_redirector_holds_inside_a_family() -> None:
    """A space whose messages are redirected gets a binding to the redirector, for its creator's threads too."""
    with theatre() as stage:
        friend = stage.puppet("friend")
        boss = listed(stage, friend)
        child = launched(stage, boss)
        boss.sys.space_control(child.thread, 0, 0, 0, friend.thread)

        assert bind(child, boss.thread).thread == friend.thread
