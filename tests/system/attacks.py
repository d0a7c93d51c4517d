"""The table of attacks: what a hostile program tries, from inside, and what must come of it."""

from dataclasses import dataclass

from kernel.abi.errors import Fault
from tests.system.programs import PRELUDE

ATTACKER = (
    PRELUDE
    + "vault = Vault.connect(env)\nmemory = Memory.connect(env)\nTARGETS = list(map(int, sys.argv[1:]))\n"
)
"""How every attack begins. TARGETS: process ids of the vault, the memory server, the nursery, the kernel."""


@dataclass(frozen=True)
class Attack:
    """One row."""

    name: str
    tries: str
    program: str
    says: str = ""
    """What it prints. Words in braces are alternatives."""
    status: int = 0
    fault: int = 0


MEMORY = (
    Attack(
        "write_view", "writes into a view of memory shared for reading",
        "show(lambda: shared()[1].__setitem__(0, 1))", "TypeError",
    ),
    Attack(
        "write_mapping", "writes into a read-only mapping at its address",
        "extent, view = shared(); ctypes.memset(address(view), 1, 1)", status=-11,
    ),
    Attack(
        "map_writable", "maps a descriptor for reading as writable, and makes a mapping writable afterwards",
        "extent, view = shared(); _, fd = env.sys.map_extent(extent.handle)\n"
        "show(lambda: mmap.mmap(fd, 4096, prot=3), lambda: called('mprotect', "
        "ctypes.c_void_p(address(view)), 4096, 3),"
        " lambda: os.write(fd, b'x'))",
        "EACCES EACCES EBADF",
    ),
    Attack(
        "reopen", "opens a descriptor for reading again for writing, by way of /proc",
        "extent, view = shared(); _, fd = env.sys.map_extent(extent.handle)\n"
        "show(*[lambda p=p: os.open(p, os.O_RDWR) for p in (f'/proc/self/fd/{fd}', f'/dev/fd/{fd}', "
        "f'/proc/{os.getpid()}/fd/{fd}', f'/proc/thread-self/fd/{fd}')])",
        "EACCES EACCES EACCES EACCES",
    ),
    Attack(
        "touch_revoked", "touches memory after it was taken back",
        "extent, view = shared(); print(bytes(view[:6])); vault.revoke(); print(view[0])",
        "b'secret'", status=-7,
    ),
    Attack(
        "map_revoked", "maps memory again, after it was taken back, by its handle",
        "extent, view = shared(); vault.revoke(); show(lambda: env.sys.map_extent(extent.handle))",
        "STALE_HANDLE",
    ),
    Attack(
        "kept_descriptor", "keeps the descriptor of memory that is taken back: it leads to nothing any more",
        "extent, view = shared(); _, fd = env.sys.map_extent(extent.handle); vault.revoke(); "
        "print(os.fstat(fd).st_size,"
        " os.pread(fd, 6, 0))",
        "0 b''",
    ),
    Attack(
        "raise_limit", "raises the limit of what it may carve, for itself and below, and carves",
        "ram = memory.ram().handle; below = env.sys.derive(ram, 31)\n"
        "show(lambda: env.sys.limit(ram, limits.NO_LIMIT), lambda: env.sys.limit(below, limits.NO_LIMIT),"
        " lambda: env.sys.carve(ram, 1), lambda: env.sys.carve(below, 1), lambda: env.sys.carve(below, 1, 9),"
        " lambda: env.sys.limit(env.sys.derive(ram, 4), 9), lambda: env.sys.limit(memory.allocate(1).handle, 9))",
        "done done OVER_LIMIT OVER_LIMIT OVER_LIMIT MISSING_RIGHT WRONG_KIND",
    ),
    Attack(
        "long_answer", "asks in a batch for more than an answer can bring",
        "ram = memory.ram().handle\n"
        "for _ in range(14): env.sys.batch([traps.Derive(ram, 31)] * 64)\n"
        "answers, _ = env.sys.batch([traps.Inspect(ram)] * 64)\n"
        "print(len(answers), len(answers[0].holders), answers[-1].refusal.name)",
        "64 896 HOST_FULL",
    ),
    Attack(
        "resize", "changes the size of memory under its other holders, in every way there is",
        "extent = memory.allocate(2); fd = env.sys.map_extent(extent.handle)[1]; path = "
        "f'/proc/self/fd/{fd}'\n"
        "show(lambda: os.ftruncate(fd, 0), lambda: os.truncate(path, 0), lambda: os.open(path, "
        "os.O_RDWR | os.O_TRUNC),"
        " lambda: os.posix_fallocate(fd, 0, 1 << 20), lambda: called('fallocate', fd, 3, 0, 4096),"
        " lambda: os.pwrite(fd, b'x' * 8192, 8192), lambda: fcntl.fcntl(fd, 1033, 1))",
        "EPERM {EPERM,EACCES} EACCES EPERM EPERM EPERM EPERM",
    ),
    Attack(
        "punch", "makes a hole into memory, behind the kernel's account",
        "extent = memory.allocate(2); view = vm.map(env, extent)\n"
        "show(lambda: called('madvise', ctypes.c_void_p(address(view)), 4096, 9))",
        "EPERM",
    ),
    Attack(
        "execute", "maps what was shared for reading and truncates the kernel's own pages",
        "_, (page, own, ring) = env.sys.kernel_interface()\n"
        "show(lambda: mmap.mmap(page, 4096, prot=3), lambda: mmap.mmap(ring, 4096, prot=3),"
        " lambda: os.ftruncate(own, 0), lambda: os.open(f'/proc/self/fd/{page}', os.O_RDWR),"
        " lambda: os.open(f'/proc/self/fd/{own}', os.O_RDWR | os.O_TRUNC))",
        "EACCES EACCES EPERM EACCES EACCES",
    ),
    Attack(
        "published", "writes to, or removes, what the system publishes in its run directory",
        "show(*[lambda n=n: os.open(f'{RUN}/{n}', os.O_RDWR) for n in ('kip', 'trace', 'lock', 'log/x')],"
        " lambda: os.unlink(RUN + '/kip'), lambda: os.listdir(RUN), lambda: os.unlink(f'{RUN}/ipc/96'))",
        "EACCES EACCES EACCES {EACCES,ENOENT} EACCES EACCES {EACCES,ENOENT}",
    ),
    Attack(
        "environment_page", "fills its environment page with the largest numbers, then makes the kernel "
        "write there",
        "env.page[:] = memoryview(b'\\xff' * env.page.nbytes).cast('Q')\n"
        "extent = vault.share(); vault.revoke(); extent = vault.share(); vault.revoke()\n"
        "print(len(env.kip.environments()) > 3)",
        "True",
    ),
    Attack(
        "quota", "allocates more than an environment may have, and gives itself a larger quota",
        "show(lambda: memory.allocate(40000), lambda: memory.allocate(0), lambda: memory.allocate(1 << 70),"
        " lambda: memory.set_quota(env.thread.id, 60000))",
        "QuotaExceeded BadArgument BadArgument NotAllowed",
    ),
)  # fmt: skip

