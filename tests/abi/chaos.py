"""Random traps, messages, deaths and births, from a seed: what a hostile crowd does to the kernel."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from kernel.abi import traps
from kernel.abi.ids import ANY_THREAD, thread_id
from kernel.abi.limits import MAX_TRAP_BYTES
from kernel.abi.messages import PacketKind
from kernel.environment import Environment
from libexo import attach
from libexo.errors import ExoError
from libexo.message import GrantItem, Item, MapItem, Message
from tests.abi.world import GARBAGE, NUMBER, PROGRAM, compute, refusal_of
from tests.kernel.puppets import Puppet, Theatre, wait_for_ever

ACTORS, CROWD = 6, 24
ENCODE = msgspec.msgpack.encode
ARGUMENTS: dict[str, str] = {
    **dict.fromkeys(("factory", "environment", "cpu", "capability", "ram", "extent", "interrupt"), "handle"),
    **dict.fromkeys(("thread", "to"), "thread"),
    **dict.fromkeys(("rights", "count", "first", "signal", "microseconds"), "small"),
    **dict.fromkeys(("grant", "zero", "bind", "masked", "keeps"), "flag"),
    "token": "token",
    "succeeds": "handle",
}


class Chaos:
    """A crowd of actors on one stage."""

    def __init__(self, stage: Theatre, seed: int) -> None:
        self.stage = stage
        self.random = random.Random(f"{seed}/chaos")
        self.did: Counter[str] = Counter()
        self.tokens = [b"\1" * 16]
        self.actors: list[Puppet] = []
        self.births = 0
        stage.machine.programs["child"] = lambda: wait_for_ever(attach())

    def play(self, steps: int, look: int = 100) -> None:
        """Do *steps* random things; check every invariant after each *look*, and at the end."""
        acts: list[tuple[Callable[[], object], int]] = [
            (self.trap, 280),
            (self.message, 64),
            (self.receive, 24),
            (self.garbage, 1),
            (self.pass_time, 12),
            (self.interrupt, 8),
            (self.death, 2),
            (self.scribble, 2),
        ]
        names, weights = zip(*acts, strict=True)
        for step in range(steps):
            self.populate()
            self.random.choices(names, weights)[0]()
            if step % look == 0:
                self.stage.check()

    def populate(self) -> None:
        """Keep enough actors alive, and the crowd they create small."""
        while len(self.actors) < ACTORS:
            self.births += 1
            holds = [k for k in ("ram", "cpus", "factory") if self.random.random() < 0.6]
            work = compute if self.random.random() < 0.3 else None
            cpu = self.random.choice((-1, 0)) if work is not None else -1
            name, keeps = f"actor-{self.births}", self.random.random() < 0.3
            actor = self.stage.puppet(name, holds=holds, cpu=cpu, work=work, keeps=keeps)  # type: ignore[arg-type]
            self.stage.system.give(actor.task, self.random.choice(self.stage.kernel.interrupts.lines[:4]))
            self.actors.append(actor)
        crowd = [e for e in self.stage.kernel.environments if e.alive]
        if len(crowd) > CROWD:
            self.random.choice(crowd).body.kill()
        self.stage.settle()
        self.stage.puppets[:] = [p for p in self.stage.puppets if p.alive]
        for actor in [actor for actor in self.actors if not actor.alive]:
            actor.transport.close()
            self.actors.remove(actor)

    def actor(self) -> Puppet:
        return self.random.choice(self.actors)

    # --------------------------------------------------------------------------------------------- what is done

    def trap(self) -> None:
        """One trap, or a batch of some, with arguments that mostly make sense."""
        actor = self.actor()
        traps_ = [self.fields(actor) for _ in range(self.random.choice((1, 1, 1, 5)))]
        packet = traps_[0] if len(traps_) == 1 else [NUMBER[traps.Batch], traps_]
        given = [self.stage.machine.ticket()] if self.random.random() < 0.01 else []
        answer = actor.raw(ENCODE(packet), given)
        refused = refusal_of(answer) if answer is not None else -1
        self.did["done" if refused is None else "faulted" if refused == -1 else "refused"] += 1

    def fields(self, actor: Puppet) -> list[Any]:
        kinds: list[type[traps.Trap]] = [t for t in traps.TRAPS.values() if t is not traps.Batch]
        kinds += (traps.Carve, traps.Transfer, traps.Derive, traps.Bind) * 3
        kind = self.random.choice(kinds)
        return [NUMBER[kind], *(self.argument(kind, field, actor) for field in kind.__struct_fields__)]

    def argument(self, kind: type[traps.Trap], field: str, actor: Puppet) -> Any:  # noqa: ANN401 - any argument
        if self.random.random() < 0.001:
            return self.random.choice(GARBAGE)
        if kind.needs is not None and field == kind.__struct_fields__[0] and self.random.random() < 0.8:
            fitting = [c.handle for c in actor.caps if kind.needs[0] in (None, c.thing.kind)]
            return self.random.choice(fitting or [0])
        special: dict[tuple[type[traps.Trap], str], Any] = {
            (traps.EnvironmentCreate, "succeeds"): self.random.choice([0, *self.dead(actor)]),
            (traps.EnvironmentCreate, "cpu"): self.random.choice((-1, 0)),
            (traps.EnvironmentCreate, "program"): PROGRAM,
            (traps.EnvironmentCreate, "may_bind"): [],
            (traps.Acknowledge, "words"): [],
            (traps.Acknowledge, "thread"): thread_id(self.random.randrange(4)),
            (traps.Plan, "slices"): [[self.thread(), 1000]] * self.random.randrange(3),
        }
        if (kind, field) in special:
            return special[kind, field]
        return self.plausible(ARGUMENTS.get(field, "name"), actor)

    def plausible(self, kind: str, actor: Puppet) -> Any:  # noqa: ANN401 - any argument
        match kind:
            case "handle":
                return self.random.choice([c.handle for c in actor.caps] or [0]) + (
                    self.random.random() < 0.02
                )
            case "thread":
                return self.thread()
            case "small":
                return self.random.choice((0, 1, 2, 4, 7, 16, 20, 31, 31, 600, 5000, 100_000))
            case "flag":
                return self.random.random() < 0.5
            case "token":
                return self.random.choice(
                    [*actor.environment.incoming, *actor.environment.outgoing, *self.tokens]
                )
        return f"n{self.random.randrange(40)}"

    def dead(self, actor: Puppet) -> list[int]:
        """Handles of *actor* to environments that have ended."""
        things = [(c.handle, c.thing) for c in actor.caps]
        return [handle for handle, thing in things if isinstance(thing, Environment) and not thing.alive]

    def thread(self) -> int:
        everybody = [e.thread for e in self.stage.kernel.environments]
        return self.random.choice([*everybody, self.random.getrandbits(38)])

    def message(self) -> None:
        """Send a message, sometimes with capabilities, and do not wait."""
        actor, to = self.actor(), self.thread()
        items: list[Item] = [b"x" * self.random.randrange(99)] if self.random.random() < 0.3 else []
        if actor.caps and self.random.random() < 0.4:
            kind = self.random.choice((MapItem, GrantItem))
            items.append(kind(self.random.choice(actor.caps).handle, self.random.choice((0, 4, 6, 31))))
        message = Message(self.random.randrange(99), (1, 2), tuple(items))
        timed = self.random.random() < 0.3
        how = self.random.choice((PacketKind.CALL, PacketKind.SEND))
        try:
            exchange = actor.env.thread.core.post(to, message, how, timed=timed)
            if timed and self.random.random() < 0.5:
                actor.env.thread.core.withdraw(exchange)
            self.did["sent"] += 1
        except ExoError:
            self.did["not sent"] += 1

    def receive(self) -> None:
        """Take what has arrived, and answer it."""
        actor = self.actor()
        core = actor.env.thread.core
        core.pump()
        while (received := core.take(ANY_THREAD)) is not None:
            self.did["received"] += 1
            origin = received[1].origin
            if origin is not None and origin.peer is not None and origin.answers:
                try:
                    core.answer(origin, Message(words=(3,)))
                except ExoError:
                    self.did["not answered"] += 1

    def garbage(self) -> None:
        """Bytes of no meaning, or too many of them."""
        length = self.random.choice((0, 1, 5, 40, MAX_TRAP_BYTES + 1))
        self.actor().raw(self.random.randbytes(length))

    def pass_time(self) -> None:
        self.stage.pass_time(self.random.choice((0.1, 1, 10)))

    def interrupt(self) -> None:
        self.stage.machine.interrupts.trigger(self.random.randrange(4))

    def death(self) -> None:
        self.actor().kill()

    def scribble(self) -> None:
        """Write nonsense into the environment page, as any program may."""
        page = self.actor().env.page
        for _ in range(8):
            page[self.random.randrange(16)] = self.random.choice((0, 1, 5000, (1 << 64) - 1))
