"""The traps, one stub each, in the order of `kernel.abi.traps`, which lists their refusals.

Stubs whose trap hands descriptors over return them as they came: the caller owns and closes them.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Literal

import msgspec

from kernel.abi import traps
from kernel.abi.errors import Refusal
from kernel.abi.gate import Refused, Status
from kernel.abi.ids import ANY_FRAME
from kernel.abi.limits import MAX_BATCH
from kernel.abi.predicates import Clauses
from kernel.abi.rights import ALL_RIGHTS, Kind
from kernel.abi.traps import Trap
from libexo.checking import encode_trap
from libexo.errors import BadArgument, TrapRefused
from libexo.host.base import Gate
from libexo.transport.base import Descriptor

_REFUSED = msgspec.msgpack.Decoder(Refused)
_RESULTS = {trap: msgspec.msgpack.Decoder(trap.result) for trap in traps.TRAPS.values() if trap.result}


class Sys:
    """Every trap, through one gate."""

    def __init__(self, gate: Gate, discard: Callable[[Descriptor], None]) -> None:
        """Trap through *gate*; *discard* closes descriptors that do not go with a trap after all."""
        self._gate = gate
        self._discard = discard

    def trap(self, trap: Trap, descriptors: Sequence[Descriptor] = ()) -> tuple[Any, list[Descriptor]]:
        """Do *trap*; return its result and the descriptors that came. *descriptors* are consumed.

        Raises TrapRefused, GateClosed; TrapArgument when the kernel would end the caller for it.
        """
        try:
            data = encode_trap(trap, len(descriptors))
        except BadArgument:
            for descriptor in descriptors:
                self._discard(descriptor)
            raise
        answer, given = self._gate.trap(data, descriptors)
        return _result(trap, answer), given

    def _do(self, trap: Trap) -> Any:  # noqa: ANN401 - each stub knows its result
        return self.trap(trap)[0]

    def kernel_interface(self) -> tuple[traps.Interface, list[Descriptor]]:
        """Return the caller's names; descriptors: KIP, environment page, event ring."""
        return self.trap(traps.KernelInterface())

    def environment_create(
        self, create: traps.EnvironmentCreate, descriptors: Sequence[Descriptor] = ()
    ) -> traps.Created:
        """Create an environment and start its program."""
        result: traps.Created = self.trap(create, descriptors)[0]
        return result

    def environment_destroy(self, environment: int, unresponsive: str = "") -> None:
        """End an environment at once; with *unresponsive*, the reason, as one that did not answer."""
        fault: Literal[0, 16] = 16 if unresponsive else 0
        self._do(traps.EnvironmentDestroy(environment, fault, unresponsive))

    def environment_signal(self, environment: int, signal: int) -> None:
        """Send a host signal to an environment's program."""
        self._do(traps.EnvironmentSignal(environment, signal))

    def name_publish(self, factory: int, name: str, thread: int) -> None:
        """Publish *name* for *thread*; 0 withdraws it."""
        self._do(traps.NamePublish(factory, name, thread))

    def boot_info(self, factory: int) -> tuple[traps.Booted, Descriptor]:
        """Return the topology and its operators, and the listening socket of the console."""
        booted, (console,) = self.trap(traps.BootInfo(factory))
        return booted, console

    def charge(self, thread: int, item: int, amount: int) -> None:
        """Count *amount* of *item* against the environment of *thread*; 0 ends that."""
        self._do(traps.Charge(thread, int(item), amount))

    def incoming(self, receiver: int = 0) -> tuple[tuple[traps.Arrived, ...], list[Descriptor]]:
        """Hand over the bindings to thread *receiver* since it last asked.

        Descriptors of each: the socket of its connection, then as of `bind`.
        """
        return self.trap(traps.Incoming(receiver))

    def wait_page(self, thread: int) -> Descriptor:
        """Return the environment page of *thread*, which says for whom its threads wait."""
        _, (descriptor,) = self.trap(traps.WaitPage(thread))
        return descriptor

    def sends(self, thread: int, to: int) -> bool:
        """Say whether *thread* has a message up for *to* that was not taken yet."""
        result: bool = self._do(traps.Sends(thread, to))
        return result

    def wake_when(self, number: int, clauses: Clauses, thread: int = 0) -> int:
        """Have *thread* told when one of *clauses* is true, no clauses: no more; return one, or an `Outcome`."""
        result: int = self._do(traps.WakeWhen(number, clauses, thread))
        return result

    def bind(self, thread: int, sender: int = 0, ring: int = 0) -> tuple[traps.Bound, list[Descriptor]]:
        """Bind thread *sender* to *thread*; *ring* is an extent to become ring memory.

        Descriptors: send ticket, answer ticket; with a ring: memory, doorbell to wait on, doorbell to ring.
        """
        return self.trap(traps.Bind(thread, sender, ring))

    def identify(self, token: bytes, receiver: int = 0) -> traps.Identified:
        """Return whose binding to *receiver* carries *token*."""
        identified: traps.Identified = self._do(traps.Identify(token, receiver))
        return identified

    def unbind(self, token: bytes, receiver: int = 0) -> None:
        """Give a binding up, or one to thread *receiver* (0: the caller's first)."""
        self._do(traps.Unbind(token, receiver))

    def acknowledge(self, thread: int, words: tuple[int, ...] = ()) -> None:
        """Answer a message of a kernel thread."""
        self._do(traps.Acknowledge(thread, words))

    def thread_control(self, control: traps.ThreadControl, descriptors: Sequence[Descriptor] = ()) -> None:
        """Create, activate, change, move or delete a thread, or choose an interrupt's handler."""
        self.trap(control, descriptors)

    def space_control(
        self, space: int, control: int, kip_area: int, utcb_area: int, redirector: int = 0
    ) -> int:
        """Set the areas of a space and its redirector; return the old control word."""
        old: int = self._do(traps.SpaceControl(space, control, kip_area, utcb_area, redirector))
        return old

    def thread_switch(self, cpu: int, thread: int, microseconds: int, giver: int = 0) -> None:
        """Run *thread* on the processor now, for *microseconds*, or for the rest of the slice of *giver*."""
        self._do(traps.ThreadSwitch(cpu, thread, microseconds, giver))

    def plan(self, cpu: int, slices: Sequence[traps.Slice], how: int = 0) -> None:
        """Install the plan of the processor."""
        self._do(traps.Plan(cpu, tuple(slices), how))

    def migrate(self, cpu: int, thread: int) -> None:
        """Move the environment of *thread* under the plan of the processor."""
        self._do(traps.Migrate(cpu, thread))

    def processor_control(self, processor: int, internal: int, external: int, voltage: int) -> None:
        """Show the frequencies (kHz) of a processor."""
        self._do(traps.ProcessorControl(processor, internal, external, voltage))

    def processor_power(self, processor: int, *, on: bool) -> None:
        """Put a processor back, or take it out."""
        power = traps.Power.ON if on else traps.Power.OFF
        self._do(traps.ProcessorControl(processor, 0, 0, 0, power))

    def expire(self, cpu: int, thread: int) -> None:
        """Have the X.2 scheduler of *thread* told that its total quantum is used up."""
        self._do(traps.Expire(cpu, thread))

    def derive(self, capability: int, rights: int, first: int = ANY_FRAME, count: int = 0) -> int:
        """Return a capability with fewer rights, or to part: from frame *first* of RAM, or page of an extent."""
        handle: int = self._do(traps.Derive(capability, int(rights), first, count))
        return handle

    def transfer(self, capability: int, to: int, rights: int, *, grant: bool = False) -> int:
        """Offer thread *to* a derivative (map) or the capability itself (grant); return the offer's handle."""
        handle: int = self._do(traps.Transfer(capability, to, int(rights), grant))
        return handle

    def revoke(self, capability: int, microseconds: int = 0) -> tuple[int, list[Descriptor]]:
        """Take back what was derived; return how many. Descriptor: new backing, if it was replaced."""
        return self.trap(traps.Revoke(capability, microseconds))

    def narrow(self, extent: int, rights: int) -> int:
        """Take *rights* from all that was derived from an extent's capability; return how many lost some."""
        lost: int = self._do(traps.Revoke(extent, rights=int(rights)))
        return lost

    def ask_back(self, ram: int, first: int, frames: int, microseconds: int) -> int:
        """Ask who has the extent that begins at frame *first* for so many frames, whichever; else as `take`."""
        found: int = self._do(traps.Revoke(ram, microseconds, first, frames))
        return found

    def take(self, ram: int, first: int) -> int:
        """Take the extent carved below *ram* that begins at frame *first* from all; return its frames, 0: none."""
        taken: int = self._do(traps.Revoke(ram, first=first))
        return taken

    def drop(self, capability: int) -> None:
        """Give a capability up."""
        self._do(traps.Drop(capability))

    def give_up(self, capability: int) -> None:
        """Drop a capability, unless it was taken: what it was derived from may go at any time."""
        with suppress(TrapRefused):
            self.drop(capability)

    def inspect(self, capability: int) -> traps.Inspection:
        """Describe a capability, and name the holders of its derivatives."""
        inspection: traps.Inspection = self._do(traps.Inspect(capability))
        return inspection

    def inventory(self) -> tuple[int, ...]:
        """List the handles of the caller's table."""
        handles: tuple[int, ...] = self._do(traps.Inventory())
        return handles

    def accept(self, sender: int, offer: int, rights: int = ALL_RIGHTS) -> traps.Accepted:
        """Take what thread *sender* offers."""
        accepted: traps.Accepted = self._do(traps.Accept(sender, offer, int(rights)))
        return accepted

    def carve(self, ram: int, count: int, first: int = ANY_FRAME, *, zero: bool = True) -> traps.Carved:
        """Make free frames of RAM into an extent."""
        carved: traps.Carved = self._do(traps.Carve(ram, count, first, zero))
        return carved

    def carve_mapped(self, ram: int, count: int) -> tuple[traps.Carved, list[Descriptor]]:
        """Make free frames of RAM into an extent of zeros. Descriptor: the memory's, if it could be sent."""
        return self.trap(traps.Carve(ram, count, maps=True))

    def map_extent(self, extent: int, page: int = 0) -> tuple[traps.Mapped, Descriptor]:
        """Return how an extent may be mapped, and the descriptor by which to map the piece with *page*."""
        mapped, (descriptor,) = self.trap(traps.MapExtent(extent, page))
        return mapped, descriptor

    def limit(self, ram: int, count: int) -> int:
        """Let the derivatives of a RAM capability carve up to *count* frames; return how many they have carved."""
        carved: int = self._do(traps.Limit(ram, count))
        return carved

    def object_create(self, create: traps.ObjectCreate) -> traps.Carved:
        """Carve frames into an object, whose pager the caller is."""
        carved: traps.Carved = self._do(create)
        return carved

    def window(self, extent: int, address: int, first: int = 0, count: int = 0) -> None:
        """Have pages of an object that are mapped at *address* paged; *count* 0 ends that."""
        self._do(traps.Window(extent, address, first, count))

    def supply(self, extent: int, first: int, count: int = 1, *, quiet: bool = False) -> None:
        """Say that pages of an object hold what was stored there; *quiet*: hear of no refusal."""
        if quiet:
            self._gate.post(encode_trap(traps.Supply(extent, first, count, quiet)))
        else:
            self._do(traps.Supply(extent, first, count))

    def evict(self, extent: int, first: int, count: int = 1) -> int:
        """Make pages of an object absent; return how many were there and are not any more."""
        gone: int = self._do(traps.Evict(extent, first, count))
        return gone

    def protect(self, extent: int, first: int, count: int = 1, how: int = 0) -> bytes:
        """Return the states of pages of an object, as they were before *how* (`traps.Protection`) changes them."""
        states: bytes = self._do(traps.Protect(extent, first, count, int(how)))
        return states

    def interrupt_bind(self, interrupt: int, *, bind: bool = True) -> None:
        """Take the line's interrupts, or stop taking them."""
        self._do(traps.InterruptBind(interrupt, bind))

    def interrupt_mask(self, interrupt: int, *, masked: bool) -> None:
        """Mask or unmask the line."""
        self._do(traps.InterruptMask(interrupt, masked))

    def batch(self, batch: Sequence[Trap]) -> tuple[list[Any], list[Descriptor]]:
        """Do several traps in one crossing; a refused one's result is its TrapRefused."""
        answers, given = self.trap(traps.Batch(tuple(batch)))  # type: ignore[arg-type]
        return [_outcome(trap, answer) for trap, answer in zip(batch, answers, strict=True)], given

    def inspections(self, handles: Iterable[int]) -> dict[int, traps.Inspection]:
        """Inspect *handles* by as few traps as possible; a stale one is left out."""
        found: dict[int, traps.Inspection] = {}
        left = list(handles)
        while left:
            outcomes, _ = self.batch([traps.Inspect(handle) for handle in left[:MAX_BATCH]])
            done = [each for each in outcomes if not _has_no_room(each)]
            told = zip(left, done, strict=False)
            found.update((handle, each) for handle, each in told if isinstance(each, traps.Inspection))
            left = left[len(done) :]
        return found

    def holdings(self, kind: Kind) -> dict[int, traps.Inspection]:
        """Inspect all of the caller's capabilities to resources of *kind*."""
        held = self.inspections(self.inventory()).items()
        return {handle: each for handle, each in held if each.kind == kind}


def _result(trap: Trap, answer: bytes) -> Any:  # noqa: ANN401 - each trap has its own result
    if answer[0] == Status.REFUSED:
        refused = _REFUSED.decode(answer[1:])
        raise TrapRefused(type(trap).__name__, refused.refusal, refused.detail)
    decoder = _RESULTS.get(type(trap))
    return decoder.decode(memoryview(answer)[1:]) if decoder is not None else None


def _has_no_room(outcome: object) -> bool:
    """Say whether a trap of a batch was not done because earlier answers took all the room."""
    return isinstance(outcome, TrapRefused) and outcome.refusal == Refusal.HOST_FULL


def _outcome(trap: Trap, answer: bytes) -> Any:  # noqa: ANN401 - as _result
    try:
        return _result(trap, answer)
    except TrapRefused as refused:
        return refused
