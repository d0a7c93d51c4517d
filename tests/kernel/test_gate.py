"""The trap gate: what comes in is a trap or ends its sender; what goes out is one answer a trap."""

import msgspec
import pytest

from hwmodel.machine import Exhausted
from hwmodel.simulated import ports
from hwmodel.simulated.ports import PORT_PACKETS
from kernel.abi import traps
from kernel.abi.errors import Fault, Refusal
from kernel.abi.gate import Status
from kernel.abi.kip import Counter
from kernel.abi.limits import MAX_BATCH, MAX_TRAP_BYTES, MAX_UNREAD_DESCRIPTORS
from kernel.abi.program import Program
from kernel.traps import (
    HANDLERS,
    capability,
    device,
    environment,
    information,
    memory,
    paging,
    processor,
    thread,
)
from libexo.errors import TrapRefused
from tests.kernel.puppets import Theatre, refusal, theatre

ENCODE = msgspec.msgpack.encode
INVENTORY = ENCODE(traps.Inventory())
BROKEN = {
    "nothing": b"",
    "no msgpack": b"\xc1",
    "cut off": INVENTORY[:-1],
    "more behind": INVENTORY + b"\0",
    "a map": ENCODE({"type": 0x45}),
    "a number": ENCODE(0x45),
    "an unknown trap": ENCODE([0x7F]),
    "no number": ENCODE([]),
    "a number in words": ENCODE(["Inventory"]),
    "too many fields": ENCODE([0x45, 1]),
    "too few fields": ENCODE([0x50, 1]),
    "a wrong type": ENCODE([0x50, "1", 1]),
    "nested too deep": b"\x91" * 30_000,
    "bytes that are no text": b"\x94\x13\x01\xa2\xff\xfe\x00",
    "a nested batch": ENCODE([0x02, [[0x02, []]]]),
    "a batch too long": ENCODE([0x02, [[0x45]] * (MAX_BATCH + 1)]),
}


def fault_of(stage: Theatre, data: bytes, descriptors: int = 0) -> int:
    """Send *data* as an environment of its own; return the fault it ended with."""
    sender = stage.puppet()
    given = [stage.machine.console() for _ in range(descriptors)]
    sender.raw(data, given)
    stage.settle()
    assert all(descriptor.closed for descriptor in given)
    return sender.environment.fault


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_no_trap(data: bytes) -> None:
    """Bytes that are no trap end their sender with a fault, and nobody else."""
    with theatre() as stage:
        witness = stage.puppet("witness")

        assert fault_of(stage, data) == Fault.MALFORMED_TRAP
        assert (witness.sys.inventory(), stage.kernel.kip.counter(Counter.FAULTS)) == ((), 1)


def test_too_long() -> None:
    """A packet longer than a trap may be is not read; one exactly as long is."""
    with theatre() as stage:
        empty = len(ENCODE(traps.NamePublish(0, "", 0)))

        assert fault_of(stage, bytes(MAX_TRAP_BYTES + 1)) == Fault.TOO_LONG
        assert fault_of(stage, bytes(MAX_TRAP_BYTES)) == Fault.MALFORMED_TRAP
        assert empty < MAX_TRAP_BYTES


def test_descriptors_nobody_asked_for() -> None:
    """Descriptors with a trap that takes none end the sender, and are closed."""
    with theatre() as stage:
        assert fault_of(stage, INVENTORY, descriptors=2) == Fault.EXTRA_DESCRIPTORS
        assert fault_of(stage, ENCODE(traps.Batch(())), descriptors=1) == Fault.EXTRA_DESCRIPTORS


def test_faults_are_told() -> None:
    """The record of a fault says which and why; its watchers are told, and so is the operator."""
    with theatre() as stage:
        watcher, culprit = stage.puppet("watcher"), stage.puppet("culprit")
        handle = stage.system.give(watcher.task, culprit.environment).handle
        culprit.raw(b"\xc1")
        stage.settle()
        inspection, [upcall] = watcher.sys.inspect(handle), watcher.upcalls()

        assert (inspection.status, inspection.fault, upcall.words[3]) == (-9, 1, 1)
        assert inspection.text == f"culprit: {upcall.text}"
        assert stage.system.log[0].startswith(
            "culprit: fault: the bytes sent through the gate are not a trap: "
        )


def test_who_was_faulted_is_not_heard() -> None:
    """Traps that follow a fault are not done, and what came with them is closed."""
    with theatre() as stage:
        culprit = stage.puppet(holds=("ram",))
        given = stage.machine.console()
        for data, descriptors in ((b"\xc1", []), (ENCODE(traps.Drop(culprit.handles[0])), [given])):
            culprit.host._ground.send(data, descriptors)

        assert (len(culprit.caps), given.closed) == (1, True)
        assert stage.kernel.kip.counter(Counter.FAULTS) == 1


def test_who_does_not_read() -> None:
    """A sender that never reads its answers is ended when its gate is full."""
    with theatre() as stage:
        sender = stage.puppet()
        for _ in range(PORT_PACKETS + 1):
            sender.host._ground.send(INVENTORY)
        stage.settle()

        assert sender.environment.fault == Fault.GATE_OVERRUN
        assert sender.environment.detail == "Inventory"