LOOK = "show(*[lambda pid=pid: {} for pid in TARGETS])"
REFUSED = " ".join(["{EPERM,EACCES}"] * 4)

OTHERS = (
    Attack("mem", "opens the memory of others", LOOK.format("os.open(f'/proc/{pid}/mem', os.O_RDWR)"),
    REFUSED),
    Attack("fd", "lists the descriptors of others", LOOK.format("os.listdir(f'/proc/{pid}/fd')"), REFUSED),
    Attack(
        "memfd", "opens the memory of others by way of their descriptors",
        "show(*[lambda pid=pid, fd=fd: os.open(f'/proc/{pid}/fd/{fd}', 0) for pid in TARGETS for fd in "
        "(3, 14)])",
        f"{REFUSED} {REFUSED}",
    ),
    Attack("environ", "reads the environ of others", LOOK.format("os.open(f'/proc/{pid}/environ', 0)"),
    REFUSED),
    Attack("maps", "reads the maps of others", LOOK.format("os.open(f'/proc/{pid}/maps', 0)"), REFUSED),
    Attack("ptrace", "traces others", LOOK.format("called('ptrace', 16, pid, 0, 0)"), REFUSED),
    Attack(
        "vm_readv", "reads and writes the memory of others by system call",
        "piece = (ctypes.c_size_t * 2)(env.thread.id, 8)\n"
        + LOOK.format("called('process_vm_readv', pid, piece, 1, piece, 1, 0)") + "\n"
        + LOOK.format("called('process_vm_writev', pid, piece, 1, piece, 1, 0)"),
        f"{REFUSED} {REFUSED}",
    ),
    Attack("kill", "kills others", LOOK.format("os.kill(pid, signal.SIGKILL)"), REFUSED),
    Attack("stop_group", "stops the process groups of others", LOOK.format("os.killpg(pid, signal.SIGSTOP)"),
           " ".join(["{EPERM,ESRCH}"] * 4)),
    Attack("kill_all", "kills everybody", "show(lambda: os.kill(-1, signal.SIGKILL))", "{done,EPERM,ESRCH}"),
    Attack(
        "pidfd", "signals others, and takes their descriptors, by pidfd",
        LOOK.format("signal.pidfd_send_signal(os.pidfd_open(pid), 9)") + "\n"
        + LOOK.format("called('syscall', 438, os.pidfd_open(pid), 3, 0)"),
        f"{REFUSED} {REFUSED}",
    ),
    Attack("priority", "takes the processor from others",
           LOOK.format("os.setpriority(os.PRIO_PROCESS, pid, 19)") + "\n"
           + LOOK.format("os.sched_setaffinity(pid, {0})"), f"{REFUSED} {REFUSED}"),
    Attack(
        "fork", "is a fork bomb, executes, leaves its group",
        "show(os.fork, os.forkpty, lambda: os.execv('/bin/true', ['true']), os.setsid, lambda: "
        "os.setpgid(0, 0),"
        " lambda: os.posix_spawn('/bin/true', ['true'], {}), lambda: called('unshare', 0x10000000))",
        "EPERM {EPERM,EACCES} EPERM EPERM EPERM EPERM EPERM",
    ),
    Attack(
        "network", "leaves the system by the network, or by memory of its own",
        "show(*[lambda f=f: socket.socket(f) for f in (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)],"
        " lambda: os.memfd_create('x'), lambda: called('shmget', 1, 4096, 0o1600))",
        "EPERM EPERM EPERM EPERM EPERM",
    ),
    Attack(
        "files", "writes files, reads the logs and sockets of others",
        "show(lambda: open('/tmp/exo-attack', 'w'), lambda: open('/etc/shadow'), lambda: open(RUN + "
        "'/log/process.log'),"
        " lambda: open(os.path.dirname(RUN) + '/log'))",
        "EACCES EACCES EACCES EACCES",
    ),
    Attack(
        "not_mine", "kills through the process server what another started, takes names",
        "process = Processes.connect(env)\n"
        "show(lambda: process.kill(env.lookup('vault')), lambda: process.kill(env.lookup('memory')),"
        " lambda: process.register('memory'), lambda: process.register('vault'),"
        " lambda: Scheduler.connect(env).set_share(env.lookup('vault'), 1000),"
        " lambda: process.spawn(ProgramSpec(1, ('x',), 'memory')))",
        "{NotYours,NoSuchProgram} NotYours NameTaken NameTaken NotAllowed SpawnRefused",
    ),
)  # fmt: skip

