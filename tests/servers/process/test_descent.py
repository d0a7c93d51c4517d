"""Descent of programs, and the end of one with all its descendants."""

import signal
from collections.abc import Callable, Iterator

import pytest

from libexo.environment import Environment
from libexo.errors import RemoteError
from libexo.testing import System
from servers.memory.api import Memory
from servers.process.api import Exit, Processes, ProgramSpec
from servers.process.children import Child
from servers.process.descent import called, pass_on, with_descendants
from servers.process.policy import NoFamily, NoSuchProgram
from tests.servers.process.test_replacement import Desk, opened
from tests.servers.rig import alive, command, kill, offer

SERVERS = ["memory", "process", "scheduler"]


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with opened(monkeypatch) as made:
        yield made


def child(name: str, thread: int, parent: int = 0, first: str = "", family: int = 0) -> Child:
    """One of the process server's children; families are numbered as the thread of their first is here."""
    return Child(
        ProgramSpec(1, (), name),
        thread,
        0,
        parent,
        family=family or thread,
        parent=parent,
        first=first or name,
    )


def names(children: list[Child]) -> list[str]:
    return [each.spec.name for each in children]


TREE = [
    Child(ProgramSpec(1, (), "memory"), 96, 0, 0),
    child("a", 1),
    child("aa", 2, 1, "a", 1),
    child("aaa", 3, 2, "a", 1),
    child("ab", 4, 1, "a", 1),
    child("b", 5),
    child("ca", 7, 0, "c", 6),
    child("cb", 8, 0, "c", 6),
]


def test_descendants() -> None:
    """Children and theirs, parents first; of a first, its family; of one that ended, what is left of that."""
    assert names(with_descendants(TREE, TREE[1])) == ["a", "aa", "ab", "aaa"]
    assert names(called(TREE, "aa")) == ["aa", "aaa"]
    assert names(called(TREE, "a")) == ["a", "aa", "aaa", "ab"]
    assert names(called(TREE, "c")) == ["ca", "cb"]
    for name in ("memory", "nobody"):
        with pytest.raises(NoSuchProgram):
            called(TREE, name)


def test_a_name_that_an_orphan_took_over() -> None:
    """A descendant that is called as the first was hides nothing of the family."""
    family = [child("bomb", 7, 0, "bomb", 6), child("bomb-2", 8, 0, "bomb", 6)]

    assert names(called(family, "bomb")) == ["bomb", "bomb-2"]


def test_a_name_that_was_used_again() -> None:
    """The first of a family is called as an older one's was: it ends, and the older's rest next."""
    older, newer = [child("rest", 7, 0, "job", 6)], [child("job", 9), child("work", 10, 9, "job", 9)]

    assert names(called([*older, *newer], "job")) == ["job", "work"]
    assert names(called(older, "job")) == ["rest"]


def test_who_ends_leaves_its_children_to_its_parent() -> None:
    """So a descendant is found from every living program it came of."""
    first, middle, last = child("a", 1), child("aa", 2, 1, "a", 1), child("aaa", 3, 2, "a", 1)
    pass_on([first, last], middle.thread, middle.parent)

    assert names(with_descendants([first, last], first)) == ["a", "aaa"]


def starts(specs: list[ProgramSpec], said: list[str], *, ends: bool = False) -> Callable[[Environment], None]:
    """A program that starts *specs*, one after another, and notes in *said* what is refused."""

    def program(env: Environment) -> None:
        for spec in specs:
            try:
                Processes.connect(env).spawn(spec)
            except RemoteError as refused:
                said.append(str(refused))
            env.thread.sleep(0.5)
        if not ends:
            env.thread.sleep(10_000)

    return program


def sleep(env: Environment) -> None:
    env.thread.sleep(10_000)


def start(system: System, spec: ProgramSpec, seconds: float = 1.0) -> None:
    """Start a program for an operator."""
    command(system, lambda env: Processes.connect(env).spawn(spec))
    system.pass_time(seconds)


def family(system: System, *, ends: bool = False) -> None:
    """Start `first`, with `middle` and that with `last`, which is restarted whenever it ends; and `other`."""
    last = offer(system, sleep, "last")
    last.restart, last.budget = "always", {"restarts": 0, "children": 0}
    middle = offer(system, starts([last], [], ends=ends), "middle")
    start(system, offer(system, starts([middle], [], ends=ends), "first"), 2)
    start(system, offer(system, sleep, "other"))


@pytest.mark.parametrize(
    ("name", "left"), [("first", []), ("middle", ["first"]), ("last", ["first", "middle"])]
)
def test_a_program_and_its_descendants_end(desk: Desk, name: str, left: list[str]) -> None:
    """Those it came of do not, nor does anybody else; nobody is restarted."""
    family(desk.system)

    ended = desk.do(lambda: desk.root.end_family(name), seconds=20)

    assert names(ended) == [each for each in ("first", "middle", "last") if each not in left]
    assert alive(desk.system) == sorted([*left, *SERVERS, "other"])


@pytest.mark.parametrize("again", ["", "process"])
def test_of_who_ended_the_descendants_end(desk: Desk, again: str) -> None:
    """A family is found by what its first was called, also by a process server that was restarted."""
    family(desk.system, ends=True)
    assert alive(desk.system) == sorted(["last", *SERVERS, "other"])
    if again:
        kill(desk.system, again)

    assert names(desk.do(lambda: desk.root.end_family("first", 0), seconds=10)) == ["last"]
    assert alive(desk.system) == sorted([*SERVERS, "other"])


