"""Start a server.

module:Class is a server of your own: a class that implements an interface of libexo.stub. It runs in an
environment of its own, detached; modules of this directory are found, and FILE.py:Class names a file anywhere.
When it has answered, its name is printed; if it does not come up, it is ended, and its last words are shown.
With --heartbeat it must answer whenever it is asked for a heartbeat: one that is stopped, or waits for ever in
an operation, is ended, and restarted by its rule. With --here it runs in this very process instead, which attaches
to the system: in a container of its own, say. The uid must be an operator's, or be listed in attach.members of the
system's topology.

NAME is a server of the topology. With start = "attach" it runs in this very process, which attaches to the
system. So a server runs in a container, under a debugger, or in a terminal beside the system.

With --name NAME of a server that the topology starts by itself, your class takes its place: it is its successor,
with all it held. If it does not answer, what ran before is put back. NAME alone puts back the topology's own.
"""

import os
import runpy
import sys
from argparse import ArgumentParser, Namespace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from exo import replacement, view
from exo.arguments import Given, named, variables
from exo.console import Console, own_directory
from exo.kill import end, seconds
from exo.launcher import default_config
from exo.location import hint, locate
from exo.roll import Roll, marks
from exo.run import DIRECTORY, IMPORTS, parts
from exo.system import Trouble, Usage, run_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exo.console import Value
    from libexo.stub import Interface

ARGUMENTS = (
    "[--name N] [--restart RULE | --here] [--share N] [--heartbeat] NAME | module:Class | FILE.py:Class"
)
EXAMPLES = """\
  exo serve counter:CounterServer --name counter --restart always --heartbeat
  exo logs -f counter
  exo serve --here counter:CounterServer in this process, until it or the system ends
  exo serve --name scheduler lottery:Lottery
  exo serve scheduler                    the one of system.toml again
  exo serve memory                       in this process; system.toml says start = "attach" """

PATIENCE = 10.0
"""Seconds that a server may take until it answers."""
SERVER = 2
"""Its number in `kernel.abi.program.ProgramKind`; a test compares them."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `serve`."""
    parser.add_argument(
        "--name",
        type=named,
        metavar="N",
        help="under which it is found (default: after its module)",
    )
    parser.add_argument(
        "--restart",
        choices=("always", "on-failure", "never"),
        default="",
        help="what to do when it ends; 'exo kill --end' ends it for good (default: never)",
    )
    parser.add_argument(
        "--share",
        metavar="N",
        type=parts,
        default=1,
        help="parts of the processor, 0..1000; 0: outside the plan (default: 1)",
    )
    parser.add_argument(
        "--heartbeat",
        action="store_true",
        help="end it when it does not answer; with --restart it comes back",
    )
    parser.add_argument(
        "--grace",
        type=seconds,
        default=5.0,
        metavar="SECONDS",
        help="from SIGTERM to SIGKILL when it is ended (default: 5)",
    )
    parser.add_argument(
        "--here", action="store_true", help="in this very process, which its starter restarts"
    )
    parser.add_argument(
        "--config", metavar="FILE", help="the topology that names NAME (default: that of 'exo up')"
    )
    parser.add_argument("server", metavar="NAME | module:Class | FILE.py:Class")


def main(options: Namespace) -> int:
    """Start it."""
    options.name = options.name or ""
    run = run_directory(options.run)
    if options.here:
        if ":" not in options.server or options.restart:
            raise Usage("--here is for module:Class, and its starter restarts it: leave out --restart")
        return here(run, options.server, options.name)
    if ":" in options.server and options.name and replacement.is_server(run, options.name):
        print(replacement.replace(run, options.name, options.server))
        return 0
    if ":" in options.server:
        since = marks(run)
        wanted = {"share": options.share, "heartbeat": options.heartbeat, "grace": options.grace}
        name = spawn(run, options.server, options.name, options.restart or "never", **wanted)
        wait_until_it_serves(run, name, since)
        print(name)
        return 0
    with default_config(options.config) as config:
        return attach(run, options.server, config)


