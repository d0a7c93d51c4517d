"""Bounded work: whatever a program asks, each turn does little, others go on, and it is done to the end."""

import gc
import sys
from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.ids import thread_number, thread_version
from kernel.abi.kip import Head
from kernel.abi.limits import MAX_ANSWERS, MAX_HOLDERS_SHOWN
from kernel.abi.messages import Label
from kernel.abi.rights import ALL_RIGHTS, Kind, Rights
from kernel.abi.topology import MachineConfig, Topology
from kernel.jobs import QUANTUM
from libexo.errors import TrapRefused
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre, faults, refusal, theatre

READ, TRANSFER = Rights.READ, Rights.TRANSFER
NUMBERS = {trap: number for number, trap in traps.TRAPS.items()}
MANY = 20 * QUANTUM


def begin(stage: Theatre, puppet: Puppet, trap: traps.Trap) -> None:
    """Have the kernel take *trap* and do what it does at once."""
    puppet.body.pipe.to_kernel.append((msgspec.msgpack.encode(trap), []))
    stage.machine._trap(puppet.body, stage.supervisor)


def turns(stage: Theatre, what: str = "job") -> int:
    """How many turns did *what*."""
    return sum(happening.what == what for happening in stage.machine.trace)


def many(puppet: Puppet, handle: int, count: int = MANY) -> list[int]:
    return [puppet.sys.derive(handle, READ | TRANSFER) for _ in range(count)]


def test_a_long_revocation_goes_in_steps() -> None:
    """Each turn takes a quantum; the caller is not read meanwhile, and is answered at the end."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        many(a, a.handles[0])
        begin(stage, a, traps.Revoke(a.handles[0]))
        left = a.environment.table.used
        held = a.body.pipe.held
        before = turns(stage)
        stage.settle()

        assert (left, held) == (MANY + 1 - QUANTUM, True)
        assert turns(stage) - before == MANY // QUANTUM
        assert (a.environment.table.used, a.body.pipe.held, len(a.body.pipe.to_program)) == (1, False, 1)
        a.body.pipe.to_program.clear()


def test_what_was_carved_is_freed_in_steps() -> None:
    """A capability to RAM goes with what was carved through it: no turn frees more than a quantum of extents."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        ram, count = a.sys.derive(a.handles[0], ALL_RIGHTS), 7 * QUANTUM
        for _ in range(count):
            a.sys.carve(ram, 1)
        before = turns(stage)
        a.sys.drop(ram)

        assert stage.kernel.frames.free == 256
        assert turns(stage) - before >= 2 * count // QUANTUM


def test_what_is_to_go_is_gone_at_once() -> None:
    """From the first step on nothing is done with what is being taken away, nor derived from it."""
    with theatre() as stage:
        a, b = stage.pair()
        theirs = passed(a, a.handles[0], b, ALL_RIGHTS & ~Rights.EXECUTE)
        kept = passed(a, a.handles[0], b, READ | TRANSFER)
        offer = b.sys.transfer(theirs, a.thread, READ)
        many(b, theirs)
        begin(stage, a, traps.Revoke(a.handles[0]))
        traps_ = (
            traps.Inspect(theirs),
            traps.Derive(kept, READ),
            traps.Carve(theirs, 1),
            traps.Inspect(offer),
        )
        found = [refusal(b.sys.trap, trap) for trap in traps_]
        taken = refusal(b.sys.accept, a.thread, offer)

        assert (found, taken) == ([Refusal.STALE_HANDLE] * 4, Refusal.NO_SUCH_OFFER)
        stage.settle()
        assert b.caps == []
        a.body.pipe.to_program.clear()


def test_a_caller_that_dies_meanwhile() -> None:
    """Its unfinished work is done to the end."""
    with theatre() as stage:
        a, b = stage.pair()
        theirs = passed(a, a.handles[0], b, READ | TRANSFER)
        many(b, theirs)
        begin(stage, a, traps.Revoke(a.handles[0]))
        stage.kill(a)

        assert (b.caps, a.environment.over) == ([], True)


def test_others_are_served_between_two_steps() -> None:
    """Two long revocations and a bystander: each turn is somebody's."""
    with theatre() as stage:
        a, b, c = (stage.puppet(holds=("ram",)) for _ in range(3))
        for puppet in (a, b):
            many(puppet, puppet.handles[0])
            begin(stage, puppet, traps.Revoke(puppet.handles[0]))
        c.body.pipe.to_kernel.append((msgspec.msgpack.encode(traps.Inventory()), []))
        stage.settle()
        order = [h.what for h in stage.machine.trace]
        job, trap = order.index("job"), order.index("trap")

        assert job < len(order) - order[::-1].index("job") - 1 > trap
        for puppet in (a, b, c):
            assert len(puppet.body.pipe.to_program) == 1
            puppet.body.pipe.to_program.clear()


