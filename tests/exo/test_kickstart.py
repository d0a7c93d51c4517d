"""kickstart: what its command line means, and the topology it makes; the booting itself is in tests/system."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from exo.__main__ import main
from exo.kickstart import CommandLine, plan, remarks, take_apart
from exo.modules import Module, servers, topology
from exo.system import Trouble, Usage
from kernel.abi.rights import Kind
from kernel.abi.topology import BootConfig, MachineConfig, Topology, load
from libexo.testing import simulated

ROOT = Path(__file__).parents[2]
BASE = load(ROOT / "system.toml")
M, S, P = "servers/memory", "servers/scheduler", "servers/process"

Said = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with a program, a class and an executable."""
    (tmp_path / "my_root.py").write_text("print('here')\n")
    (tmp_path / "mine.py").write_text("raise AssertionError('nobody imports it here')\n")
    (tmp_path / "a.out").write_bytes(b"\x7fELF rest")
    return tmp_path


def made(words: Sequence[str], root: str | None, folder: Path = ROOT, base: Topology = BASE) -> Topology:
    return topology(base, plan(words, root, folder))


# --------------------------------------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], CommandLine([])),
        ([M, S], CommandLine([M, S])),
        (["maxmem=64M", M], CommandLine([M], 64 << 20)),
        ([M, "maxmem=4096"], CommandLine([M], 4096)),
        (["maxmem=1g"], CommandLine([], 1 << 30)),
        (["maxmem=8K", "maxmem=16K"], CommandLine([], 16 << 10)),
        (["bootinfo=off"], CommandLine([], None, bootinfo=False)),
        (["bootinfo=yes"], CommandLine([])),
        (["bootinfo=enable"], CommandLine([])),
        (["bootinfo=no", "mbi=off", "decode-all=disable"], CommandLine([], None, bootinfo=False)),
        (["a.py key=value"], CommandLine(["a.py key=value"])),
        (["./x=y.py"], CommandLine(["./x=y.py"])),
    ],
)
def test_options_and_modules(words: list[str], expected: CommandLine) -> None:
    """A word NAME=VALUE is an option, wherever it stands; what is quoted with a blank in it is a module."""
    assert take_apart(words) == expected


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("kmem=16M", "kmem=16M means nothing here, leave it out: the kernel has its memory from the host"),
        ("mbi=on", "mbi=on means nothing here, leave it out: there is no multiboot loader"),
        ("decode-all=yes", "decode-all=yes means nothing here, leave it out: modules are Python programs"),
        ("maxmem=", "maxmem= is not a size: write a number of at least 4K"),
        ("maxmem=64T", "maxmem=64T is not a size"),
        ("maxmem=4095", "maxmem=4095 is not a size"),
        ("bootinfo=maybe", "bootinfo=maybe: write bootinfo=on or bootinfo=off"),
        ("mbi=", "mbi=: write mbi=on or mbi=off"),
        ("verbose=1", "there is no option verbose=: there are maxmem=, bootinfo=, kmem=, mbi=, decode-all="),
    ],
)
def test_options_that_are_refused(word: str, message: str) -> None:
    """An option that is none, has a wrong value, or means nothing here is refused, with the reason."""
    with pytest.raises(Usage, match=message):
        take_apart([word])


@pytest.mark.parametrize(
    ("words", "root", "names", "sigma0", "roottask"),
    [
        ([S], M, ["memory", "scheduler"], 0, 0),
        ([], M, ["memory"], 0, 0),
        ([M, S], P, ["process", "memory", "scheduler"], 1, 0),
        ([S], P, ["memory", "process", "scheduler"], 0, 1),
        (["kernel", M, P, S], None, ["memory", "process", "scheduler"], 0, 1),
        (["/boot/kernel", M, S], None, ["memory", "scheduler"], 0, 1),
        (
            ["maxmem=1M", "kernel", "my_root.py", P],
            None,
            ["my_root", "process"],
            0,
            1,
        ),
    ],
)
def test_who_is_who(
    words: list[str], root: str | None, names: list[str], sigma0: int, roottask: int, folder: Path
) -> None:
    """With -roottask= the memory server is sigma0, implied if not named; without, places give the roles."""
    boot = plan(words, root, folder)

    assert [module.name for module in boot.modules] == names
    assert (boot.sigma0, boot.root) == (sigma0, roottask)