@pytest.mark.parametrize("trap", [INVENTORY, ENCODE(traps.KernelInterface())], ids=["plain", "descriptors"])
def test_who_is_killed_before_it_has_read(trap: bytes) -> None:
    """A program that ends while its traps wait in the gate is recorded as killed, with no fault of its own."""
    with theatre() as stage:
        victim = stage.puppet()
        victim.gate.close()
        for _ in range(3):  # what it has sent before, the host hands over all the same
            stage.supervisor.trap(victim.body, trap, [])
        victim.kill()
        stage.settle()

        assert (victim.environment.status, victim.environment.fault) == (-9, 0)
        assert stage.kernel.kip.counter(Counter.FAULTS) == 0


def test_who_does_not_read_its_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that leaves descriptors in answers unread is ended, with any room in its gate; a reader gets on."""
    monkeypatch.setattr(ports, "PORT_PACKETS", 10 * MAX_UNREAD_DESCRIPTORS)
    with theatre() as stage:
        sender, reader = stage.puppet("sender", holds=("ram",)), stage.puppet("reader", holds=("ram",))
        extents = [puppet.sys.carve(puppet.handles[0], 1).extent for puppet in (sender, reader)]
        mapping = ENCODE(traps.MapExtent(extents[0]))
        for _ in range(MAX_UNREAD_DESCRIPTORS):
            sender.host._ground.send(mapping)
        stage.settle()
        before = sender.environment.fault
        sender.host._ground.send(mapping)
        stage.settle()
        for _ in range(2 * MAX_UNREAD_DESCRIPTORS):
            reader.host.close_descriptor(reader.sys.trap(traps.MapExtent(extents[1]))[1][0])

        assert (before, sender.environment.fault) == (0, Fault.GATE_OVERRUN)
        assert reader.environment.alive


def test_packets_of_the_dead() -> None:
    """A packet of a body that is no environment any more is thrown away."""
    with theatre() as stage:
        sender, given = stage.puppet(), stage.machine.console()
        stage.kill(sender)
        stage.supervisor.trap(sender.body, INVENTORY, [given])
        stage.supervisor.broke(sender.body, Fault.TOO_LONG, "")
        stage.supervisor.started(sender.body)
        stage.supervisor.failed(sender.body, "late")
        stage.supervisor.ended(sender.body, 0)

        assert (given.closed, sender.environment.fault) == (True, 0)


def test_a_batch() -> None:
    """A batch does its traps in order, each with its own answer, whatever became of the others."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        ram = a.handles[0]
        outcomes, given = a.sys.batch(
            [traps.Carve(ram, 1), traps.Drop(999), traps.MapExtent(2), traps.Drop(2)]
        )
        for descriptor in given:
            a.host.close_descriptor(descriptor)

        assert (outcomes[0], outcomes[3]) == (traps.Carved(2, 0), None)
        assert isinstance(outcomes[1], TrapRefused)
        assert (outcomes[1].refusal, len(given), len(a.caps)) == (Refusal.BAD_HANDLE, 1, 1)


def test_the_null_trap() -> None:
    """An empty batch does nothing."""
    with theatre() as stage:
        a = stage.puppet()

        assert a.raw(ENCODE(traps.Batch(()))) == bytes([Status.DONE, 0x90])


def test_refusals_in_words() -> None:
    """A refusal comes back as its number and a detail, and is counted."""
    with theatre() as stage:
        a = stage.puppet()

        assert a.raw(ENCODE(traps.Drop(7))) == bytes([Status.REFUSED]) + ENCODE([16, "handle 0x7"])
        assert stage.kernel.kip.counter(Counter.REFUSALS) == 1


def test_every_trap_has_one_handler() -> None:
    """Each trap but the batch is handled by the module named as its own, in the same order."""
    wanted = [
        (trap, trap.__module__.rpartition(".")[2]) for trap in traps.TRAPS.values() if trap is not traps.Batch
    ]
    modules = (information, environment, thread, processor, capability, memory, paging, device)

    assert [(trap, m.__name__.rpartition(".")[2]) for m in modules for trap in m.HANDLERS] == wanted
    assert list(HANDLERS) == [trap for trap, _ in wanted]


def test_who_we_are() -> None:
    """A caller is told its thread, its number and the size of what it may map."""
    with theatre() as stage:
        a = stage.puppet()
        interface, given = a.sys.kernel_interface()
        for descriptor in given:
            a.host.close_descriptor(descriptor)

        assert (interface.thread, interface.environment) == (a.thread, a.environment.number)
        assert interface.kip_size == stage.kernel.kip.size


@pytest.mark.parametrize("what", ["ticket", "page"])
def test_a_host_that_lends_no_more(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the host has no more descriptors or memory to lend, the trap is refused, and nothing is lost."""

    def none_left(*_arguments: object) -> None:
        raise Exhausted("none left")

    with theatre() as stage:
        a, b = stage.puppet(holds=("factory",)), stage.puppet()
        monkeypatch.setattr(stage.machine, what, none_left)
        if what == "ticket":
            assert refusal(a.sys.bind, b.thread) == Refusal.HOST_FULL
        else:
            create = traps.EnvironmentCreate(a.handles[0], "child", Program(1, ("child",)))
            assert refusal(a.sys.environment_create, create) == Refusal.HOST_FULL
