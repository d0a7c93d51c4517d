"""Random traps, messages, deaths and births, from a seed: what a hostile crowd does to the kernel."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from kernel.abi import traps
from kernel.abi.ids import thread_id
from kernel.abi.kip import Page
from kernel.abi.limits import MAX_TRAP_BYTES
from kernel.abi.messages import PacketKind
from kernel.environment import Environment
from kernel.frames import Extent
from libexo import attach
from libexo.errors import ExoError
from libexo.ipc.message import GrantItem, Item, MapItem, Message
from tests.abi.world import GARBAGE, NUMBER, PROGRAM, compute, refusal_of
from tests.kernel.puppets import Puppet, Theatre, wait_for_ever
from tests.libexo import moves

ACTORS, CROWD = 6, 24
ENCODE = msgspec.msgpack.encode
ARGUMENTS: dict[str, str] = {
    **dict.fromkeys(
        ("factory", "environment", "cpu", "capability", "ram", "extent", "interrupt", "offer"), "handle"
    ),
    **dict.fromkeys(("thread", "to", "sender", "receiver"), "thread"),
    **dict.fromkeys(("space", "scheduler", "pager", "redirector"), "thread"),
    **dict.fromkeys(("rights", "count", "first", "signal", "microseconds"), "small"),
    **dict.fromkeys(("item", "amount"), "small"),
    **dict.fromkeys(("processor", "internal", "external", "voltage", "power"), "small"),
    **dict.fromkeys(("utcb", "control", "kip_area", "utcb_area"), "small"),
    **dict.fromkeys(("grant", "zero", "maps", "bind", "masked", "keeps"), "flag"),
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
            (self.forge, 24),
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
            cpu = self.stage.kernel.environments.places.near(cpu)
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

    def crowd(self) -> None:
        """Have every actor make a few traps at the same time, in the order the machine chooses; one may die."""
        self.populate()
        for actor in self.actors:
            for _ in range(self.random.randrange(4)):
                actor.body.pipe.to_kernel.append((ENCODE(self.fields(actor)), []))
                self.did["at once"] += 1
        if self.random.random() < 0.3:
            self.death()
        self.stage.settle()
        for actor in self.actors:
            for _, given in actor.body.pipe.to_program:
                for descriptor in given:
                    descriptor.close()
            actor.body.pipe.to_program.clear()
        self.stage.check()

    def actor(self) -> Puppet:
        return self.random.choice(self.actors)

    # --------------------------------------------------------------------------------------------- what is done

    def trap(self) -> None:
        """One trap, or a batch of some, with arguments that mostly make sense."""
        actor = self.actor()
        traps_ = [self.fields(actor) for _ in range(self.random.choice((1, 1, 1, 5)))]
        packet = traps_[0] if len(traps_) == 1 else [NUMBER[traps.Batch], traps_]
        given = [self.stage.machine.console()] if self.random.random() < 0.01 else []
        answer = actor.raw(ENCODE(packet), given)
        refused = refusal_of(answer) if answer is not None else -1
        self.did["done" if refused is None else "faulted" if refused == -1 else "refused"] += 1

    def fields(self, actor: Puppet) -> list[Any]:
        kinds: list[type[traps.Trap]] = [t for t in traps.TRAPS.values() if t is not traps.Batch]
        kinds += (traps.Carve, traps.Transfer, traps.Accept, traps.Derive, traps.Bind) * 3
        kind = self.random.choice(kinds)
        if kind is traps.Accept and (offers := self.offers(actor)):
            return [NUMBER[kind], *self.random.choice(offers), self.random.choice((0, 4, 31, 31))]
        return [NUMBER[kind], *(self.argument(kind, field, actor) for field in kind.__struct_fields__)]

    def argument(self, kind: type[traps.Trap], field: str, actor: Puppet) -> Any:  # noqa: ANN401 - any argument
        if self.random.random() < 0.001:
            return self.random.choice(GARBAGE)
        if kind.needs is not None and field == kind.__struct_fields__[0] and self.random.random() < 0.8:
            fitting = [c.handle for c in actor.caps if kind.needs[0] in (None, c.resource.kind)]
            return self.random.choice(fitting or [0])
        if (kind, field) == (traps.WakeWhen, "clauses"):
            return self.clauses(actor)
        special: dict[tuple[type[traps.Trap], str], Any] = {
            (traps.EnvironmentCreate, "succeeds"): self.random.choice([0, *self.dead(actor)]),
            (traps.EnvironmentCreate, "cpu"): self.random.choice((-1, 0)),
            (traps.EnvironmentCreate, "program"): PROGRAM,
            (traps.EnvironmentCreate, "may_bind"): [],
            (traps.EnvironmentCreate, "limits"): self.random.choice(([], [], [[0, 20]], [[4, 3], [1, 99]])),
            (traps.EnvironmentCreate, "back"): self.random.randrange(3),
            (traps.EnvironmentCreate, "payer"): self.random.choice(
                (0, actor.thread, actor.thread, self.thread())
            ),
            (traps.ThreadControl, "program"): self.random.choice((None, PROGRAM)),
            (traps.Bind, "ring"): self.random.choice((0, self.plausible("handle", actor), self.alone(actor))),
            (traps.Derive, "first"): self.random.choice((-1, -1, 0, 1, 2, 9, 500, 3000)),
            (traps.Derive, "count"): self.random.choice((0, 0, 1, 2, 10_000)),
            (traps.Revoke, "rights"): self.random.choice((0, 0, 0, 0, 0, 2, 3)),
            (traps.Bind, "sender"): self.random.choice((0, 0, 0, self.thread())),
            (traps.Identify, "receiver"): self.random.choice((0, 0, 0, self.thread())),
            (traps.Acknowledge, "words"): [],
            (traps.Acknowledge, "thread"): thread_id(self.random.randrange(4)),
            (traps.WakeWhen, "number"): self.random.randrange(1, 5),
            (traps.WakeWhen, "thread"): self.random.choice((0, 0, 0, self.thread())),
            (traps.Plan, "slices"): [[self.thread(), 1000]] * self.random.randrange(3),
            (traps.Plan, "how"): self.random.randrange(4),
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
                environment = actor.environment
                incoming = [token for thread in environment.threads.values() for token in thread.incoming]
                return self.random.choice([*incoming, *environment.outgoing, *self.tokens])
        return f"n{self.random.randrange(40)}"

    def offers(self, actor: Puppet) -> list[tuple[int, int]]:
        """Makers and handles of the offers to *actor*, and of a few that are not its own to take."""
        return [
            (e.thread, c.handle)
            for e in self.stage.kernel.environments
            for c in e.table
            if c.offer is not None and (c.offer.receiver is actor.environment or self.random.random() < 0.02)
        ]

    def alone(self, actor: Puppet) -> int:
        """Return a handle of *actor* to an extent that nobody else holds, or 0."""
        extents = [c for c in actor.caps if isinstance(c.resource, Extent) and not c.resource.is_shared()]
        return self.random.choice(extents).handle if extents else 0

    def clauses(self, actor: Puppet) -> list[list[list[int]]]:
        """Return up to three clauses, of words that *actor* may mostly read, of pages and of times."""
        extents = [int(c.handle) for c in actor.caps if isinstance(c.resource, Extent)] or [0]
        now = self.stage.machine.clock.now()
        times = [[1 << 16, 0, 5, now + self.random.randrange(10_000_000), 0]]
        words = [[self.random.choice([*extents, 2 << 16, 3 << 16]), self.random.randrange(5), 4, 1 << 60, 0]]
        return [self.random.choice((words, times, times + words)) for _ in range(self.random.randrange(4))]

    def dead(self, actor: Puppet) -> list[int]:
        """Handles of *actor* to environments that have ended."""
        things = [(c.handle, c.resource) for c in actor.caps]
        return [handle for handle, thing in things if isinstance(thing, Environment) and not thing.alive]

    def thread(self) -> int:
        everybody = [e.thread for e in self.stage.kernel.environments]
        living = [t.id for e in self.stage.kernel.environments for t in e.threads.values()]
        chosen = thread_id(1000 + self.random.randrange(6), self.random.choice((1, 3)))
        return self.random.choice([*everybody, *living, chosen, self.random.getrandbits(38)])

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
        speak = self.thread() if self.random.random() < 0.2 else 0
        try:
            exchange = moves.post_message(
                actor, to, message, how, timed=timed, tells=self.random.random() < 0.2, virtual=speak
            )
            if timed and self.random.random() < 0.5:
                moves.withdraw(actor, exchange)
            elif self.random.random() < 0.1:
                moves.abandon(actor, exchange)
            self.did["sent"] += 1
        except ExoError:
            self.did["not sent"] += 1

    def receive(self) -> None:
        """Take what has arrived, and answer it, or turn its sender to somebody else."""
        actor = self.actor()
        moves.pump(actor)
        while (received := moves.take(actor)) is not None:
            self.did["received"] += 1
            origin = received[1].origin
            if origin is None or origin.peer is None or not origin.answers:
                continue
            if self.random.random() < 0.2:
                moves.forward(actor, origin, self.thread())
                continue
            try:
                moves.answer(actor, origin, Message(words=(3,)), tells=self.random.random() < 0.2)
            except ExoError:
                self.did["not answered"] += 1

    def forge(self) -> None:
        """Send a packet made by hand, to a thread we are bound to, or back to one bound to us."""
        actor = self.actor()
        links = [link for links in moves.links(actor).values() for link in links]
        tokens = [peer.token for peer in moves.peers(actor)]
        data = ENCODE([self.random.choice((*range(9), -1)), *(self.forged() for _ in range(2)), *self.rest()])
        if links and self.random.random() < 0.5:
            self.random.choice(links).channel.send((data,))
        elif tokens:
            moves.open_inbox(actor).send(self.random.choice(tokens), (data,))
        self.did["forged"] += 1

    def forged(self) -> int:
        return self.random.choice((0, 1, 2, 7, self.random.randrange(40), self.thread(), (1 << 64) - 1))

    def rest(self) -> list[Any]:
        """Words, parts and what follows them in a packet."""
        offer = self.random.choice((1, 1 << 40, *(each for _, each in self.offers(self.actor()))))
        parts = [[self.random.choice((2, 3)), offer], [5, [[0, 4096, offer]] * 2], [4, b"x"], [1, 3]]
        chosen = [each for each in parts if self.random.random() < 0.3]
        return [[self.forged()] * self.random.randrange(3), chosen, *(self.forged() for _ in range(5))]

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
            at = self.random.choice((0, Page.WAITS)) + self.random.randrange(16)
            page[at] = self.random.choice((0, 1, 5000, (1 << 64) - 1))
