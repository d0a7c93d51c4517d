"""Environments: how they come to be, how they end, what returns, and what a successor takes over."""

from itertools import pairwise

import pytest

from hwmodel.failures import Failure, FailureKind, Failures
from kernel.abi import traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.ids import thread_id, thread_number, thread_version
from kernel.abi.kip import Counter, EnvironmentState
from kernel.abi.limits import MAX_HANDLES
from kernel.abi.messages import Label
from kernel.abi.program import Program, ProgramKind, Role
from kernel.abi.rights import ALL_RIGHTS, Rights
from kernel.environment import Environment
from libexo import attach
from tests.kernel.puppets import Puppet, Theatre, refusal, theatre, wait_for_ever
from tests.libexo import moves

PROGRAM = Program(kind=ProgramKind.PYTHON, argv=("child",))
READ = Rights.READ


def creator(stage: Theatre) -> Puppet:
    """A puppet that may create environments, and a program they can run."""
    stage.machine.programs["child"] = lambda: wait_for_ever(attach())
    return stage.puppet("root", holds=("factory",))


def create(root: Puppet, name: str = "child", **options: object) -> traps.Created:
    made = traps.EnvironmentCreate(root.handles[0], name, PROGRAM, **options)  # type: ignore[arg-type]
    return root.sys.environment_create(made)


def newest(stage: Theatre) -> Environment:
    return list(stage.kernel.environments)[-1]


def child(stage: Theatre, root: Puppet, name: str = "child", **options: object) -> tuple[Puppet, int]:
    """Create one and move it; return it with the creator's handle."""
    made = create(root, name, **options)
    return stage.of(newest(stage)), made.environment


def test_create() -> None:
    """A new environment has a thread of its own, is published under its name, and holds nothing."""
    with theatre() as stage:
        root = creator(stage)
        made, handle = child(stage, root)

        assert stage.kernel.kip.owner("child") == made.thread
        assert (made.caps, made.environment.state) == ([], EnvironmentState.READY)
        assert (root.sys.inspect(handle).first, root.sys.inspect(handle).text) == (made.thread, "child")


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "ä" * 16, "x" * 16 + "ü" * 8])
def test_names_that_are_none(name: str) -> None:
    """A name has 1 to 31 bytes, all printable, none of them blank at an end."""
    with theatre() as stage:
        root = creator(stage)

        assert refusal(create, root, name) == Refusal.BAD_ARGUMENT
        assert refusal(root.sys.name_publish, root.handles[0], name, root.thread) == Refusal.BAD_ARGUMENT


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (Program(9, ("x",)), Refusal.BAD_ARGUMENT),
        (Program(1, ()), Refusal.BAD_ARGUMENT),
        (Program(1, ("a\0b",)), Refusal.BAD_ARGUMENT),
        (Program(1, ("x",), (("k", "\0"),)), Refusal.BAD_ARGUMENT),
        (Program(1, ("x",), (("", "v"),)), Refusal.BAD_ARGUMENT),
        (Program(1, ("x",), (("a=b", "v"),)), Refusal.BAD_ARGUMENT),
        (Program(1, ("x",), (), (Role.STDIN,)), Refusal.BAD_DESCRIPTORS),
    ],
)
def test_programs_that_cannot_be(program: Program, expected: Refusal) -> None:
    """A program the host could not start is refused at once, by what is wrong with it."""
    with theatre() as stage:
        root = creator(stage)
        trap = traps.EnvironmentCreate(root.handles[0], "child", program)

        assert refusal(root.sys.environment_create, trap) == expected


@pytest.mark.parametrize(("roles", "count"), [((0,), 2), ((0, 0), 2), ((99,), 1)])
def test_roles_fit_the_descriptors(roles: tuple[int, ...], count: int) -> None:
    """Each descriptor has one known role of its own, or none is taken; what came is closed."""
    with theatre() as stage:
        root = creator(stage)
        program = Program(1, ("child",), (), roles)
        given = [stage.machine.console() for _ in range(count)]
        trap = traps.EnvironmentCreate(root.handles[0], "child", program)

        assert refusal(root.sys.environment_create, trap, given) == Refusal.BAD_DESCRIPTORS
        assert all(descriptor.closed for descriptor in given)


