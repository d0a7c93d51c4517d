"""The table of attacks on the host: a program's attempts on everything else of the user who booted the system.

Each row holds with and without a uid for every environment: most of what it needs refused is the uid's to refuse
in the one case, and the other layers' in the other.
"""

import re

import pyseccomp

from libexo.launch.confine.seccomp import UNIFIED
from tests.system.attacks import Attack
from tests.system.programs import PRELUDE

ATTACKER = (
    PRELUDE
    + """
PID, FOLDER, TERMINAL, QUEUE, ABSTRACT = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
FILE = FOLDER + "/file"

def connect(address):
    with socket.socket(socket.AF_UNIX) as s: s.connect(address)

def call(name, *arguments):
    called("syscall", CALLS[name], *arguments)

def proc(*names):
    show(*[lambda n=n: open(f"/proc/{PID}/{n}", "rb").read(1) for n in names])
"""
)
"""How every attack begins. The arguments: `Bystander.arguments`."""


def refused(count: int) -> str:
    """Return what *count* refusals for lack of permission look like."""
    return " ".join(["{EPERM,EACCES}"] * count)


OPERATING = (
    Attack(
        "secret", "reads the operators' secret, by its path and by those of others that lead there",
        "show(*[lambda p=p: open(p, 'rb').read() for p in (RUN + '/operator', f'/proc/{os.getppid()}/cwd' + RUN + "
        "'/operator', f'/proc/self/root{RUN}/operator')], lambda: os.listdir(RUN))",
        refused(4),
    ),
    Attack(
        "lets_others_read", "changes who may read the secret, and closes the run directory",
        "own = RUN + '/operator'\n"
        "show(lambda: os.chmod(own, 0o644), lambda: os.chmod(RUN, 0), lambda: os.chmod(RUN + '/ipc', 0),"
        " lambda: os.link(own, FOLDER + '/copy'), lambda: os.rename(own, FOLDER + '/x'))",
        refused(4) + " {EPERM,EACCES,EXDEV}",
    ),
    Attack(
        "attach", "attaches as a server and as somebody new, showing nothing or a guess",
        "def attach(name, *secret):\n"
        "    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:\n"
        "        s.connect(RUN + '/gate'); s.send(msgspec.msgpack.encode(gate.Attach(name, *secret)))\n"
        "        print(s.recv(4096)[0])\n"
        "attach('memory'); attach('new'); attach('memory', bytes(32)); attach('new', os.urandom(32))",
        "1 1 1 1",
    ),
    Attack(
        "console", "commands the system, showing nothing, a guess, and what is no secret at all",
        "def ask(**request):\n"
        "    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:\n"
        "        s.connect(RUN + '/console')\n"
        "        request = msgspec.json.encode({'op': 'end', 'name': 'memory', **request})\n"
        "        with contextlib.suppress(OSError): s.send(request)\n"
        "        def said():\n"
        "            try: return s.recv(4096)\n"
        "            except ConnectionResetError: return s.recv(4096)\n"
        "        print(said()[:9], said() == b'')\n"
        "ask(); ask(secret='00' * 32); ask(secret='no digits'); ask(secret='')",
        'b\'{"error":\' True ' * 4,
    ),
    Attack(
        "own_file", "has a program started whose own file is the secret",
        "process = Processes.connect(env)\n"
        "exited = process.wait(process.spawn(ProgramSpec(1, (RUN + '/operator',), 'reader')))\n"
        "print(exited.status)",
        "{1,127}",
    ),
)  # fmt: skip

FILES = (
    Attack(
        "files", "reads, writes, makes, names and removes its user's files",
        "show(lambda: open(FILE), lambda: open(FILE, 'a'), lambda: os.listdir(FOLDER), lambda: os.unlink(FILE),"
        " lambda: os.rename(FILE, FILE + '2'), lambda: os.link(FILE, FILE + '3'), lambda: os.mkdir(FOLDER + '/d'),"
        " lambda: os.symlink(FILE, FOLDER + '/l'), lambda: os.mkfifo(FOLDER + '/p'), lambda: os.truncate(FILE, 0),"
        " lambda: os.open(FOLDER, os.O_TMPFILE | os.O_RDWR), lambda: open('/dev/shm/exo-attack', 'w'))",
        refused(12),
    ),
    Attack(
        "attributes", "changes mode, owner, times and attributes of its user's files",
        "show(lambda: os.chmod(FILE, 0o777), lambda: os.chmod(FOLDER, 0), lambda: os.chown(FILE, -1, -1),"
        " lambda: os.utime(FILE, (1, 1)), lambda: os.setxattr(FILE, 'user.x', b'x'),"
        " lambda: os.removexattr(FILE, 'user.x'), lambda: call('fchmodat2', -100, FILE.encode(), 0o777, 0))",
        refused(7),
    ),
    Attack(
        "watching", "watches what happens to files, and holds up who opens one",
        "own = os.open(sys.prefix, os.O_RDONLY)\n"
        "show(lambda: called('inotify_init'), lambda: called('inotify_init1', 0),"
        " lambda: called('fanotify_init', 0, 0), lambda: fcntl.fcntl(own, fcntl.F_NOTIFY, fcntl.DN_ACCESS),"
        " lambda: fcntl.fcntl(own, fcntl.F_SETLEASE, 0))",
        refused(5),
    ),
    Attack(
        "terminals", "opens its user's terminals, and types there",
        "show(lambda: os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY), lambda: os.open(TERMINAL, os.O_RDONLY),"
        " lambda: os.open('/dev/tty', os.O_RDWR), lambda: os.open('/dev/ptmx', os.O_RDWR),"
        " lambda: fcntl.ioctl(0, 0x5412, b'x'), lambda: fcntl.ioctl(0, 0x541C, b'x'))",
        refused(6),
    ),
)  # fmt: skip

