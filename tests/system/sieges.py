"""The table of sieges: what hostile programs do without end, while an innocent one goes about its business.

An *attack* (`tests.system.attacks`) is tried once, and its answer is looked at. A *siege* goes on: each program
of it repeats its text until its time is up, and what counts is how the others fare meanwhile (`tests.system.fire`).
"""

from dataclasses import dataclass
from pathlib import Path

from tests.system.programs import PRELUDE

BESIEGER = (
    PRELUDE
    + """
import itertools, time
END = time.monotonic() + float(sys.argv[1])
def goes_on(): return time.monotonic() < END
memory, process, scheduler = Memory.connect(env), Processes.connect(env), Scheduler.connect(env)
def quietly(call):
    try: return call()
    except (ExoError, OSError, ValueError, TypeError, OverflowError): return None
def repeat(*calls):
    while goes_on():
        for call in calls: quietly(call)
"""
)
"""How every program of a siege begins: `repeat` does what it is given until the time is up, whatever is refused."""


FLOODER = str(Path(__file__).with_name("flooder.py"))
"""A program that calls the memory server without end, as a child of a siege."""


@dataclass(frozen=True)
class Siege:
    """One row."""

    name: str
    tries: str
    program: str
    programs: int = 2
    """How many do it at once."""
    streams: bool = True
    """Each has pipes for its standard streams; otherwise a log."""
    paged: bool = False
    """They may map what other programs page."""


KERNEL = (
    Siege(
        "revoke_large", "revokes a large extent that is mapped, 64 times in a batch",
        "extent = memory.allocate(8000); view = vm.map(env, extent); view[::4096] = b'x' * 8000\n"
        "def share():\n"
        "    own = env.sys.derive(extent.handle, 31); lent = env.sys.derive(own, 4)\n"
        "    os.close(env.sys.map_extent(lent)[1])\n"
        "    return own\n"
        "repeat(lambda: env.sys.batch([traps.Revoke(share(), 0) for _ in range(64)]),"
        " lambda: env.sys.revoke(extent.handle))",
        programs=1,
    ),
    Siege(
        "revoke_shared", "derives capabilities to one extent as deep and as wide as it may, and revokes them all",
        "extent = memory.allocate(1)\n"
        "def grow():\n"
        "    last = extent.handle\n"
        "    for n in range(20):\n"
        "        wide = env.sys.batch([traps.Derive(last, 4)] * 60)[0]\n"
        "        last = next((h for h in wide if isinstance(h, int)), last)\n"
        "repeat(grow, lambda: env.sys.revoke(extent.handle))",
    ),
    Siege(
        "revoke_later", "asks for revocations with a deadline, without end",
        "extent = memory.allocate(1); batch = [traps.Revoke(extent.handle, 3_600_000_000)] * 64\n"
        "repeat(lambda: env.sys.batch(batch))",
    ),
    Siege(
        "long_batches", "sends batches of the traps that cost most",
        "batch = [traps.Inventory()] * 32 + [traps.KernelInterface()] * 4 + [traps.Inspect(0)] * 28\n"
        "repeat(lambda: [os.close(fd) for fd in env.sys.batch(batch)[1]])",
    ),
    Siege(
        "carve_and_drop", "takes all the memory it may have and gives it back, large and small",
        "def take(pages):\n"
        "    extents = [quietly(lambda: memory.allocate(pages)) for _ in range(30)]\n"
        "    for extent in filter(None, extents): memory.free(extent)\n"
        "repeat(lambda: take(1000), lambda: take(1))",
    ),
    Siege(
        "unread_answers", "traps for descriptors without reading the answers",
        "gate = gate_socket(); trap = msgspec.msgpack.encode(traps.KernelInterface())\n"
        "while goes_on(): gate.send(trap)",
    ),
    Siege("trap_flood", "traps as fast as it can", "repeat(env.sys.inventory)", programs=3),
)  # fmt: skip

OWN_MEMORY = "ram = memory.ram().handle\n"
"""How a program begins that carves by itself."""