MESSAGES = (
    Attack(
        "guessed_token", "says a token nobody gave it: it is hung up on, and others are served",
        "binding, _ = env.sys.bind(env.lookup('memory')); guess = Bare(binding.address, os.urandom(16))\n"
        "guess.say(*request()); print(guess.ended(), memory.statistics().total)",
        "True 65536",
    ),
    Attack(
        "short_token", "says less than a token, and nothing more: it waits alone",
        "for token in (b'', b'x', b'y' * 15):\n"
        "    binding, _ = env.sys.bind(env.lookup('memory')); Bare(binding.address, token)\n"
        "    print(memory.statistics().total)",
        "65536 65536 65536",
    ),
    Attack(
        "token_of_the_dead", "connects by a binding that was given up",
        "binding, _ = env.sys.bind(env.lookup('memory')); env.sys.unbind(binding.token)\n"
        "show(lambda: Bare(binding.address, binding.token))",
        "ENOENT",
    ),
    Attack(
        "token_of_another", "says a token of the vault's, while the vault uses it",
        "def ends(token):\n"
        "    binding, _ = env.sys.bind(env.lookup('memory')); thief = Bare(binding.address, token)\n"
        "    thief.say(*request(sequence=1 << 40)); return thief.ended()\n"
        "print(all([ends(token) for token in vault.tokens()]), vault.secret())",
        "True b'secret'",
    ),
    Attack(
        "token_elsewhere", "says its token to another server than it was given for",
        "binding, _ = env.sys.bind(env.lookup('memory')); other, _ = env.sys.bind(env.lookup('process'))\n"
        "wrong = Bare(other.address, binding.token); wrong.say(*request(label=0x44)); print(wrong.ended())",
        "True",
    ),
    Attack(
        "second_connection", "connects to its end point twice, and to those there might be of others",
        "binding, _ = env.sys.bind(env.lookup('vault')); one = Bare(binding.address, binding.token)\n"
        "one.say(*request(label=0x51, operation=3)); print(one.answered())\n"
        "show(lambda: Bare(binding.address), *[lambda n=n: Bare(n) for n in ('96', '.1', '.2')],"
        " lambda: os.listdir(RUN + '/ipc'))",
        "True ENOENT ENOENT ENOENT ENOENT EACCES",
    ),
    Attack(
        "named_in_proc", "looks for end points in what the host shows of sockets",
        "binding, _ = env.sys.bind(env.lookup('vault'))\n"
        "try: shown = open('/proc/net/unix').read()\n"
        "except OSError: shown = ''\n"
        "print(binding.address in shown); one = Bare(binding.address, binding.token)\n"
        "one.say(*request(label=0x51, operation=3)); print(one.answered())",
        "False True",
    ),
    Attack(
        "squat", "listens where a thread of another is called, or one to come",
        "def squat(path):\n    with socket.socket(socket.AF_UNIX) as s: s.bind(path)\n"
        "show(*[lambda p=p: squat(p) for p in (f'{RUN}/ipc/9999', f'{RUN}/ipc/96', RUN + '/gate', RUN + "
        "'/new')],"
        " lambda: os.rename(f'{RUN}/ipc/96', f'{RUN}/ipc/97'))",
        "EACCES {EACCES,EADDRINUSE} {EACCES,EADDRINUSE} EACCES {EACCES,ENOENT}",
    ),
    Attack(
        "handles", "uses a handle that is stale, one of another, and numbers that are none",
        "extent = memory.allocate(1); memory.free(extent); theirs = vault.handles()[0]\n"
        "show(*[lambda h=h: env.sys.map_extent(h) for h in (extent.handle, theirs, 0, 0xFFFF, 1 << 31 | 1)])",
        "STALE_HANDLE {STALE_HANDLE,BAD_HANDLE} BAD_HANDLE BAD_HANDLE {STALE_HANDLE,BAD_HANDLE}",
    ),
    Attack(
        "threads", "calls thread ids that never were, and those of the kernel",
        "numbers = (5 << 32 | 1, 64 << 32 | 1, env.thread.id + 2, ids.thread_id(96, 3), 0)\n"
        "show(*[lambda t=t: env.thread.call(t, ipc.Message(1), 0.1) for t in numbers])",
        "NoPartner NoPartner NoPartner NoPartner NoPartner",
    ),
    Attack(
        "rights", "widens the rights of what it was given, passes it on, carves from it, takes it from "
        "its owner",
        "extent = vault.share(); h = extent.handle\n"
        "show(lambda: env.sys.derive(h, 31), lambda: env.sys.transfer(h, env.lookup('vault'), 4),"
        " lambda: env.sys.carve(h, 1), lambda: env.sys.plan(h, ()), lambda: env.sys.environment_destroy(h),"
        " lambda: env.sys.derive(h, 4, 0, 1))\n"
        "env.sys.revoke(h); print(vault.secret())",
        "MISSING_RIGHT MISSING_RIGHT WRONG_KIND WRONG_KIND WRONG_KIND MISSING_RIGHT b'secret'",
    ),
    Attack(
        "lying_part", "names a capability of the receiver's own as one it sends along",
        "arguments = msgspec.msgpack.encode((Extent(0, 2, 0),)); from libexo.ipc import packing\n"
        "true_pack = packing.pack\n"
        "for handle in vault.handles():\n"
        "    parts = (messages.StringPart(len(arguments)), messages.MapPart(handle))\n"
        "    packing.pack = lambda *_: (parts, [arguments], ())\n"
        "    print(outcome(lambda: env.thread.call(env.lookup('vault'), ipc.Message(0x51, (4,)), 0.1)))\n"
        "packing.pack = true_pack; print(vault.secret())",
        "IpcError b'secret'",
    ),
    Attack(
        "malformed", "sends packets that are none under a token that is good; one that is nearly one is refused",
        "good = bound('vault')\n"
        "for junk in (b'', b'\\xc1', b'\\x93\\x02\\x01', os.urandom(500), msgspec.msgpack.encode([2, -1]),"
        " msgspec.msgpack.encode([2, 1 << 63, 0x51, [3] * 5000]), b'\\x91' * 5000):\n"
        "    good.say(junk); good.say(*[junk] * 50)\n"
        "good.say(*request(label=0x51, operation=3, sequence=1, parts=[messages.StringPart(99)]))\n"
        "print(good.answered()); print(vault.secret())",
        "True b'secret'",
    ),
    Attack(
        "malformed_frames", "sends what are no frames: its binding ends, and it is told",
        "heads = ((1 << 31, 0, 0), (1, 1 << 31, 0), (0, 1, 0), (300, 5, 0), (1, 5, 1 << 40), (1 << 32) - 1)\n"
        "for head in heads[:5]:\n"
        "    bad = bound('vault'); bad.send(framing.HEAD.pack(*head)); print(bad.ended())\n"
        "print(vault.secret())",
        "True True True True True b'secret'",
    ),
    Attack(
        "huge_message", "announces a message larger than a message may be",
        "show(lambda: env.thread.send(env.lookup('vault'), ipc.Message(1, (), (bytes(5 << 20),))))\n"
        "good = bound('vault'); good.send(framing.HEAD.pack(2, 8, 0) + (64 << 20).to_bytes(4, 'little'))\n"
        "print(good.ended()); print(vault.secret())",
        "ValueError True b'secret'",
    ),
    Attack(
        "flood_of_messages", "sends without end and never reads an answer",
        "flood = bound('vault')\n"
        "for n in range(1, 5001): flood.say(*request(label=0x51, operation=3, sequence=n))\n"
        "print(vault.secret())",
        "b'secret'",
    ),
    Attack(
        "incomplete_messages", "begins messages on many bindings, and completes none",
        "begun = [bound('memory') for _ in range(64)]\n"
        "some = framing.HEAD.pack(2, 8, 0) + (4 << 20).to_bytes(4, 'little') + bytes(1 << 18)\n"
        "for one in begun: one.send(some)\n"
        "print(memory.statistics().total, any(one.ended() for one in begun))",
        "65536 True",
    ),
    Attack(
        "many_bindings", "binds to one thread as often as it may, and goes on",
        "batch = [traps.Bind(env.lookup('memory'))] * 64\n"
        "refused = [r for _ in range(9) for r in env.sys.batch(batch)[0] if isinstance(r, TrapRefused)]\n"
        "print(refused[0].refusal.name, 500 < len(refused) < 520)",
        "TOO_MANY_BINDINGS True",
    ),
    Attack(
        "many_handles", "fills its table of capabilities, and is refused more",
        "extent = memory.allocate(1); batch = [traps.Derive(extent.handle, 4)] * 64\n"
        "refused = [r for _ in range(17) for r in env.sys.batch(batch)[0] if isinstance(r, TrapRefused)]\n"
        "print(refused[0].refusal.name, len(refused))",
        "OVER_BUDGET 65",
    ),
)  # fmt: skip

