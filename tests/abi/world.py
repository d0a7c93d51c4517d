"""A caller with one of everything, and for each trap the arguments with which it would be done."""

from collections.abc import Callable
from typing import Any

import msgspec

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.gate import Refused, Status
from kernel.abi.ids import ANY_THREAD, KERNEL_MEMORY, thread_id
from kernel.abi.kip import UTCB_SIZE
from kernel.abi.limits import MIN_RING_FRAMES
from kernel.abi.rights import Rights
from kernel.abi.space import UTCB_AREA
from libexo import attach
from tests.kernel.passing import passed
from tests.kernel.puppets import Puppet, Theatre, wait_for_ever

LINE = 5
UTCB = UTCB_AREA.stop - UTCB_SIZE
NUMBER = {trap: number for number, trap in traps.TRAPS.items()}
PROGRAM = [1, ["child"], [], []]
GARBAGE: list[object] = [
    *(0, 1, 31, 32, 256, (1 << 16) + 1, (1 << 32) - 1, 1 << 32, 1 << 40, 1 << 63, (1 << 64) - 1),
    *(-1, -2, -(1 << 31), -(1 << 63)),
    *(None, True, False, 1.5, "", "text", "x" * 32, "\0", b"", b"x" * 16, b"x" * 17),
    *([], [1], [[]], [[1, 2]], [[1, 1000]] * 300, [0] * 64, {}, {"a": 1}),
]
"""Values of every type and size; for any argument, nearly all of them are wrong."""