def test_descriptors_reach_the_program() -> None:
    """A program starts with the descriptors that came for it, by role."""
    with theatre() as stage:
        root = creator(stage)
        program = Program(1, ("child",), (), (Role.STDOUT,))
        root.sys.environment_create(
            traps.EnvironmentCreate(root.handles[0], "child", program), [stage.machine.console()]
        )

        given = stage.of(newest(stage)).body.given(Role.STDOUT)
        assert given is not None
        assert given.owner == "1:child"


def test_names_are_taken_once() -> None:
    """Two living environments cannot have one name; when the first ended, the second can."""
    with theatre() as stage:
        root = creator(stage)
        first, handle = child(stage, root)
        taken = refusal(create, root)
        stage.kill(first)

        assert taken == Refusal.NAME_TAKEN
        assert thread_number(child(stage, root)[0].thread) > 0
        assert root.sys.inspect(handle).count == 0


def test_processors_there_are() -> None:
    """A processor beyond the machine's is refused."""
    with theatre() as stage:
        assert refusal(create, creator(stage), cpu=1) == Refusal.BAD_ARGUMENT


def test_how_it_ended() -> None:
    """The holder of a capability is told of the end, and may ask later how it came."""
    with theatre() as stage:
        root = creator(stage)
        made, handle = child(stage, root)
        stage.kill(made)
        [upcall] = root.upcalls()

        assert (upcall.label, upcall.words) == (Label.DEATH, (made.thread, 1, 0x10000 - 9, 0))
        assert (root.sys.inspect(handle).count, root.sys.inspect(handle).status) == (0, -9)


def test_the_record_goes_with_its_last_watcher() -> None:
    """A dead environment's row is kept while anybody holds a capability to it, and not longer."""
    with theatre() as stage:
        root = creator(stage)
        made, handle = child(stage, root)
        other = root.sys.derive(handle, READ)
        stage.kill(made)
        root.sys.drop(other)
        kept = made.environment in list(stage.kernel.environments)
        root.sys.drop(handle)

        assert kept
        assert made.environment not in list(stage.kernel.environments)


def test_one_that_watches_itself() -> None:
    """An environment that holds a capability to itself leaves no record of its own."""
    with theatre() as stage:
        made = stage.puppet("narcissus")
        stage.system.give(made.task, made.environment)
        stage.kill(made)

        assert list(stage.kernel.environments) == []


@pytest.mark.parametrize("how", ["destroy", "signal", "kill", "fault", "exit"])
def test_however_it_ends(how: str) -> None:
    """However an environment ends, all it had returns: frames, handles, bindings, names, lines."""
    with theatre() as stage:
        root = creator(stage)
        moves.open_inbox(root.env)
        before = stage.system.ledger()
        made, handle = child(stage, root)
        live_fully(stage, root, made)
        end_by(stage, root, made, handle, how)
        root.sys.drop(handle)

        before.check(stage.system.ledger())
        assert stage.kernel.interrupts.lines[1].handler is None


def live_fully(stage: Theatre, root: Puppet, made: Puppet) -> None:
    """Have *made* hold some of everything."""
    for kind in ("ram", "cpus", "interrupts"):
        for thing in list(stage.system._things(kind))[:2]:
            stage.system.give(made.task, thing)
    ram, lines = made.caps[0].handle, made.caps[-1].handle
    made.env.views.map(made.sys.carve(ram, 3).extent)
    made.sys.interrupt_bind(lines)
    made.sys.plan(made.caps[1].handle, [])
    moves.link(made.env, root.thread)
    root.sys.name_publish(root.handles[0], "alias", made.thread)


def end_by(stage: Theatre, root: Puppet, made: Puppet, handle: int, how: str) -> None:
    match how:
        case "destroy":
            root.sys.environment_destroy(handle)
        case "signal":
            root.sys.environment_signal(handle, 15)
        case "fault":
            assert made.raw(b"\xc1") is None
        case "exit":
            made.body.main.ready = lambda: True  # its program returns
        case _:
            made.kill()
    stage.settle()