def test_after_restarts_the_descendants_are_found(desk: Desk) -> None:
    """The successor of a program is the parent of what that had started."""
    system = desk.system
    late, once = offer(system, sleep, "late"), [1]

    def starts_one_once(env: Environment) -> None:
        if once.pop():
            once.append(0)
            Processes.connect(env).spawn(late)
        env.thread.sleep(10_000)

    middle = offer(system, starts_one_once, "middle")
    middle.restart, middle.budget = "always", {"children": 2}
    start(system, offer(system, starts([middle], []), "first"))
    kill(system, "middle")
    assert {"middle", "late"} <= {*alive(system)}

    assert names(desk.do(lambda: desk.root.end_family("middle"), seconds=10)) == ["middle", "late"]
    assert alive(system) == sorted(["first", *SERVERS])


def test_who_is_being_ended_starts_nobody(desk: Desk) -> None:
    """Its requests in its last seconds are refused, so that nothing is left when they are over."""
    system = desk.system
    said: list[str] = []
    specs = [offer(system, sleep, f"child-{n}") for n in range(6)]
    start(system, offer(system, starts(specs, said), "bomb"))
    [body] = [e.body for e in system.kernel.environments if e.name == "bomb"]
    body.handlers[signal.SIGTERM] = lambda: None  # type: ignore[attr-defined]

    ended = desk.do(lambda: desk.root.end_family("bomb", 5), seconds=10)

    assert ended[0].spec.name == "bomb"
    assert 0 < len(said) == len(specs) - len(ended[1:])
    assert {text.partition(": it")[0] for text in said} == {
        "SpawnRefused: bomb is being ended with all its descendants"
    }
    assert alive(system) == sorted(SERVERS)


def test_a_process_server_that_is_restarted_goes_on(desk: Desk) -> None:
    """Killed while they have their grace, it remembers whom it was ending: no program stays, or starts another."""
    system, said = desk.system, list[str]()
    specs = [offer(system, sleep, f"child-{n}") for n in range(9)]
    start(system, offer(system, starts(specs, said), "bomb"))
    [body] = [e.body for e in system.kernel.environments if e.name == "bomb"]
    body.handlers[signal.SIGTERM] = lambda: None  # type: ignore[attr-defined]

    ended = desk.do(lambda: desk.root.end_family("bomb", 60), seconds=0.1)
    kill(system, "process")
    system.pass_time(1)
    assert "bomb" in alive(system)
    assert len(said) > 0

    system.pass_time(10)
    assert len(ended) + len(said) == 1 + len(specs)
    assert alive(system) == sorted(SERVERS)


def test_servers_of_the_topology_have_no_family(desk: Desk) -> None:
    """It is said what to do instead; and that a name is nobody's."""
    with pytest.raises(NoFamily, match="memory is a server of the topology"):
        desk.do(lambda: desk.root.end_family("memory"))
    with pytest.raises(NoSuchProgram, match="'nobody'"):
        desk.do(lambda: desk.root.end_family("nobody"))
    assert alive(desk.system) == sorted(SERVERS)


def test_who_ended_while_he_was_to_be_ended_is_not_forgotten(desk: Desk) -> None:
    """The kernel has ended a program, and has yet to say so: a waiting caller still hears of it."""
    start(desk.system, offer(desk.system, sleep, "short"))
    heard: list[Exit] = []

    def end_one_that_ended() -> None:
        child = desk.root.named("short")
        desk.root.when_ended(child.thread, heard.append)
        desk.root.environment.sys.environment_destroy(child.handle, "")
        desk.root.end(child, 0)

    desk.do(end_one_that_ended)
    assert len(heard) == 1
    assert alive(desk.system) == sorted(SERVERS)


def test_who_waits_to_be_restarted_ends_with_its_family_at_once(desk: Desk) -> None:
    """Its name is free, and what the kernel kept for its successor goes back."""
    fails = offer(desk.system, lambda env: Memory.connect(env).allocate(9), "fails")
    fails.restart, fails.budget = "always", {"restarts": 0, "children": 0}
    start(desk.system, offer(desk.system, starts([fails], []), "first"), 20)
    assert alive(desk.system) == sorted([*SERVERS, "first"])

    ended = desk.do(lambda: desk.root.end_family("first", 0), seconds=0.1)

    assert names(ended) == ["first", "fails"]
    with pytest.raises(NoSuchProgram):
        desk.do(lambda: desk.root.named("fails"))


def test_nobody_gives_a_child_more_time_than_he_has(desk: Desk) -> None:
    """An operator ends a family by its own grace: none of it ignores SIGTERM for longer than the first may."""
    system = desk.system
    stubborn, modest = offer(system, sleep, "stubborn"), offer(system, sleep, "modest")
    stubborn.grace, modest.grace = 3600, 1
    first = offer(system, starts([stubborn, modest], []), "first")
    first.grace = 2
    start(system, first, 2)
    for environment in system.kernel.environments:
        if environment.name == "stubborn":
            environment.body.handlers[signal.SIGTERM] = lambda: None  # type: ignore[attr-defined]

    ended = desk.do(lambda: desk.root.end_family("first"), seconds=3)

    assert {child.spec.name: child.spec.grace for child in ended} == {"first": 2, "stubborn": 2, "modest": 1}
    assert alive(system) == sorted(SERVERS)
