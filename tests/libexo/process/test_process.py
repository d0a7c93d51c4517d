"""libexo.process on the simulated machine: programs that begin at a function, and forks."""

import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from kernel.abi.rights import Rights
from libexo import process, regions, vm
from libexo.environment import Environment
from libexo.errors import ExoError, RemoteError
from libexo.extent import Extent
from libexo.ipc import Message
from libexo.process import own, starting
from libexo.process.server import begin
from libexo.regions import Region
from tests.libexo.regions.worlds import content, one, peek, poke


def answer(env: Environment, *arguments: object) -> None:
    """Say what came, and who it is."""
    _, request = env.thread.wait()
    env.thread.reply(request, Message(items=(repr(arguments).encode(),)))


def asked(env: Environment, child: process.Child) -> bytes:
    (item,) = env.thread.call(child.thread, Message()).items
    assert isinstance(item, bytes)
    return item


def test_what_travels() -> None:
    """Numbers, texts, bytes and lists arrive as they are, functions as those of their module."""

    def program(env: Environment) -> list[object]:
        child = process.start(env, answer, 1, "two", b"three", [4, None], Rights, name="worker")
        row = env.kip.environment_of(child.thread)
        assert row is not None
        return [asked(env, child), row.name, child.wait().status]

    assert one(program) == [b"(1, 'two', b'three', [4, None], <flag 'Rights'>)", "worker", 0]


def store(env: Environment, extent: Extent, byte: int) -> None:
    """Store it."""
    vm.map(env, extent)[0] = byte


def fail(_env: Environment) -> None:
    """Fail."""
    raise ValueError("on purpose")


def test_an_extent_is_shared() -> None:
    """What a child stores in an extent that it was passed is there for its starter."""

    def program(env: Environment) -> int:
        extent = env.services.memory().allocate(1)
        view = vm.map(env, extent)
        process.start(env, store, extent, 99).wait()
        found = view[0]
        vm.unmap(env, view)
        env.sys.drop(extent.handle)
        return found

    assert one(program) == 99


def test_what_cannot_travel() -> None:
    """What has no name in another program is refused before there is one; what does not encode leaves none."""

    def program(env: Environment) -> list[int]:
        with pytest.raises(ValueError, match=r"local.*top of its module"):
            process.start(env, lambda env: None)
        with pytest.raises(ValueError, match=r"local.*top of its module"):
            process.start(env, answer, lambda: None)
        with pytest.raises(TypeError):
            process.start(env, answer, object())
        return []

    assert one(program) == []


def grow(env: Environment, region: Region, deep: int) -> None:
    """Fork one that does the same deeper down, and hold what was there before."""
    poke(region, deep, 10 + deep)
    if deep < 2:
        child = process.fork(env, grow, region, deep + 1, budget={"bindings": 4})
        poke(region, deep, 20 + deep)
        asked(env, child)
        assert child.wait().status == 0
    _, request = env.thread.wait()
    env.thread.reply(request, Message(items=(bytes(content(region)),)))


def test_forks_of_forks() -> None:
    """A child has its parent's region as it was; what either writes after is its own, two deep."""

    def program(env: Environment) -> list[list[int]]:
        region = regions.start(env).make(pages=4)
        poke(region, 0, 1)
        child = process.fork(env, grow, region, 1, budget={"bindings": 12})
        poke(region, 0, 2)
        theirs = list(asked(env, child))
        assert child.wait().status == 0
        return [content(region), theirs]

    assert one(program) == [[2, 0, 0, 0], [1, 21, 0, 0]]


def add(_env: Environment, region: Region, other: int) -> None:
    """Add one, with a copy beside it; and find that another region is none of ours."""
    with region.copy() as copy:
        poke(region, 0, peek(copy, 0) + 1)
    assert region.written() == [0]
    with pytest.raises(RemoteError, match=r"NotYours.*has not shared it"):
        region.pager.ask.close(other)


def test_a_region_that_is_passed_is_the_same() -> None:
    """A region that a program is started with is shared, and not copied; no other is."""

    def program(env: Environment) -> list[int]:
        pager = regions.start(env)
        region, other = pager.make(pages=1), pager.make(pages=1)
        child = process.start(env, add, region, other.extent.first, paged=True)
        assert child.wait().status == 0
        return content(region) + content(other)

    assert one(program) == [1, 0]


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that come from a starter are forgotten after the test."""
    monkeypatch.setattr(own, "_own", {})
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])


@pytest.mark.usefixtures("fresh")
def test_a_file_that_does_its_work_when_it_is_run() -> None:
    """A file without its main part apart is told to put it there, instead of starting itself again and again."""
    careless = own.Source(
        "careless.py", "from libexo import attach, process\nprocess.start(attach(), print)\n"
    )

    def program(env: Environment) -> str:
        called = starting.Start(starting.Reference("careless", "f"), {"careless": careless}, ())
        with pytest.raises(ExoError) as refused:
            begin(env, Message(items=(msgspec.msgpack.encode(called),)))
        return str(refused.value)

    assert one(program) == (
        "careless.py starts a program while it is run for its functions only: "
        'keep its own work under `if __name__ == "__main__":`'
    )


@pytest.mark.usefixtures("fresh")
def test_its_own_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """A function of the program's own file is that of a module that no other is called like, with its text."""
    main = ModuleType("__main__")
    main.__file__ = __file__
    monkeypatch.setitem(sys.modules, "__main__", main)
    function = type("own", (), {"__module__": "__main__", "__qualname__": "own"})
    named = starting.reference(function)
    found = own.sources({named.module}, {})

    assert named == starting.Reference("__exo_main__", "own")
    assert found == {named.module: own.Source(__file__, Path(__file__).read_text(encoding="utf-8"))}
    assert own.sources({"json"}, {}) == {}

    main.__file__ = "/nowhere"
    with pytest.raises(ValueError, match="text of /nowhere is not known"):
        own.sources({named.module}, {})