@pytest.mark.parametrize(
    ("words", "root", "message"),
    [
        ([], None, "0 modules, the kernel, sigma0, the root task missing"),
        (["kernel", M], None, "2 modules, the root task missing"),
        ([M, P, S], None, "module 0 is the kernel, not 'servers/memory'"),
        (["kernel", P, M], None, "all RAM is sigma0's"),
        ([S, S], M, "servers/scheduler is given twice"),
        ([], "servers/mail", "no server 'servers/mail': there are servers/memory, servers/process"),
        (
            [],
            "nosuch.py",
            "there is no module 'nosuch.py': write servers/NAME, a Python file, or module:Class",
        ),
        ([], "nosuch:Class", "cannot boot nosuch:Class: there is no module 'nosuch' in"),
        ([], "a.out", "a.out is an executable of the host"),
        ([], "", "a module is empty"),
        ([], "my_root.py 'x", "cannot be split into words: No closing quotation"),
    ],
)
def test_lines_that_are_refused(words: list[str], root: str | None, message: str, folder: Path) -> None:
    """A boot that cannot succeed is refused before anything is started."""
    with pytest.raises(Trouble, match=message):
        plan(words, root, folder)


def test_modules(folder: Path) -> None:
    """A module may be a server of this tree, a file, or a class that is not imported here; with arguments."""
    boot = plan(["my_root.py verbose=1 'a b'", "mine:Server x", f"{S} quantum=5"], M, folder)

    assert boot.modules == (
        Module("servers.memory"),
        Module(str(folder / "my_root.py"), ("verbose=1", "a b"), str(folder)),
        Module("mine:Server", ("x",), str(folder)),
        Module("servers.scheduler", ("quantum=5",)),
    )


def test_the_servers_of_this_tree() -> None:
    """Every folder of servers/ that can be run is one."""
    assert servers() == sorted(path.parent.name for path in (ROOT / "servers").glob("*/__main__.py"))


# ------------------------------------------------------------------------------------------------- the topology


def test_memory_as_root_task() -> None:
    """It is sigma0 too: one environment, thread 96, that holds RAM and factory; the scheduler follows."""
    servers = made([S], M).server
    memory, scheduler = servers["memory"], servers["scheduler"]

    assert list(servers) == ["memory", "scheduler"]
    assert (memory.thread, memory.holds, memory.calls) == (96, ("factory", "ram"), ())
    assert (scheduler.thread, scheduler.holds, scheduler.calls) == (99, ("cpus",), ("memory",))


def test_the_process_server_as_root_task() -> None:
    """The usual system, in whatever order it is written, is that of system.toml, but for the importance."""
    servers = made([S, M], P).server

    assert list(servers) == ["process", "scheduler", "memory"]
    for name, server in servers.items():
        same = BASE.server[name]
        assert (server.thread, server.holds, set(server.calls)) == (same.thread, same.holds, set(same.calls))


def test_a_root_task_of_ones_own(folder: Path) -> None:
    """It is thread 98 and holds the factory, may call every server of this tree, and is not restarted."""
    servers = made([S, P], "my_root.py v=1", folder).server
    root = servers["my_root"]

    assert list(servers) == ["memory", "my_root", "scheduler", "process"]
    assert (root.thread, root.holds, root.restart) == (98, ("factory",), "never")
    assert (set(root.calls), root.arguments) == ({"memory", "scheduler", "process"}, ("v=1",))
    assert (servers["process"].thread, servers["process"].holds) == (100, ("factory",))


def test_a_sigma0_of_ones_own(folder: Path) -> None:
    """By its place the first module is sigma0, whatever it is: thread 96, all RAM, and everybody may call it."""
    servers = made(["kernel", "my_root.py", P, S], None, folder).server

    assert (servers["my_root"].thread, servers["my_root"].holds, servers["my_root"].calls) == (
        96,
        ("ram",),
        (),
    )
    assert (servers["process"].thread, servers["scheduler"].thread) == (98, 99)
    assert set(servers["process"].calls) == {"my_root", "scheduler"}
    assert servers["scheduler"].calls == ("my_root",)