CHANNELS = (
    Attack(
        "abstract", "connects to an abstract socket of the host",
        "show(lambda: connect('\\0' + ABSTRACT))", "{EPERM,ECONNREFUSED}",
    ),
    Attack(
        "queues", "takes messages and memory of System V and POSIX, and removes them",
        "show(lambda: called('msgctl', QUEUE, 0, None), lambda: called('msgrcv', QUEUE, bytes(64), 8, 0, 0o4000),"
        " lambda: called('msgsnd', QUEUE, b'1234567812345678', 8, 0o4000), lambda: called('msgget', 1, 0),"
        " lambda: called('shmctl', 0, 0, None), lambda: called('semctl', 0, 0, 0, 0),"
        " lambda: called('semop', 0, None, 0), lambda: call('mq_unlink', b'exo-none'))\n",
        refused(8),
    ),
    Attack(
        "keys", "looks into its user's keyrings",
        "show(lambda: call('keyctl', 6, -4, 0, 0), lambda: call('add_key', b'user', b'x', b'y', 1, -4))",
        refused(2),
    ),
    Attack(
        "large", "asks for the parts of the host with the largest surface",
        "show(*[lambda n=n: call(n, 0, 0, 0, 0, 0) for n in ('bpf', 'userfaultfd', "
        "'perf_event_open', 'io_uring_setup', 'open_by_handle_at', 'process_madvise', 'process_mrelease', 'kcmp', "
        "'move_pages', 'migrate_pages')])",
        refused(10),
    ),
)  # fmt: skip

PROCESSES = (
    Attack("proc", "reads its user's other processes",
           "proc('mem', 'environ', 'maps', 'smaps', 'auxv', 'stack', 'syscall', 'io', "
           "'cwd', 'root', 'exe', 'fd/0')", " ".join(["{EPERM,EACCES,EISDIR}"] * 12)),
    Attack("proc_write", "changes how the host treats its user's other processes",
           "show(*[lambda n=n: open(f'/proc/{PID}/{n}', 'w') for n in "
           "('oom_score_adj', 'coredump_filter', 'timerslack_ns', 'comm', 'clear_refs')])", refused(5)),
    Attack("signals", "signals its user's other processes, in every way there is",
           "show(lambda: os.kill(PID, signal.SIGUSR1), lambda: call('tgkill', PID, PID, 10), "
           "lambda: signal.pidfd_send_signal(os.pidfd_open(PID), signal.SIGUSR1))\n"
           "reading, writing = socket.socketpair()\n"
           "fcntl.fcntl(reading, fcntl.F_SETFL, fcntl.fcntl(reading, fcntl.F_GETFL) | os.O_ASYNC)\n"
           "print(outcome(lambda: fcntl.fcntl(reading, fcntl.F_SETOWN, PID))); writing.send(b'x')",
           refused(3) + " {done,EPERM}"),
    Attack("traces", "traces its user's other processes, and takes their descriptors",
           "show(lambda: called('ptrace', 16, PID, 0, 0), lambda: call('pidfd_getfd', os.pidfd_open(PID), 0, 0))",
           refused(2)),
    Attack("processors", "takes processor, core and limits from its user's other processes",
           "import resource; parameter = os.sched_param(0)\n"
           "show(lambda: os.setpriority(os.PRIO_PROCESS, PID, 19), lambda: os.sched_setaffinity(PID, {0}), "
           "lambda: os.sched_setparam(PID, parameter), "
           "lambda: os.sched_setscheduler(PID, os.SCHED_IDLE, parameter), "
           "lambda: call('ioprio_set', 1, PID, 3 << 13), lambda: resource.prlimit(PID, 7, (9, 9)), "
           "lambda: os.sched_setscheduler(PID, os.SCHED_OTHER, parameter))", refused(6) + " done"),
    Attack("cgroups", "moves itself to another control group",
           "show(*[lambda p=p: open(p, 'w') for p in "
           "('/sys/fs/cgroup/cgroup.procs', '/sys/fs/cgroup/cpu/tasks', '/proc/sys/kernel/core_pattern')])",
           " ".join(["{EPERM,EACCES,ENOENT,EROFS}"] * 3)),
)  # fmt: skip

HOST = (*OPERATING, *FILES, *CHANNELS, *PROCESSES)


def program(attack: Attack) -> str:
    """Return the text of *attack*, with the numbers of the system calls it names."""
    names = {*re.findall(r"'(\w+)'", attack.program)}
    calls = {name: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) for name in names}
    known = {name: number for name, number in {**calls, **UNIFIED}.items() if number >= 0}
    return f"CALLS = {known!r}\n{ATTACKER}{attack.program}"