def test_a_batch_yields() -> None:
    """A batch does no more than a quantum of its traps in a turn."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        before = turns(stage)
        answers, _ = a.sys.batch([traps.Derive(a.handles[0], READ)] * 64)

        assert (len(answers), turns(stage) - before) == (64, 1)


def test_a_batch_has_no_more_answers_than_a_packet_takes() -> None:
    """Traps whose answers would exceed one packet are not done, and refused: the caller asks again."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        wide = a.sys.derive(a.handles[0], ALL_RIGHTS)
        many(a, wide, MAX_HOLDERS_SHOWN - 64)
        one = len(msgspec.msgpack.encode(a.sys.inspect(wide)))
        answers, _ = a.sys.batch([traps.Inspect(wide)] * 62 + [traps.Drop(wide), traps.Inventory()])
        done = sum(isinstance(answer, traps.Inspection) for answer in answers)

        assert one * (done - 1) <= MAX_ANSWERS < one * (done + 1)
        assert {each.refusal for each in answers[done:] if isinstance(each, TrapRefused)} == {
            Refusal.HOST_FULL
        }
        assert (len(answers), a.sys.inspect(wide).kind) == (64, Kind.RAM)


def test_a_full_table_ends_in_steps() -> None:
    """An ended environment is dead at once; its death is told when all it had is back."""
    with theatre() as stage:
        a, watcher = stage.pair()
        stage.system.give(watcher.task, a.environment)
        for _ in range(100):
            a.sys.carve(a.handles[0], 1)
        many(a, a.handles[0])
        stage.kernel.environments.end(a.environment, 0)
        states = []
        while stage.kernel.jobs.under_way:
            told = [label for label, _ in watcher.told()]
            states.append((a.alive, a.environment.table.used, Label.DEATH in told))
            stage.machine._step(stage.supervisor)
        left = [used for _, used, _ in states]

        assert not any(alive or told for alive, _, told in states)
        assert all(before - after <= QUANTUM for before, after in pairwise(left))
        assert [label for label, _ in watcher.told()] == [Label.DEATH]
        assert stage.kernel.frames.free == stage.kernel.frames.total


def test_many_bindings_fall_in_steps() -> None:
    """The death of a thread that many are bound to is told to a few a turn; none of them is known to it at once."""
    with theatre() as stage:
        server, *clients = [stage.puppet() for _ in range(5)]
        for client in clients:
            for _ in range(40):
                for ticket in client.sys.bind(server.thread)[1]:
                    client.host.close_descriptor(ticket)
        before, gone = turns(stage), server.thread
        stage.kill(server)

        assert turns(stage) - before >= 160 // QUANTUM
        assert [client.told() for client in clients] == [[(Label.PARTNER_GONE, (gone, 247, 0))]] * 4
        assert not any(client.environment.outgoing for client in clients)


def test_who_maps_waits_for_the_copy() -> None:
    """An extent that is being moved is mapped by nobody until it has been."""
    with theatre() as stage:
        a, b, c = (stage.puppet(holds=("ram",) if not n else ()) for n in range(3))
        extent = a.sys.carve(a.handles[0], 1).extent
        mine = passed(a, extent, b, READ | TRANSFER)
        theirs = passed(b, mine, c, READ)
        old = c.env.views.map(theirs)
        other = passed(a, extent, c, READ)
        begin(stage, b, traps.Revoke(mine))
        begin(stage, c, traps.MapExtent(other))
        waits = (c.body.pipe.held, len(c.body.pipe.to_program), faults(old))
        stage.settle()

        assert waits == (True, 0, False)
        assert (c.body.pipe.held, faults(old)) == (False, True)
        for puppet in (b, c):
            for data, given in puppet.body.pipe.to_program:
                assert data[0] in (0, 2)
                for descriptor in given:
                    descriptor.close()
            puppet.body.pipe.to_program.clear()


def test_a_revocation_waits_for_those_below() -> None:
    """When it is answered, what another one had begun to take below it is gone as well."""
    with theatre() as stage:
        a, b = stage.pair()
        theirs = passed(a, a.handles[0], b, READ | TRANSFER)
        many(b, theirs)
        begin(stage, b, traps.Drop(theirs))
        count, _ = a.sys.revoke(a.handles[0])

        assert (count, b.caps) == (0, [])
        b.body.pipe.to_program.clear()