CARVING = (
    Siege(
        "carves", "carves and maps single frames, 32 in a batch, and drops its RAM with all of them",
        "def carve():\n"
        "    ram = memory.ram().handle; memory.promise(600)\n"
        "    for _ in range(15):\n"
        "        _, given = env.sys.batch([traps.Carve(ram, 1, maps=True)] * 32)\n"
        "        for each in given: os.close(each)\n"
        "    env.sys.drop(ram)\n"
        "repeat(carve)",
    ),
    Siege(
        "carves_bare", "carves as many frames as it can, maps none of them, and drops them all at once",
        "def carve():\n"
        "    ram = memory.ram().handle; memory.promise(1000)\n"
        "    for _ in range(16): env.sys.batch([traps.Carve(ram, 1)] * 64)\n"
        "    env.sys.drop(ram)\n"
        "repeat(carve)",
    ),
    Siege(
        "long_answers", "asks in batches for more than an answer can bring",
        OWN_MEMORY +
        "for _ in range(15): env.sys.batch([traps.Derive(ram, 31)] * 64)\n"
        "batch = [traps.Inspect(ram)] * 64\n"
        "repeat(lambda: env.sys.batch(batch))",
    ),
    Siege(
        "carves_junk", "carves a quarter of RAM that has to be filled with junk, and drops it",
        OWN_MEMORY +
        "memory.promise(16000)\n"
        "repeat(lambda: env.sys.drop(env.sys.carve(ram, 16000, zero=False).extent), lambda: memory.promise(16000))",
    ),
    Siege(
        "promises", "has all promised to it that it can, again and again, and uses none of it",
        OWN_MEMORY +
        "sizes = itertools.cycle((32000, 20000, 8000, 1))\n"
        "repeat(lambda: memory.promise(next(sizes)), lambda: env.sys.limit(ram, 0))",
    ),
    Siege(
        "presses", "takes what it can, waits for others to be pressed for more, gives all back, and begins again",
        "def share():\n"
        "    extents = [quietly(lambda: memory.allocate(500)) for _ in range(60)]\n"
        "    quietly(lambda: memory.claim(2000))\n"
        "    for extent in filter(None, extents): quietly(lambda: memory.free(extent))\n"
        "repeat(share)",
        programs=3,
    ),
)  # fmt: skip

HOARDS = (
    Siege(
        "names", "publishes names without end",
        "numbers = itertools.count()\n"
        "repeat(lambda: process.register(f'hoard-{os.getpid()}-{next(numbers)}'))",
    ),
    Siege(
        "unaccepted", "never accepts what it is offered",
        "words = ipc.Message(0x42, (1,), (msgspec.msgpack.encode((1, -1)),))\n"
        "repeat(lambda: env.thread.call(env.lookup('memory'), words, accepts=0))",
        programs=6,
    ),
    Siege(
        "offers", "offers one extent to everybody, without end",
        "extent = memory.allocate(1)\n"
        "def offer():\n"
        "    for row in env.kip.environments(): quietly(lambda: env.sys.transfer(extent.handle, row.thread, 4))\n"
        "repeat(offer)",
    ),
    Siege(
        "waits", "waits for one program a hundred thousand times at once",
        "child = process.spawn(ProgramSpec(3, ('/bin/sleep', '1000')))\n"
        "words = ipc.Message(0x44, (2,), (msgspec.msgpack.encode((child,)),))\n"
        "def post():\n"
        "    env.thread.core.post(env.lookup('process'), words, messages.PacketKind.CALL, timed=False)\n"
        "    env.thread.core.pump()\n"
        "repeat(post)",
    ),
    Siege(
        "children", "starts as many children as it may, to be restarted for ever, which end at once",
        "repeat(lambda: process.spawn(ProgramSpec(3, ('/bin/false',), restart='always')))",
    ),
    Siege(
        "grandchildren", "starts children with the longest arguments, and no child of share 0",
        "argv = ('/bin/sleep', '1000', *['x' * 1000] * 40)\n"
        "repeat(lambda: process.spawn(ProgramSpec(3, argv)), lambda: process.spawn(ProgramSpec(3, argv, share=0)))",
    ),
    Siege(
        "bindings", "binds and unbinds, and binds as often as it may",
        "batch = [traps.Bind(env.lookup(n)) for n in ('memory', 'process', 'scheduler')] * 2\n"
        "kept = []\n"
        "def bind():\n"
        "    bound, descriptors = env.sys.batch(batch)\n"
        "    for fd in descriptors: os.close(fd)\n"
        "    kept.extend(b.token for b in bound if hasattr(b, 'token'))\n"
        "    if len(kept) > 60:\n"
        "        for token in kept: quietly(lambda: env.sys.unbind(token))\n"
        "        kept.clear()\n"
        "repeat(bind)",
    ),
    Siege(
        "all_memory", "takes all memory that it is given, by typed calls and of sigma0, and keeps it",
        "from libexo import l4\n"
        "sizes = [15]\n"
        "def take():\n"
        "    try: memory.allocate(1 << sizes[0])\n"
        "    except RemoteError: sizes[0] = max(0, sizes[0] - 1)\n"
        "repeat(take, lambda: l4.Sigma0_GetAny(0, 12, l4.CompleteAddressSpace))",
        programs=4,
    ),
    Siege(
        "threads", "has as many threads as it may",
        "repeat(process.create_thread)",
    ),
    Siege(
        "log", "writes to its log without end",
        "line = 'x' * 4000 + chr(10)\nwhile goes_on(): os.write(1, line.encode())",
        streams=False,
    ),
)  # fmt: skip

