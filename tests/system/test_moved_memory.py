"""Memory that moves because its lender revoked another share: it harms no reader."""

import os

import pytest

from tests.system.booted import System
from tests.system.programs import PRELUDE, VAULT

pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

MOVES = 50
MOVER = """
class Mover(Interface, label=0x61, name="mover"):
    @operation(1)
    def move(self, extent: Extent, times: int) -> int: ...
"""
HOSTILE = (
    PRELUDE
    + MOVER
    + """
vault = Vault.connect(env)
class Server(Mover):
    def move(self, extent, times):
        taken = 0
        for _ in range(times):
            vault.take(Extent(extent.handle, extent.pages, extent.first, 4))
            taken += env.sys.revoke(extent.handle)[0]
        return taken
print("serves", flush=True)
serve(Server(), name="mover")
"""
)
"""Lends what it was lent to the vault, which maps it, and takes it back: each time all its memory moves."""
OWNER = (
    PRELUDE
    + MOVER
    + """
extent = Memory.connect(env).allocate(16)
view = vm.map(env, extent)
pattern = bytes(range(256)) * (len(view) // 256)
view[:] = pattern
reads, wrong, over = 0, 0, False
def read():
    global reads, wrong
    while not over:
        reads += 1
        wrong += bytes(view) != pattern
reader = threading.Thread(target=read)
reader.start()
taken = Mover.connect(env).move(Extent(extent.handle, extent.pages, extent.first, 4 | 16), int(sys.argv[1]))
over = True
reader.join()
print(taken, wrong, reads > 0)
"""
)


def test_an_owner_goes_on_reading(booted: System) -> None:
    """Its memory moves fifty times under its hands: it finds what it wrote, always, and no access ends it."""
    with booted.start(VAULT, name="vault") as vault, booted.start(HOSTILE, name="mover") as mover:
        vault.line()
        mover.line()

        finished = booted.run(OWNER, MOVES)
        assert (finished.out, finished.err, finished.status) == (f"{MOVES} 0 True\n", "", 0)


READER = """
class Reader(Interface, label=0x62, name="reader"):
    @operation(1)
    def read(self, extent: Extent) -> int: ...
    @operation(2)
    def process(self) -> int: ...
"""
SERVED = (
    PRELUDE
    + READER
    + """
class Server(Reader):
    def read(self, extent):
        view = vm.map(env, extent)
        view[0] = 1
        while view[0]: pass
        return 1
    def process(self): return os.getpid()
print("serves", flush=True)
serve(Server(), name="reader")
"""
)
"""Says that it has mapped what it was lent, and reads it again when it has been taken back."""
FAITHLESS = (
    PRELUDE
    + READER
    + """
reader = Reader.connect(env)
before = reader.process()
for take_back in (env.sys.revoke, env.sys.drop):
    extent = Memory.connect(env).allocate(1)
    view = vm.map(env, extent)
    said = []
    caller = threading.Thread(target=lambda: said.append(outcome(lambda: reader.read(extent))))
    caller.start()
    while not view[0]: pass
    take_back(extent.handle)
    caller.join()
    print(said, reader.process() == before)
"""
)


def test_a_server_outlives_what_it_reads(booted: System) -> None:
    """A caller that takes memory back while a server uses it is told, and ends no server."""
    with booted.start(SERVED, name="reader") as server:
        server.line()
        finished = booted.run(FAITHLESS)

        assert (finished.out, finished.err) == ("['MemoryTaken'] True\n" * 2, "")