def test_one_deadline_a_capability() -> None:
    """Another one takes the place of the first, and none outlives its capability."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        for microseconds in range(1000, 2000):
            a.sys.revoke(a.handles[0], microseconds)
        alarms = [alarm for alarm in stage.machine.virtual._alarms if alarm.callback is not None]
        a.sys.derive(a.handles[0], READ)
        stage.pass_time(1.5)
        early = len(a.caps)
        stage.pass_time(1)

        assert (len(alarms), early, len(a.caps)) == (1, 2, 1)
        derived = a.sys.derive(a.handles[0], READ)
        a.sys.revoke(derived, 1000)
        a.sys.drop(derived)
        assert stage.machine.virtual.next() is None


def test_the_largest_extent() -> None:
    """An extent has at most so many frames that their rows can be written at once."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))

        assert refusal(a.sys.carve, a.handles[0], 1 << 18 | 1) == Refusal.BAD_ARGUMENT


def test_a_part_of_ram_is_searched_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """A carve from a part of RAM looks at a few of its frames a step; one from all of RAM at none."""
    monkeypatch.setattr("kernel.runs._LOOKED", 1)
    with theatre(Topology(MachineConfig(memory="2 MiB"))) as stage:
        a = stage.puppet(holds=("ram",))
        for frame in range(0, 256, 2):
            a.sys.carve(a.handles[0], 1, frame)
        part = a.sys.derive(a.handles[0], ALL_RIGHTS, 0, 256)
        before = turns(stage)
        whole = a.sys.carve(a.handles[0], 100).first
        between = turns(stage)
        found = refusal(a.sys.carve, part, 2)

        assert (whole, between - before) == (255, 0)
        assert (found, turns(stage) - between) == (Refusal.NO_FRAMES, 256 // QUANTUM)
        assert a.sys.carve(part, 1).first % 2 == 1


def test_the_loop_says_what_it_did() -> None:
    """The number of the trap a turn is busy with stands in the page."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        a.sys.inventory()

        assert stage.kernel.kip.head(Head.TURN_TRAP) == NUMBERS[traps.Inventory]


def test_a_predecessor_that_is_still_ending() -> None:
    """A successor starts when its predecessor's end is done with."""
    with theatre() as stage:
        stage.machine.programs["child"] = lambda: None
        root, a = stage.puppet("root", holds=("factory",)), stage.puppet("a", keeps=True, holds=("ram",))
        handle = stage.system.give(root.task, a.environment).handle
        many(a, a.handles[0])
        stage.kernel.environments.end(a.environment, 0)
        over = a.environment.over
        program = a.body.program
        made = root.sys.environment_create(
            traps.EnvironmentCreate(root.handles[0], "a", program, succeeds=handle)
        )

        assert not over
        assert a.environment.over
        assert (thread_number(made.thread), thread_version(made.thread)) == (
            thread_number(a.thread),
            thread_version(a.thread) + 2,
        )


def calls(function: Callable[[], object]) -> int:
    """Do *function*; return how many calls of Python functions that took."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    gc.collect()
    gc.disable()  # what others left is not to be counted
    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def test_a_trap_is_the_same_work_in_a_crowd() -> None:
    """With two hundred others the kernel makes as many calls for each as with one."""
    with theatre() as stage:
        a, b = stage.puppet("a", holds=("ram", "factory")), stage.puppet("b")

        def deeds() -> list[int]:
            extent = a.sys.carve(a.handles[0], 1).extent
            return [
                calls(deed)
                for deed in (
                    a.sys.inventory,
                    lambda: a.sys.inspect(extent),
                    lambda: a.sys.batch(()),
                    lambda: a.sys.drop(a.sys.derive(extent, READ)),
                    lambda: b.sys.drop(passed(a, extent, b, READ)),
                    lambda: a.sys.revoke(extent),
                    lambda: a.sys.unbind(a.sys.bind(b.thread)[0].token),
                    lambda: a.sys.drop(extent),
                )
            ]

        deeds()
        few = deeds()
        for n in range(200):
            stage.puppet(f"other{n}")
        deeds()

        assert deeds() == few


@pytest.mark.parametrize("at", range(8))
def test_a_carver_that_dies_while_junk_is_written(at: int) -> None:
    """Its frames are free again, and the kernel goes on, however far it had got."""
    with theatre(seed=at) as stage:
        root, a = stage.puppet(holds=("ram",)), stage.puppet()
        ram = passed(root, root.handles[0], a, ALL_RIGHTS)
        a.sys.drop(a.sys.carve(ram, 20).extent)
        begin(stage, a, traps.Carve(ram, 20, zero=False))
        stage.kill(a)

        assert (stage.kernel.frames.free, root.sys.limit(root.handles[0], 0)) == (
            stage.kernel.frames.total,
            0,
        )