def test_ended_ones_cannot_be_commanded() -> None:
    """Neither signals nor ends reach an environment that is gone, and numbers of no signal none at all."""
    with theatre() as stage:
        root = creator(stage)
        made, handle = child(stage, root)
        bad = [refusal(root.sys.environment_signal, handle, number) for number in (0, 65, 1 << 31)]
        stage.kill(made)

        assert bad == [Refusal.BAD_ARGUMENT] * 3
        assert refusal(root.sys.environment_signal, handle, 9) == Refusal.GONE
        assert refusal(root.sys.environment_destroy, handle) == Refusal.GONE


def test_threads_are_never_the_same_twice() -> None:
    """A number that is used again comes with its next version; the old id is stale by name."""
    with theatre() as stage:
        first = stage.puppet()
        old = first.thread
        stage.kill(first)
        others = [stage.puppet() for _ in range(3)]
        stage.kernel.threads._free.rotate(3)  # the numbers that were used last come up
        again = stage.puppet()
        while thread_number(again.thread) != thread_number(old):
            again = stage.puppet()

        assert thread_version(again.thread) == thread_version(old) + 2
        assert refusal(others[0].sys.bind, old) == Refusal.STALE_THREAD
        assert refusal(others[0].sys.bind, thread_id(5000)) == Refusal.NO_SUCH_THREAD


def test_a_successor_inherits() -> None:
    """A successor has its predecessor's capabilities under their handles, its name, and its next version."""
    with theatre() as stage:
        root = creator(stage)
        made, handle = child(stage, root, keeps=True)
        ram = stage.system.give(made.task, stage.system._things("ram")[0]).handle
        extent = made.sys.carve(ram, 2).extent
        stage.kill(made)
        kept = stage.kernel.frames.free
        create(root, "ignored", succeeds=handle)
        heir = stage.of(newest(stage))

        assert (kept, heir.name, heir.environment.frames) == (254, "child", 2)
        assert heir.sys.inventory() == (ram, extent)
        assert heir.thread == thread_id(thread_number(made.thread), thread_version(made.thread) + 2)


def test_the_dead_hold_nothing_once_succeeded() -> None:
    """After the succession the record of the dead shows no frames and no handles."""
    with theatre() as stage:
        root = creator(stage)
        made, handle = child(stage, root, keeps=True)
        stage.system.give(made.task, stage.system._things("ram")[0])
        stage.kill(made)
        create(root, succeeds=handle)
        stage.of(newest(stage))

        assert (made.environment.frames, made.caps) == (0, [])
        assert refusal(create, root, succeeds=handle) == Refusal.STILL_ALIVE
        assert stage.kernel.kip.counter(Counter.RESTARTS) == 1


def test_who_cannot_be_succeeded() -> None:
    """A living environment, one that keeps nothing, and what is no environment have no successor."""
    with theatre() as stage:
        root = creator(stage)
        _, living = child(stage, root, "living", keeps=True)
        plain, dead = child(stage, root, "plain")
        stage.kill(plain)
        found = [refusal(create, root, succeeds=h) for h in (living, dead, root.handles[0], 4096, 0xFFFF0001)]

        assert found == [
            Refusal.STILL_ALIVE,
            Refusal.STILL_ALIVE,
            Refusal.WRONG_KIND,
            Refusal.BAD_HANDLE,
            Refusal.STALE_HANDLE,
        ]


def test_an_estate_nobody_wants() -> None:
    """Capabilities kept by a dead environment return when no successor is possible any more."""
    with theatre() as stage:
        root = creator(stage)
        made, handle = child(stage, root, keeps=True)
        ram = stage.system.give(made.task, stage.system._things("ram")[0]).handle
        made.sys.carve(ram, 2)
        stage.kill(made)
        kept = stage.kernel.frames.free
        root.sys.drop(handle)
        stage.settle()

        assert (kept, stage.kernel.frames.free) == (254, 256)