def spawn(run: str, server: str, name: str = "", restart: str = "never", **wanted: "Value") -> str:
    """Have the process server start ``module:Class`` in an environment of its own; return its name."""
    place = locate(server)
    given = Given([place.server], variables(()))
    console = Console(run)
    directory, imports = own_directory(), own_directory(place.folder)
    try:
        answer = console.ask(
            "run",
            [directory, imports, *given.descriptors],
            kind=SERVER,
            argv=given.argv,
            name=name,
            environ=given.environ,
            restart=restart,
            roles=[DIRECTORY, IMPORTS, *given.roles],
            detach=True,
            **wanted,
        )
    finally:
        given.close()
        os.close(directory)
        os.close(imports)
        console.close()
    return str(answer["name"])


def wait_until_it_serves(run: str, name: str, since: "Mapping[Path, int]") -> None:
    """Wait until *name*, just started, answers. Raises Trouble, and ends it for good, when it does not.

    The parts of logs before the marks *since* are not shown then.
    """
    roll = Roll(run, {name: True}, deaths=1, since=since)
    try:
        roll.wait(view.open_kip(run), PATIENCE)
    except Trouble as trouble:
        end(run, [name])  # it may be gone already
        raise Trouble(f"{name} does not serve: {trouble}") from None
    finally:
        roll.close()


def here(run: str, server: str, name: str = "") -> int:
    """Serve ``module:Class`` in this process, attached to the system, until the system ends."""
    import libexo
    from kernel.abi.ids import show_thread
    from libexo.errors import GateClosed
    from libexo.stub import serve

    view.open_kip(run)
    made = load_class(server)
    name = name or made.default_name or made.__module__.rpartition(".")[2]
    try:
        environment = libexo.attach(run, name)
        print(
            f"exo: {name} is thread {show_thread(environment.thread.id)} of the system at {run}", flush=True
        )
        serve(made(), name, environment)
    except GateClosed:
        print(f"exo: the system ended, or ended {name}")
    return 0


def load_class(server: str) -> "type[Interface]":
    """Return the class that ``module:Class`` names; modules of this directory are found. Raises Trouble."""
    from libexo.stub import Interface

    place = locate(server)
    module, _, attribute = place.server.partition(":")
    sys.path.insert(0, str(Path(place.folder).resolve()))
    try:
        found = getattr(import_module(module), attribute)
    except (ModuleNotFoundError, AttributeError) as error:
        raise Trouble(f"cannot serve {server}: {error}") from None
    if not (isinstance(found, type) and issubclass(found, Interface)):
        raise Trouble(f"cannot serve {server}: it is not a class that implements an interface of libexo.stub")
    return found


def attach(run: str, name: str, config: str) -> int:
    """Be the server *name* of the topology, until the system ends."""
    import libexo
    from kernel.abi.ids import show_thread
    from kernel.abi.topology import load
    from libexo.errors import GateClosed

    topology = load(Path(config))
    server = topology.server.get(name)
    if server is None:
        there = ", ".join(topology.server)
        raise Trouble(
            hint(name)
            or f"{config} has no server {name!r}, only {there}; or give module:Class, or FILE.py:Class"
        )
    view.open_kip(run)
    if server.start != "attach":
        print(replacement.replace(run, name))
        return 0
    try:
        environment = libexo.attach(run, name)
        print(
            f"exo: {name} is thread {show_thread(environment.thread.id)} of the system at {run}", flush=True
        )
        if ":" in server.module:
            from libexo.stub import serve

            serve(load_class(server.module)(), name, environment)
        else:
            sys.argv = [server.module, *server.arguments]
            runpy.run_module(server.module, run_name="__main__", alter_sys=True)
    except GateClosed:
        print(f"exo: the system ended, or ended {name}")
    return 0