PROCESSOR = (
    Siege(
        "stops_itself", "stops itself, again and again",
        "while goes_on(): os.kill(os.getpid(), signal.SIGSTOP)",
    ),
    Siege(
        "main_sleeps", "computes in a thread while its main thread sleeps",
        "threading.Thread(target=lambda: [None for _ in iter(goes_on, False)], daemon=True).start()\n"
        "while goes_on(): time.sleep(0.5)",
    ),
    Siege(
        "critical", "says that it is in a critical section for ever",
        "env.page[kip.Page.CRITICAL] = 1\nwhile goes_on(): pass",
    ),
    Siege(
        "switches", "gives its slice away, changes its share, asks for the plan",
        "repeat(lambda: scheduler.switch(0), lambda: scheduler.set_share(env.thread.id, 1000), scheduler.plan)",
    ),
)  # fmt: skip

REQUESTS = (
    Siege(
        "wrong_arguments", "calls every server with arguments that are none",
        "numbers = (-1, 0, 2**31, 2**32, 2**63, 2**64 - 1, -2**63)\n"
        "def wrong(label, name, operation, arguments):\n"
        "    string = msgspec.msgpack.encode(arguments)\n"
        "    env.thread.call(env.lookup(name), ipc.Message(label, (operation,), (string,)), 1)\n"
        "calls = [lambda l=l, s=s, o=o, n=n, a=a: wrong(l, s, o, [n] * a)\n"
        "         for l, s in ((0x42, 'memory'), (0x43, 'scheduler'), (0x44, 'process'))\n"
        "         for o in range(7) for n in (*numbers, 'x' * 40, b'', None, []) for a in (0, 1, 2)]\n"
        "repeat(*calls)",
    ),
    Siege(
        "rings", "opens rings to every server, and scribbles into its own end",
        "def ring():\n"
        "    stub = Memory.connect(env, transport='ring'); stub.statistics(); stub.statistics()\n"
        "repeat(ring, memory.statistics)",
    ),
)  # fmt: skip

HEEDLESS = """
from libexo.ipc.ring import open_ring
from libexo.transport.ring.layout import short
CALL, SEND = messages.PacketKind.CALL, messages.PacketKind.SEND
core, part = env.thread.core, messages.ShortPart(msgspec.msgpack.encode(()))
def bind(): return core.links.bind(env.lookup("memory"))
def flood(count=1, kind=CALL):
    links = [quietly(bind) for _ in range(count)]
    for number in itertools.count(1):
        packet = messages.Packet(int(kind), number, 0x42, (2,), (part,))
        record = framing.encode((msgspec.msgpack.encode(packet),))
        for place, link in enumerate(links):
            if not goes_on(): return
            if link is None or link.fallen: links[place] = quietly(bind)
            elif not link.channel._write(record): quietly(core.pump_gate)
"""
"""How a flood begins: `flood` sends requests over *count* bindings, whatever their receiver says of its room."""

