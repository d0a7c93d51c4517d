"""Boot exactly the modules that are named, in that order.

A module is servers/NAME (a server of this tree), the path of a Python file, or module:Class. Quoted, it may
carry arguments: its command line, which every program reads in the boot records of the kernel interface page.

With -roottask=MODULE that module is the root task, and the others follow it; kernel and sigma0 are implied.
sigma0 is the memory server: if it is not among the modules it is started before them. Without -roottask=
the modules go by their place, as in the boot loader of L4Ka::Pistachio: kernel, sigma0, root task, others.

Options of that loader are words of the form NAME=VALUE: maxmem=N[K|M|G] bounds the RAM, bootinfo=on|off says
whether boot records are written; yes, enable, no and disable are understood too. kmem=, mbi=on and
decode-all=on are refused: the kernel has its memory from the host, and below it there
is no multiboot loader and no ELF image.
"""

import os
import re
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, NamedTuple

from exo import up
from exo.launcher import PROCESS_SERVER, default_config, read_topology
from exo.system import Usage

if TYPE_CHECKING:
    from exo.modules import Boot
    from kernel.abi.topology import Topology

ARGUMENTS = "[-d] [--config FILE] [OPTION=VALUE]... -roottask=MODULE [MODULE]..."
EXAMPLES = """\
  exo kickstart -roottask=servers/memory servers/scheduler
  exo kickstart -d maxmem=64M -roottask=servers/process servers/memory servers/scheduler
  exo kickstart -roottask="my_root.py verbose=1" servers/scheduler
  exo kickstart kernel servers/memory my_root.py
                                         by their places: kernel, sigma0, root task"""

OPTION = re.compile(r"([A-Za-z][\w-]*)=(\S*)")
SIZE = re.compile(r"(\d+)([KMG]?)", re.IGNORECASE)
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SWITCH = {"on": True, "yes": True, "enable": True, "off": False, "no": False, "disable": False}
MEANINGLESS = {
    "kmem": "the kernel has its memory from the host, and none of the system's RAM",
    "mbi": "there is no multiboot loader below the kernel, and nothing of its to copy",
    "decode-all": "modules are Python programs: there is no ELF image to decode",
}
"""Why an option is refused here."""
PLACES = ("the kernel", "sigma0", "the root task")


class CommandLine(NamedTuple):
    """A command line, taken apart."""

    modules: list[str]
    maxmem: int | None = None
    bootinfo: bool = True


def configure(parser: ArgumentParser) -> None:
    """Add the options of `kickstart`."""
    up.configure(parser)
    parser.add_argument(
        "-roottask", metavar="MODULE", help="the root task; the modules that follow are started after it"
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="MODULE",
        help="servers/NAME, a Python file, or module:Class, with arguments if quoted; or OPTION=VALUE",
    )


def main(options: Namespace) -> int:
    """Boot them."""
    from exo.modules import topology

    boot = plan(options.words, options.roottask, Path.cwd())
    with default_config(options.config) as base:
        made = topology(read_topology(base), boot)
    print("\n".join(remarks(made)), end="\n" if remarks(made) else "", flush=True)
    with _written(made) as config:
        return up.start(config, options)


def plan(words: Sequence[str], roottask: str | None, directory: Path) -> "Boot":
    """Return the boot that the command line describes; files are found from *directory*. Raises Trouble."""
    from exo.modules import arrange, resolve

    line = take_apart(words)
    names = line.modules if roottask is not None else _places(line.modules)
    named = [roottask, *names] if roottask is not None else names
    modules = [resolve(text, directory) for text in named]
    boot = arrange(modules, positional=roottask is None)
    return boot._replace(maxmem=line.maxmem, records=line.bootinfo)


def take_apart(words: Sequence[str]) -> CommandLine:
    """Return modules and options of *words*. Raises Usage for unknown and refused options."""
    line = CommandLine([])
    for word in words:
        option = OPTION.fullmatch(word)
        if option is None:
            line.modules.append(word)
        elif option[1] == "maxmem":
            line = line._replace(maxmem=_size(option[1], option[2]))
        elif option[1] == "bootinfo":
            line = line._replace(bootinfo=_switch(option[1], option[2]))
        elif option[1] not in MEANINGLESS:
            known = ", ".join(f"{name}=" for name in ("maxmem", "bootinfo", *MEANINGLESS))
            raise Usage(f"there is no option {option[1]}=: there are {known}")
        elif option[1] == "kmem" or _switch(option[1], option[2]):
            raise Usage(f"{word} means nothing here, leave it out: {MEANINGLESS[option[1]]}")
    return line


def _size(name: str, text: str) -> int:
    """Return the bytes that *text* means, a frame at least."""
    match = SIZE.fullmatch(text)
    size = int(match[1]) * UNITS[match[2].upper()] if match is not None else 0
    if size < 1 << 12:
        raise Usage(f"{name}={text} is not a size: write a number of at least 4K, with K, M or G behind it")
    return size


def _switch(name: str, text: str) -> bool:
    if text.lower() not in SWITCH:
        raise Usage(f"{name}={text}: write {name}=on or {name}=off")
    return SWITCH[text.lower()]


def _places(modules: Sequence[str]) -> list[str]:
    """Return the modules after the kernel. Raises Usage unless kernel, sigma0 and root task are there."""
    if len(modules) < len(PLACES):
        missing = ", ".join(PLACES[len(modules) :])
        raise Usage(
            f"{len(modules)} modules, {missing} missing: they are {', '.join(PLACES)}, others; or -roottask=MODULE"
        )
    if PurePath(modules[0]).name != "kernel":
        raise Usage(
            f"module 0 is the kernel, not {modules[0]!r}: there is one kernel, so write 'kernel'; "
            "or name the root task with -roottask=MODULE"
        )
    return list(modules[1:])


def remarks(made: "Topology") -> list[str]:
    """Return warnings to the user who boots *made*, a line each."""
    if any(server.module == PROCESS_SERVER for server in made.server.values()):
        return []
    lacks = "no process server is booted: 'exo run', 'serve' and 'kill' have no server to ask"
    return [f"{lacks}; 'exo status', 'ps', 'logs' and 'down' work"]


@contextmanager
def _written(made: "Topology") -> Iterator[str]:
    """Give the path of a file with *made*, for the kernel to read at its start."""
    from kernel.abi.topology import dump

    with tempfile.TemporaryDirectory(prefix="exo-kickstart-") as folder:
        path = os.path.join(folder, "system.toml")  # noqa: PTH118 - a string is wanted
        Path(path).write_text(dump(made), encoding="utf-8")
        yield path
