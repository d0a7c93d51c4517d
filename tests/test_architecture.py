"""The source keeps the shape tools/architecture.py describes, and its rules catch what they are for."""

from collections.abc import Mapping, Sequence

import pytest

from tools.architecture import (
    ALLOWED,
    ROOT,
    RULES,
    Rule,
    circles,
    doors,
    facts,
    host_uses,
    kernel_words,
    layers,
    numbers,
    parse,
    repository,
    seams,
    sizes,
    swallowed,
    within,
)

SERVER_FILES = ("README.md", "__init__.py", "__main__.py", "api.py", "policy.py", "server.py")

SOUND: Mapping[str, str] = {
    "kernel/__init__.py": '"""Nothing."""',
    "kernel/abi/limits.py": "FRAME_SIZE = 4 << 10",
    "kernel/abi/traps.py": "class Carve(Trap, tag=0x30): ...",
    "kernel/gate.py": "import kernel.trap",
    "kernel/trap.py": "from kernel import abi\nimport hwmodel.cpu\nprocess_id = 0x30",
    "hwmodel/real/cpu.py": "import signal, time\nfrom kernel.abi import limits\ntry: f()\nexcept OSError: pass",
    "hwmodel/real/ram.py": "try:\n    f()\nexcept BaseException as error:\n    g()\n    raise error",
    "hwmodel/failures.py": "import random",
    "libexo/stub/interface.py": "from libexo import ipc",
    "libexo/words.py": "from kernel.abi import limits",
    "libexo/services.py": "def f():\n    from servers.file.api import File",
    "libexo/testing/boot.py": "import kernel.boot, hwmodel.simulated.machine",
    "servers/file/api.py": "from libexo.stub import Interface\nimport libexo.words",
    "servers/file/server.py": "import libexo, servers.memory.api\nfrom servers.file import api, policy",
    "servers/file/policy.py": "def tcp_policy(inode): ...",
    "exo/down.py": "from exo import up",
    "exo/up.py": "import subprocess, libexo\nfrom servers.memory.api import Memory",
    "tests/test_f.py": "import time, kernel.boot\ndef test_f():\n    '''It holds.'''",
}
BROKEN: Sequence[tuple[Rule, str, str, str]] = [  # rule, file, its text, where and what it says
    (layers, "kernel/abi/ids.py", "import hwmodel", "1: imports hwmodel;"),
    (layers, "kernel/abi/ids.py", "from ..trap import Gate", "1: imports kernel.trap;"),
    (layers, "kernel/boot.py", "from libexo import vm", "1: imports libexo;"),
    (layers, "hwmodel/cpu.py", "import kernel.boot", "1: imports kernel.boot;"),
    (layers, "libexo/vm.py", "def f():\n    from kernel import trap", "2: imports kernel.trap;"),
    (layers, "libexo/vm.py", "from servers.file import server", "1: imports servers.file.server;"),
    (layers, "libexo/vm.py", "from servers.memory.api import Memory", "1: imports servers.memory.api;"),
    (layers, "libexo/vm.py", "from .testing import boot", "1: imports libexo.testing.boot;"),
    (layers, "exo/up.py", "import_module('kernel.boot')", "1: imports kernel.boot;"),
    (layers, "servers/net/server.py", "import servers.file.policy", "1: imports servers.file.policy;"),
    (layers, "servers/net/__init__.py", "from . import server", "1: imports servers.net;"),
    (layers, "servers/net/api.py", "import libexo.files", "1: imports libexo.files;"),
    (
        circles,
        "kernel/trap.py",
        "def f():\n    from kernel.gate import g",
        "2: closes a circle: kernel.trap, kernel.gate,",
    ),
    (
        circles,
        "exo/up.py",
        "if TYPE_CHECKING:\n    from exo import down",
        "2: closes a circle: exo.up, exo.down,",
    ),
    (seams, "kernel/processor.py", "from time import sleep", "1: uses time;"),
    (seams, "servers/net/server.py", "import os\nos.urandom(1)", "2: uses os.urandom;"),
    (seams, "libexo/vm.py", "from os import memfd_create", "1: uses os.memfd_create;"),
    (seams, "hwmodel/disk.py", "import random", "1: uses random;"),
    (sizes, "kernel/trap.py", "#\n" * 451, "451: 451 lines"),
    (sizes, "tests/test_g.py", "def f():\n" + "    pass\n" * 60, "1: f: 61 lines"),
    (facts, "tests/test_g.py", "class TestG:\n    def test_g(self): ...", "2: test_g has no docstring"),
    (doors, "tests/test_g.py", "env.thread.core.pump()", "1: reaches into IPC;"),
    (kernel_words, "kernel/disk.py", "def f(rootInode): ...", "1: rootInode: inode is"),
    (kernel_words, "kernel/policy.py", "", "1: policy: policy is"),
    (numbers, "libexo/vm.py", "FRAME_SIZE = 4096", "1: FRAME_SIZE = 4096 is defined in kernel.abi.limits;"),
    (numbers, "kernel/own.py", "class Own(abi.Trap, tag=0x31): ...", "1: Own defines trap 0x31;"),
    (numbers, "kernel/own.py", "same = call.tag == 0x30", "1: tag is compared with the number of Carve;"),
    (numbers, "kernel/abi/more.py", "class A(Trap, tag=1): ...\nclass B(Trap, tag=1): ...", "2: B is 0x1,"),
    (swallowed, "libexo/vm.py", "try:\n    f()\nexcept:\n    pass", "3: catches BaseException;"),
    (swallowed, "libexo/vm.py", "try:\n    f()\nexcept Exception as e:\n    log(e)", "3: catches Exception;"),
    (swallowed, "hwmodel/real/gate.py", "with suppress(BaseException): f()", "1: catches BaseException;"),
    (
        swallowed,
        "kernel/processor.py",
        "try:\n    f()\nexcept (KeyError, OSError):\n    pass",
        "3: catches OSError;",
    ),
    (swallowed, "kernel/processor.py", "with contextlib.suppress(OSError): f()", "1: catches OSError;"),
    (numbers, "kernel/abi/more.py", "class E(IntEnum):\n    A = 1, 'a'\n    B = 1, 'b'", "3: E.B is 0x1,"),
]