def test_programs_call_those_before_them(folder: Path) -> None:
    """Of two programs of one's own the second may call the first; names are made different."""
    servers = made(["my_root.py a", "my_root.py b", "mine:Server"], M, folder).server

    assert list(servers) == ["memory", "my_root", "my_root-2", "mine"]
    assert servers["my_root-2"].calls == ("memory", "my_root")
    assert servers["mine"].calls == ("memory", "my_root", "my_root-2")
    assert (servers["mine"].restart, servers["mine"].imports) == ("always", str(folder))


@pytest.mark.parametrize(
    ("option", "memory"), [("maxmem=1M", "1024 KiB"), ("maxmem=1G", "256 MiB"), ("maxmem=9999", "8 KiB")]
)
def test_maxmem_is_a_bound(option: str, memory: str) -> None:
    """The RAM is that of the base topology, or less, in whole frames."""
    assert made([option], M).machine.memory == memory


def test_bootinfo_off() -> None:
    """Then no boot records are written."""
    assert made(["bootinfo=off"], M).boot == BootConfig(records=False)
    assert made([], M).boot == BootConfig(records=True)


def test_too_many_modules(folder: Path) -> None:
    """More than 32 modules, or more of command lines than there is room for, are refused."""
    with pytest.raises(Trouble, match="33 servers start at boot: at most 32 can"):
        made(["my_root.py"] * 32, M, folder)
    with pytest.raises(Trouble, match="at most 4096 fit"):
        made([f"my_root.py {'x' * 4096}"], M, folder)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("My Root.py", "my-root"), ("42.py", "m42"), ("é.py", "m"), ("x" * 40 + ".py", "x" * 28)],
)
def test_names_of_files(name: str, expected: str) -> None:
    """A file's name becomes one that an environment can have, with room for a number behind it."""
    assert Module(f"/a/{name}").name == expected


def test_a_system_without_a_process_server() -> None:
    """It is said at boot that nobody runs programs there."""
    assert remarks(made([S], P)) == []
    [line] = remarks(made([S], M))
    assert line.startswith("no process server is booted: 'exo run'")


# -------------------------------------------------------------------------------------------------------- booted


def test_it_is_booted_in_order() -> None:
    """Each module is an environment, started in the order of the line, and holds what it shall."""
    config = made([S], M, base=Topology(MachineConfig("1 MiB", (0,)), server=BASE.server))
    with simulated(config) as system:
        names = [e.name for e in system.kernel.environments]
        kinds = {e.name: {c.resource.kind for c in e.table} for e in system.kernel.environments}
        system.machine.drive(system.supervisor, limit=system.machine.clock.now())

        assert names == ["memory", "scheduler"]
        assert kinds == {"memory": {Kind.RAM, Kind.FACTORY, Kind.ENVIRONMENT}, "scheduler": {Kind.CPU}}
        assert [e.alive for e in system.kernel.environments] == [True, True]


def test_a_line_is_told_to_be_wrong_before_anything_starts(run: Path, capsys: Said) -> None:
    """With what is wrong, and no system."""
    assert main(["--run", str(run), "kickstart", "kernel", M]) == 2
    assert capsys.readouterr().err.startswith("exo: 2 modules, the root task missing")


def test_options_stand_between_modules(monkeypatch: pytest.MonkeyPatch, capsys: Said) -> None:
    """The loader's options and our own may stand before, between and behind the modules."""
    booted: list[tuple[Topology, bool]] = []

    def start(config: str, options: object) -> int:
        booted.append((load(Path(config)), vars(options)["detach"]))
        return 0

    monkeypatch.setattr("exo.up.start", start)

    assert main(["kickstart", "maxmem=1M", "-d", f"-roottask={M}", "bootinfo=off", S]) == 0
    assert booted == [(made(["maxmem=1M", "bootinfo=off", S], M), True)]
    assert "no process server" in capsys.readouterr().out