class World:
    """A stage with a witness, a victim, a member of the processor, and callers one after another."""

    def __init__(self, stage: Theatre) -> None:
        self.stage = stage
        stage.machine.programs["child"] = lambda: wait_for_ever(attach())
        self.witness = stage.puppet("witness")
        self.member = stage.puppet("member", cpu=0, work=compute)
        self.gone = stage.puppet("gone")
        stage.kill(self.gone)
        self.keep = list(stage.kernel.environments)
        self.caller: Puppet
        self.victim: Puppet

    def renew(self) -> Puppet:
        """End the caller, if there is one, and all it created; start the next, with one of everything."""
        self.stage.kill(*(p for p in self.stage.puppets if p.environment not in self.keep))
        for e in self.stage.kernel.environments:
            if e not in self.keep and e.alive:
                self.stage.kernel.environments.kill(e)
        self.stage.settle()
        self.stage.puppets[:] = [p for p in self.stage.puppets if p.environment in self.keep]
        self.victim = self.stage.puppet("victim", holds=("ram",))
        self.caller = caller = self.stage.puppet("caller", holds=("ram", "cpus", "factory"))
        self.ram, self.cpu, self.factory = caller.handles
        give = self.stage.system.give
        self.environment = give(caller.task, self.victim.environment).handle
        self.interrupt = give(caller.task, self.stage.kernel.interrupts.lines[LINE]).handle
        self.extent = caller.sys.carve(self.ram, 1).extent
        self.purse = caller.sys.carve(self.ram, MIN_RING_FRAMES).extent
        self.object = caller.sys.object_create(traps.ObjectCreate(self.ram, 2, 2)).extent
        theirs = self.victim.sys.object_create(traps.ObjectCreate(self.victim.handles[0], 1, 2)).extent
        self.paged = passed(self.victim, theirs, caller, Rights.READ)
        self.seen_paged = caller.env.views.map(self.paged)
        self.window = caller.host.address(self.seen_paged)
        self.stale = caller.sys.derive(self.ram, 0)
        caller.sys.drop(self.stale)
        self.reservation = caller.sys.derive(self.cpu, 31, 1000, 100_000)
        self.offer = self.victim.sys.transfer(self.victim.handles[0], caller.thread, 4)
        shared = [c for c in caller.caps if c.handle != self.purse]
        self.weak = [caller.sys.derive(c.handle, 0) for c in shared]
        passable = [c for c in shared if c.rights & Rights.TRANSFER]
        self.offers = [caller.sys.transfer(c.handle, self.victim.thread, c.rights) for c in passable]
        self.mine, self.theirs = token(caller, self.victim), token(self.victim, caller)
        caller.sys.interrupt_bind(self.interrupt)
        self.stage.machine.interrupts.trigger(LINE)
        return caller

    def arguments(self, trap: type[traps.Trap]) -> list[Any]:
        """Return arguments with which *trap* is done."""
        table: dict[type[traps.Trap], Callable[[], list[Any]]] = {
            traps.EnvironmentCreate: lambda: [self.factory, "child", PROGRAM, -1, False, 0, [], 0, 0, []],
            traps.EnvironmentDestroy: lambda: [self.environment, 16, "why"],
            traps.EnvironmentSignal: lambda: [self.environment, 18],
            traps.NamePublish: lambda: [self.factory, "alias", self.caller.thread],
            traps.Charge: lambda: [self.victim.thread, int(Item.WAITS), 1],
            traps.BootInfo: lambda: [self.factory],
            traps.Incoming: lambda: [0],
            traps.Bind: lambda: [self.victim.thread, 0, self.purse],
            traps.Identify: lambda: [self.theirs, 0],
            traps.WaitPage: lambda: [self.victim.thread],
            traps.Sends: lambda: [self.victim.thread, self.caller.thread],
            traps.WakeWhen: lambda: [1, [[[self.extent, 0, 0, 1, 0], [1 << 16, 1, 5, 0, 0]]], 0],
            traps.Unbind: lambda: [self.mine, 0],
            traps.Acknowledge: lambda: [thread_id(LINE), []],
            traps.ThreadControl: lambda: [
                thread_id(1000),
                self.victim.thread,
                *[self.caller.thread] * 2,
                UTCB,
                None,
            ],
            traps.SpaceControl: lambda: [self.victim.thread, 0, 0, 0, self.caller.thread],
            traps.ThreadSwitch: lambda: [self.cpu, self.member.thread, 1000, 0],
            traps.Plan: lambda: [self.cpu, [[self.member.thread, 1000]], 0],
            traps.Migrate: lambda: [self.cpu, self.victim.thread],
            traps.ProcessorControl: lambda: [0, 1, 1, 1, 0],
            traps.Expire: lambda: [self.cpu, self.member.thread],
            traps.Derive: lambda: [self.ram, 4, -1, 0],
            traps.Transfer: lambda: [self.extent, self.victim.thread, 4, False],
            traps.Revoke: lambda: [self.extent, 0, -1, 0, 0],
            traps.Drop: lambda: [self.extent],
            traps.Inspect: lambda: [self.extent],
            traps.Accept: lambda: [self.victim.thread, self.offer, 31],
            traps.Carve: lambda: [self.ram, 1, -1, True, True],
            traps.Limit: lambda: [self.ram, 1000],
            traps.MapExtent: lambda: [self.extent, 0],
            traps.ObjectCreate: lambda: [self.ram, 1, 2, -1, 1000, 0],
            traps.Window: lambda: [self.paged, self.window, 0, 2],
            traps.Supply: lambda: [self.object, 0, 1, False],
            traps.Evict: lambda: [self.object, 0, 2],
            traps.Protect: lambda: [self.object, 0, 2, 2],
            traps.InterruptBind: lambda: [self.interrupt, True],
            traps.InterruptMask: lambda: [self.interrupt, False],
            traps.Batch: lambda: [[[NUMBER[traps.Inventory]]]],
        }
        return table.get(trap, list)()

    def wrong_names(self) -> list[object]:
        """Handles and threads that exist or did, but are not what an argument wants, or not the caller's."""
        handles = [c.handle for c in self.caller.caps] + [c.handle + 100 for c in self.victim.caps]
        threads = [self.gone.thread, self.member.thread, thread_id(LINE), thread_id(70), ANY_THREAD]
        return [self.stale, *handles, *threads, KERNEL_MEMORY, thread_id(96), self.caller.thread]

    def send(self, trap: type[traps.Trap], arguments: list[Any], descriptors: int = 0) -> bytes | None:
        given = [self.stage.machine.console() for _ in range(descriptors)]
        return self.caller.raw(msgspec.msgpack.encode([NUMBER[trap], *arguments]), given)

    def check(self) -> None:
        """The kernel goes on, for another and in itself."""
        assert self.witness.sys.inventory() == ()
        self.stage.check()


def compute(body: SimulatedBody) -> None:
    """Compute for ever."""
    body.burn(10**15)


def token(sender: Puppet, receiver: Puppet) -> bytes:
    """Bind *sender* to *receiver*."""
    bound, tickets = sender.sys.bind(receiver.thread)
    for ticket in tickets:
        sender.host.close_descriptor(ticket)
    return bound.token


def refusal_of(answer: bytes) -> int | None:
    """Return the refusal in an answer, or None when it was done."""
    if answer[0] == Status.DONE:
        return None
    assert answer[0] == Status.REFUSED
    return msgspec.msgpack.decode(answer[1:], type=Refused).refusal