@pytest.mark.parametrize("rule", RULES)
def test_the_tree_keeps_the_rule(rule: Rule) -> None:
    """No file of the repository violates the rule."""
    violations = sorted(set(rule(repository())))

    assert not violations, "\n".join([str(rule.__doc__), *violations])


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_lets_sound_source_pass(rule: Rule) -> None:
    """The sample holds what each rule allows, and no rule objects."""
    assert list(rule(parse(SOUND))) == []


@pytest.mark.parametrize(("rule", "path", "text", "says"), BROKEN)
def test_a_rule_catches_what_it_is_for(rule: Rule, path: str, text: str, says: str) -> None:
    """With one file of the sound sample broken, the rule names that file, the line, and what is wrong."""
    violations = list(rule(parse({**SOUND, path: text})))

    assert len(violations) == 1
    assert violations[0].startswith(f"{path}:{says}")


def test_every_allowance_is_used() -> None:
    """A row of ALLOWED whose module no longer needs it is deleted."""
    uses = {(source.module, what) for source in repository() for _, what in host_uses(source)}
    written = {source.module for source in repository()}

    for where, what in ALLOWED:
        if any(within(module, where) for module in written):
            assert any(within(module, where) and used == what for module, used in uses), (where, what)


def test_servers_have_one_shape() -> None:
    """Each server has its README, its interface, its decisions, its loop and its entry."""
    servers = [path.parent for path in (ROOT / "servers").glob("*/api.py")]
    wanted = [server / name for server in servers for name in SERVER_FILES]

    assert [path for path in wanted if not path.is_file()] == []


def test_the_topology_is_one_file() -> None:
    """The system.toml in the package, which an installed `exo` reads, is a link to the one at the top."""
    assert (ROOT / "exo" / "system.toml").resolve() == ROOT / "system.toml"