ATTACHING = """
with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
    s.connect(RUN + "/console")
    with contextlib.suppress(OSError): s.send(b'{"op": "end", "name": "vault"}')
    try: said = s.recv(4096)
    except ConnectionResetError: said = s.recv(4096)
    print(said[:9])
"""

GATES = (
    Attack(
        "attach", "attaches to the gate from within, as a server and as somebody new",
        "show(*[lambda n=n: libexo.attach(RUN, n) for n in ('memory', 'new')])",
        "{MAY_NOT_ATTACH,EACCES} {MAY_NOT_ATTACH,EACCES}",
    ),
    Attack(
        "visitors", "fills the gate with connections that say nothing, and garbage",
        "kept = []\n"
        "for _ in range(300):\n"
        "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); kept.append(s)\n"
        "    with contextlib.suppress(OSError): s.connect(RUN + '/gate')\n"
        "with contextlib.suppress(OSError): kept[-1].send(os.urandom(99))\n"
        "print(memory.statistics().total)",
        "65536",
    ),
    Attack(
        "console", "commands the system through the operators' console",
        ATTACHING,
        "b'{\"error\":'",
    ),
    Attack(
        "garbage", "sends bytes through its gate that are not a trap",
        "gate_socket().send(os.urandom(100))\nsignal.pause()",
        status=-9, fault=Fault.MALFORMED_TRAP,
    ),
    Attack("empty", "sends an empty packet", "gate_socket().send(b'')\nsignal.pause()", status=-9,
    fault=Fault.MALFORMED_TRAP),
    Attack("deep", "sends a trap nested without end", "gate_socket().send(b'\\x91' * 60000)\n"
    "signal.pause()", status=-9,
           fault=Fault.MALFORMED_TRAP),
    Attack("long", "sends a trap longer than a trap may be", "gate_socket().send(bytes(100_000))\n"
    "signal.pause()", status=-9,
           fault=Fault.TOO_LONG),
    Attack(
        "descriptors", "sends descriptors with a trap that takes none",
        "socket.send_fds(gate_socket(), [msgspec.msgpack.encode(traps.Inventory())], [0, 1])\nsignal.pause()",
        status=-9, fault=Fault.EXTRA_DESCRIPTORS,
    ),
    Attack(
        "more_descriptors", "sends more descriptors than any trap takes",
        "socket.send_fds(gate_socket(), [msgspec.msgpack.encode(traps.Inventory())], [0] * 200); "
        "print(gate_socket().recv(99)[:1])",
        "b'\\x00'",
    ),
    Attack(
        "deaf", "traps without reading the answers",
        "gate = gate_socket(); trap = msgspec.msgpack.encode(traps.Inventory())\nwhile True: gate.send(trap)",
        status=-9, fault=Fault.GATE_OVERRUN,
    ),
    Attack(
        "killed_asking", "is killed while its traps wait to be answered",
        "gate = gate_socket(); trap = msgspec.msgpack.encode(traps.Batch((traps.Inventory(),) * 64))\n"
        "for _ in range(50): gate.send(trap)\nos.kill(os.getpid(), signal.SIGKILL)",
        status=-9,
    ),
    Attack(
        "deaf_to_upcalls", "lets upcalls pile up that it never reads",
        "for _ in range(2000):\n    vault.share()\n"
        "    if _ % 200 == 199: vault.revoke()\nprint('done')",
        "done",
    ),
    Attack("trap_flood", "traps as fast as it can", "for _ in range(20000): env.sys.inventory()\n"
    "print('done')", "done"),
    Attack("closed_gate", "closes its gate and goes on", "os.close(env.gate.fileno())\nprint('on')", "on"),
    Attack("servers_gate", "keeps a thread that floods while its main thread exits",
           "threading.Thread(target=lambda: [env.sys.inventory() for _ in iter(int, 1)], "
           "daemon=True).start()\nprint('on')", "on"),
)  # fmt: skip
