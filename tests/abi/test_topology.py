"""Topologies: what is checked, what is written down, and command lines."""

import string
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernel.abi.bootinfo import MAX_COMMANDS, MAX_MODULES
from kernel.abi.limits import MAX_THREADS
from kernel.abi.program import Role
from kernel.abi.topology import (
    AttachConfig,
    BootConfig,
    Confinement,
    MachineConfig,
    ServerConfig,
    Topology,
    TopologyError,
    booted,
    check,
    dump,
    load,
)

ROOT = Path(__file__).parents[2]
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=8)
SERVERS = st.builds(
    ServerConfig,
    st.sampled_from(("servers.memory", "a:B", "/a b/c.py")),
    st.just(100),
    st.integers(0, 9),
    st.sampled_from(((), ("ram",), ("cpus", "factory"))),
    st.just(()),
    st.sampled_from(("always", "never")),
    st.sampled_from(("boot", "attach")),
    st.none() | st.integers(0, 9),
    st.lists(TEXT, max_size=3).map(tuple),
    st.sampled_from(("", '/q"\\')),
)


def many(count: int, **fields: object) -> Topology:
    """A topology of that many servers."""
    return Topology(
        server={f"s{n}": ServerConfig("a:B", 100 + n, **fields) for n in range(count)}  # type: ignore[arg-type]
    )


def test_swap(tmp_path: Path) -> None:
    """The swap directory is found beside the file, one server holds it, and its size is whole frames."""
    path = tmp_path / "system.toml"
    text = '[machine]\nswap = "here"\nswap_size = "{}"\n'
    server = '[server.{0}]\nmodule = "a:B"\nthread = {1}\nholds = ["swap"]\n'
    path.write_text(text.format("64 KiB") + server.format("a", 100))
    topology = load(path)

    assert topology.files(topology.server["a"]) == {Role.SWAP: (f"{tmp_path}/here", 64 << 10)}
    assert Topology(server={"a": ServerConfig("a:B", 100, holds=("swap",))}).files(topology.server["a"]) == {}
    with pytest.raises(TopologyError, match=r"servers a and b both hold 'swap': let one hold it"):
        check(
            Topology(
                server={each: ServerConfig("a:B", at, holds=("swap",)) for at, each in enumerate("ab", 100)}
            )
        )
    path.write_text(text.format("1000") + server.format("a", 100))
    with pytest.raises(TopologyError, match=r"machine\.swap_size is '1000': write a multiple of 4096 bytes"):
        load(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES, server=SERVERS, records=st.booleans())
def test_what_is_dumped_is_loaded(name: str, server: ServerConfig, tmp_path: Path, *, records: bool) -> None:
    """The text of a topology is read back as the same, whatever stands in its strings.

    A Python file finds modules beside it, where nothing else is said.
    """
    path = tmp_path / "system.toml"
    topology = Topology(
        MachineConfig("1 MiB", (0, -1), 7),
        Confinement(("uid",)),
        AttachConfig((1,), (2, 3)),
        BootConfig(records),
        {name: server},
    )
    path.write_text(dump(topology), encoding="utf-8")

    beside = msgspec.structs.replace(server, imports=server.imports or ("/a b" if server.is_file else ""))
    assert load(path) == msgspec.structs.replace(topology, server={name: beside})


def test_the_systems_own_is_dumped_and_loaded(tmp_path: Path) -> None:
    """The topology of the repository is read back as it was."""
    path = tmp_path / "system.toml"
    topology = load(ROOT / "system.toml")
    path.write_text(dump(topology), encoding="utf-8")

    assert load(path) == topology


@pytest.mark.parametrize(
    ("server", "command"),
    [
        (ServerConfig("servers.memory", 96), "servers/memory"),
        (ServerConfig("servers.memory", 96, arguments=("a=1", "b c")), "servers/memory a=1 'b c'"),
        (ServerConfig("a.b:C", 96), "a.b:C"),
        (ServerConfig("/x/y.z.py", 96), "/x/y.z.py"),
    ],
)
def test_command_lines(server: ServerConfig, command: str) -> None:
    """A command line is the module, a package by its path, and the arguments, quoted where they must be."""
    assert server.command == command