def test_estates_held_by_the_dead() -> None:
    """Long chains of dead environments, each the last to watch the next, go without recursion."""
    with theatre() as stage:
        chain = [stage.puppet(f"p{n}", keeps=True) for n in range(250)]
        for watcher, watched in pairwise(chain):
            stage.system.give(watcher.task, watched.environment)
        for last in reversed(chain):
            stage.kill(last)

        assert list(stage.kernel.environments) == []


def test_a_program_that_does_not_start() -> None:
    """A program that could not be started has ended, with the fault and the reason in its record."""
    with theatre(failures=Failures([Failure(FailureKind.FAIL_LAUNCH, 1, 1)])) as stage:
        root = creator(stage)
        handle = create(root).environment
        stage.settle()
        inspection = root.sys.inspect(handle)

        assert (inspection.status, inspection.fault) == (127, Fault.NOT_STARTED)
        assert inspection.text == "child: a failure was injected"


def test_killed_before_it_ran() -> None:
    """An environment that is ended before its program started ends like any other."""
    with theatre() as stage:
        root = creator(stage)
        handle = create(root).environment
        root.sys.environment_destroy(handle)
        stage.settle()

        assert root.sys.inspect(handle).status == -9


def test_no_room_for_the_handle() -> None:
    """A creator whose table is full gets nothing, and the estate it wanted to pass on is untouched."""
    with theatre() as stage:
        root = creator(stage)
        made, handle = child(stage, root, keeps=True)
        stage.system.give(made.task, stage.system._things("ram")[0])
        stage.kill(made)
        while len(root.caps) < MAX_HANDLES:
            root.sys.derive(root.handles[0], ALL_RIGHTS)

        assert refusal(create, root, "other") == Refusal.TABLE_FULL
        assert refusal(create, root, succeeds=handle) == Refusal.TABLE_FULL
        stage.settle()
        assert len(made.caps) == 1


def test_too_many() -> None:
    """When every row is taken, no environment is created."""
    with theatre() as stage:
        root = creator(stage)
        rows = stage.kernel.environments._free.copy()
        stage.kernel.environments._free.clear()
        found = refusal(create, root)
        stage.kernel.environments._free.extend(rows)

        assert found == Refusal.TOO_MANY_ENVIRONMENTS


def test_the_name_of_one_that_keeps_waits_for_its_successor() -> None:
    """Nobody else can take the name of a dead environment that left its all to a successor."""
    with theatre() as stage:
        root = creator(stage)
        first, handle = child(stage, root, keeps=True)
        stage.kill(first)
        taken = refusal(create, root)
        heir = create(root, succeeds=handle)

        assert taken == Refusal.NAME_TAKEN
        assert stage.kernel.kip.owner("child") == heir.thread


def test_names_follow_their_thread() -> None:
    """A name is published for one living thread, is withdrawn on demand, and goes with its thread."""
    with theatre() as stage:
        root = creator(stage)
        a, publish, factory = stage.puppet("a"), root.sys.name_publish, root.handles[0]
        publish(factory, "alias", a.thread)
        publish(factory, "alias", a.thread)
        taken = refusal(publish, factory, "alias", root.thread)
        publish(factory, "second", a.thread)
        publish(factory, "second", 0)
        publish(factory, "never", 0)
        before = dict.fromkeys(stage.kernel.kip._names)
        stage.kill(a)

        assert (taken, list(before)) == (Refusal.NAME_TAKEN, ["root", "a", "alias"])
        assert list(stage.kernel.kip._names) == ["root"]
        assert refusal(publish, factory, "x", a.thread) == Refusal.STALE_THREAD
        assert refusal(publish, factory, "x", thread_id(9000)) == Refusal.NO_SUCH_THREAD


def test_who_it_may_call() -> None:
    """`may_bind` lists whom a created environment may call; empty: any."""
    with theatre() as stage:
        root = creator(stage)
        made, _ = child(stage, root, may_bind=(thread_number(root.thread),))
        other = stage.puppet("other")
        moves.link(made.env, root.thread)

        assert refusal(made.sys.bind, other.thread) == Refusal.MAY_NOT_BIND


def test_shown_as_it_is() -> None:
    """An environment shows number, name and state."""
    with theatre() as stage:
        a = stage.puppet("a")

        assert repr(a.environment) == "<Environment 0 a ready>"
