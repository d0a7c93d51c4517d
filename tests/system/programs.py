"""A prelude for the tests' programs, and a bystander for them to meet."""

PRELUDE = """
import contextlib, ctypes, errno, fcntl, mmap, os, signal, socket, sys, threading
import libexo, msgspec, zmq
from kernel.abi import gate, ids, kip, limits, messages, rights, traps
from libexo import ipc, vm
from libexo.errors import ExoError, IpcError, RemoteError, TrapRefused
from libexo.extent import Extent, GrantedExtent
from libexo.stub import Interface, operation, serve
from libexo.transport import framing
from servers.memory.api import Memory
from servers.process.api import Processes, ProgramSpec
from servers.scheduler.api import Scheduler

class Vault(Interface, label=0x51, name="vault"):
    @operation(1)
    def share(self) -> Extent: ...
    @operation(2)
    def revoke(self) -> int: ...
    @operation(3, repeatable=True)
    def secret(self) -> bytes: ...
    @operation(4)
    def take(self, extent: Extent) -> bytes: ...
    @operation(5)
    def handles(self) -> list[int]: ...
    @operation(6)
    def tokens(self) -> list[bytes]: ...
    @operation(7)
    def where(self) -> int: ...

libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
env = libexo.attach()
RUN = os.environ["EXO_RUN"]

def called(name, *arguments):
    if libc[name](*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)

def outcome(call):
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno]
    except TrapRefused as error:
        return error.refusal.name
    except RemoteError as error:
        return error.kind
    except Exception as error:
        return type(error).__name__
    return "done"

def show(*calls):
    print(*[outcome(call) for call in calls])

def shared():
    extent = vault.share()
    return extent, vm.map(env, extent)

def address(view):
    return ctypes.addressof(view.obj)

class Bare:
    # A connection to an end point without a library around it.
    def __init__(self, address, token=b""):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(5)
        self.socket.connect(f"{RUN}/ipc/{address}")
        self.send(token)
    def send(self, data):
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)
    def say(self, *frames):
        self.send(framing.encode(frames))
    def ended(self):
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(1 << 16): pass
        return True
    def answered(self):
        return bool(self.socket.recv(1))

def bound(name):
    binding, _ = env.sys.bind(env.lookup(name))
    return Bare(binding.address, binding.token)

def request(kind=messages.PacketKind.CALL, label=0x42, operation=2, sequence=1, parts=None):
    arguments = msgspec.msgpack.encode(())
    parts = [messages.StringPart(len(arguments))] if parts is None else parts
    packet = messages.Packet(kind, sequence, label, (operation,), tuple(parts))
    return [msgspec.msgpack.encode(packet), arguments]

def gate_socket():
    return socket.socket(fileno=os.dup(env.gate.fileno()))
"""

VAULT = (
    PRELUDE
    + """
class Server(Vault):
    def __init__(self):
        self.extent = Memory.connect(env).allocate(2)
        self.view = vm.map(env, self.extent)
        self.view[:6] = b"secret"
    def share(self): return self.extent.read_only()
    def revoke(self): return vm.revoke(env, self.extent)
    def secret(self): return bytes(self.view[:6])
    def take(self, extent): return bytes(vm.map(env, extent)[:6])
    def handles(self): return list(env.sys.inventory())
    def where(self): return address(self.view)
    def tokens(self): return [l.token for links in env.thread.core.links.values() for l in links]

server = Server()
print(env.thread.id)
serve(server, name="vault")
"""
)
"""A bystander that holds memory and shares it for reading with any program that asks."""

OBEY = """
print("ready", flush=True)
for line in sys.stdin:
    try:
        print(eval(line), flush=True)
    except SyntaxError:
        exec(line)
        print("done", flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
"""
"""The end of a program that does what it is told, line by line: an expression is answered with its value."""