def test_who_is_booted() -> None:
    """Servers that attach are not booted; the others are, in their order."""
    both = {"b": ServerConfig("a:B", 100), "a": ServerConfig("a:B", 99, start="attach")}

    assert list(booted(Topology(server=both))) == ["b"]


@pytest.mark.parametrize(
    ("topology", "message"),
    [
        (many(MAX_MODULES + 1), "33 servers start at boot: at most 32 can"),
        (many(2, arguments=("x" * (MAX_COMMANDS // 2),)), "4106 bytes, at most 4096 fit"),
        (many(1, arguments=("a\0b",)), "server.s0 has a zero byte"),
        (many(1, imports="here"), "server.s0 names 'here': a path begins with /"),
        (
            Topology(server={"s": ServerConfig("a/b.py", 100)}),
            "server.s names 'a/b.py': a path begins with /",
        ),
    ],
)
def test_what_cannot_be_booted(topology: Topology, message: str) -> None:
    """Topologies that overflow the boot records, or name no file for certain, are refused with the reason."""
    with pytest.raises(TopologyError, match=message):
        check(topology)


def test_as_much_as_can_be_booted() -> None:
    """As many servers as there is room for are no error, nor more of them that attach."""
    check(many(MAX_MODULES))
    check(many(MAX_MODULES + 1, start="attach"))


def test_thread_numbers_are_rows(tmp_path: Path) -> None:
    """A server's thread number is a row of the thread table."""
    path = tmp_path / "system.toml"
    path.write_text(f'[server.a]\nmodule = "a:B"\nthread = {MAX_THREADS}\n', encoding="utf-8")

    with pytest.raises(TopologyError, match="thread"):
        load(path)


def two_holders(right: str) -> str:
    """The text of a topology in which two servers hold *right*."""
    servers = (f'[server.{name}]\nmodule = "m"\nthread = {number}' for number, name in enumerate("ab", 96))
    return "\n".join(f'{server}\nholds = ["{right}"]' for server in servers)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[machine]\ncpus = [0, 0]", "machine.cpus names core 0 twice"),
        (
            '[server.a]\nmodule = "a"\nthread = 160',
            "server.a has thread number 160, which is a program's: those of servers are 96..159",
        ),
        (
            two_holders("cpus"),
            "servers a and b both hold 'cpus'",
        ),
        (
            two_holders("ram"),
            "servers a and b both hold 'ram'",
        ),
        ("[machine]\ngrace = -1", "grace"),
    ],
)
def test_what_contradicts_itself_is_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    """Before anything is started."""
    path = tmp_path / "system.toml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(TopologyError, match=message):
        load(path)


@pytest.mark.parametrize(
    ("module", "found", "imports"),
    [
        ("lottery:Policy", "lottery:Policy", "."),
        ("package", "package", "."),
        ("lottery.py", "./lottery.py", "."),
        ("deeper/other.py", "./deeper/other.py", "./deeper"),
        ("elsewhere:Policy", "elsewhere:Policy", ""),
        ("servers.memory", "servers.memory", ""),
    ],
)
def test_modules_are_found_beside_the_topology(tmp_path: Path, module: str, found: str, imports: str) -> None:
    """Files by their path, classes and packages where they lie there; those of this tree as ever."""
    for name in ("lottery.py", "package/__init__.py", "deeper/other.py", "servers/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    path = tmp_path / "system.toml"
    path.write_text(f'[server.a]\nmodule = "{module}"\nthread = 96\n', encoding="utf-8")
    server = load(path).server["a"]

    at = [text.replace(".", str(tmp_path), 1) if text.startswith(".") else text for text in (found, imports)]
    assert [server.module, server.imports] == at