FLOODS = (
    Siege("floods", "sends requests without reading an answer", HEEDLESS + "flood()"),
    Siege("floods_one_way", "sends messages that nobody answers", HEEDLESS + "flood(kind=SEND)"),
    Siege("floods_bindings", "does it over many bindings", HEEDLESS + "flood(100)", programs=1),
    Siege(
        "floods_connects", "binds, sends one message, and goes",
        HEEDLESS +
        "def once():\n"
        "    link = bind()\n"
        "    core.post(link.partner, ipc.Message(0x42, (2,)), CALL, timed=False)\n"
        "    core.links.unlink(link)\n"
        "repeat(once)",
    ),
    Siege(
        "floods_threads", "calls from sixty threads at once",
        "def calls():\n"
        "    while goes_on(): quietly(memory.statistics)\n"
        "for _ in range(60): threading.Thread(target=calls, daemon=True).start()\n"
        "while goes_on(): time.sleep(0.1)",
        programs=1,
    ),
    Siege(
        "floods_long", "sends the longest strings",
        HEEDLESS +
        "words = ipc.Message(0x42, (2,), (b'x' * limits.MAX_STRING,))\n"
        "repeat(lambda: core.post(env.lookup('memory'), words, CALL, timed=False), core.pump)",
    ),
    Siege(
        "floods_rings", "writes requests into ten rings, and reads no answer",
        HEEDLESS +
        "opened = [quietly(lambda: open_ring(env.thread, env.lookup('memory'))) for _ in range(10)]\n"
        "links = list(filter(None, opened))\n"
        "def fill(link):\n"
        "    while goes_on() and link.line.put(short(2, 2), next(link.sequence), 0x42, part.data): pass\n"
        "repeat(core.pump, lambda: [fill(link) for link in links if link.rings and not link.fallen])",
    ),
    Siege(
        "floods_family", "has ten children, who all call from ten threads",
        f"spec = ProgramSpec(1, ({FLOODER!r},), environ=(('FLOOD_SECONDS', sys.argv[1]),))\n"
        "for _ in range(10): quietly(lambda: process.spawn(spec))\n"
        "while goes_on(): time.sleep(0.1)",
        programs=1,
    ),
)  # fmt: skip

PAGES = """
from libexo import pager
SIZE, FRAME = 256, 4096
class Pages(Interface, label=0x66, name="besieged"):
    @operation(1)
    def open(self) -> Extent: ...
class Pager(Pages):
    def __init__(self):
        memory.promise(SIZE)
        self.paged = pager.PagedObject(env, memory.ram(), SIZE, SIZE, fill, patience=60)
    def open(self): return self.paged.extent
def fill(store, fault):
    count = min(16, SIZE - fault.page)
    store.supply(fault.page, b"page".ljust(FRAME) * count, count)
def user():
    while (extent := quietly(lambda: Pages.connect(env).open())) is None: time.sleep(0.01)
    return extent, vm.map(env, extent)
def touch(): vm.touch(env, view, random.randrange(SIZE) * FRAME, 1, write=random.random() < 0.5)
def threads(call):
    for _ in range(8): threading.Thread(target=repeat, args=(call,), daemon=True).start()
    repeat(call)
import random
first = next(row.name for row in env.kip.environments() if row.number == env.number).endswith("-0")
"""
"""How a siege of paged memory begins: the first of it is the pager, the others its users."""

PAGING = (
    Siege(
        "faults", "touches pages that are there, and forgets them again, from many threads",
        PAGES +
        "if first: serve(Pager(), name='besieged')\n"
        "extent, view = user()\n"
        "def forget(): libc.madvise(ctypes.c_void_p(address(view)), ctypes.c_size_t(SIZE * FRAME), 4)\n"
        "def again():\n"
        "    forget()\n"
        "    for _ in range(64): touch()\n"
        "threads(again)",
        programs=4, paged=True,
    ),
    Siege(
        "evictions", "evicts and protects pages at each fault, and others touch them from many threads",
        PAGES +
        "supply = fill\n"
        "def fill(store, fault):\n"
        "    at = random.randrange(SIZE - 16)\n"
        "    store.guard(at, 16); store.evict(at, 16); store.clean(0, SIZE); supply(store, fault)\n"
        "if first: serve(Pager(), name='besieged')\n"
        "extent, view = user()\n"
        "threads(touch)",
        programs=3, paged=True,
    ),
    Siege(
        "windows", "opens and ends windows, 64 in a batch, and maps the object anew",
        PAGES +
        "if first: serve(Pager(), name='besieged')\n"
        "extent, view = user(); at = address(view)\n"
        "batch = [traps.Window(extent.handle, at + page * FRAME, page, SIZE - page) for page in range(64)]\n"
        "def map_again(): vm.unmap(env, vm.map(env, extent))\n"
        "repeat(lambda: env.sys.batch(batch), map_again)",
        programs=4, paged=True,
    ),
)  # fmt: skip

SIEGES = (*KERNEL, *CARVING, *HOARDS, *PROCESSOR, *REQUESTS, *FLOODS, *PAGING)
