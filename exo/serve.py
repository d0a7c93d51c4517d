"""Start a server.

module:Class is a server of your own: a class that implements an interface of libexo.stub. It runs in an
environment of its own, detached, beside the plans as servers do; modules of this directory are found.

NAME is a server of the topology with start = "attach": it runs in this very process, which attaches to the
system. So a server runs in a container, under a debugger, or in a terminal beside the system.
"""

import os
import runpy
from argparse import ArgumentParser, Namespace
from pathlib import Path

from exo.booting import default_config
from exo.console import Console, own_directory
from exo.run import DIRECTORY, IMPORTS, variables
from exo.system import Trouble, run_directory

ARGUMENTS = "[--name N] [--restart RULE] [--config FILE] NAME | module:Class"
EXAMPLES = """\
  exo serve counter:CounterServer --name counter --restart always
  exo logs -f counter
  exo serve memory                       in this process; system.toml says start = "attach" """

SERVER = 2
"""Its number in `kernel.abi.program.ProgramKind`; a test compares them."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `serve`."""
    parser.add_argument(
        "--name", metavar="N", default="", help="under which it is found (default: after its module)"
    )
    parser.add_argument(
        "--restart",
        choices=("always", "on-failure", "never"),
        default="never",
        help="what to do when it ends; 'exo kill --end' ends it for good (default: never)",
    )
    parser.add_argument(
        "--config", metavar="FILE", help="the topology in which NAME stands (default: that of 'exo up')"
    )
    parser.add_argument("server", metavar="NAME | module:Class")


def main(options: Namespace) -> int:
    """Start it."""
    run = run_directory(options.run)
    if ":" in options.server:
        print(spawn(run, options.server, options.name, options.restart))
        return 0
    with default_config(options.config) as config:
        return attach(run, options.server, config)


def spawn(run: str, server: str, name: str = "", restart: str = "never") -> str:
    """Have the process server start ``module:Class`` in an environment of its own; return its name."""
    console = Console(run)
    directory = own_directory()
    try:
        answer = console.ask(
            "run",
            [directory, directory],
            kind=SERVER,
            argv=[server],
            name=name,
            environ=variables(()),
            share=0,
            restart=restart,
            roles=[DIRECTORY, IMPORTS],
            detach=True,
        )
    finally:
        os.close(directory)
        console.close()
    return str(answer["name"])


def attach(run: str, name: str, config: str) -> int:
    """Be the server *name* of the topology, until the system ends."""
    import libexo
    from exo import view
    from kernel.abi.topology import load
    from libexo.errors import GateClosed

    topology = load(Path(config))
    server = topology.server.get(name)
    if server is None:
        raise Trouble(
            f"{config} has no server {name!r}, only {', '.join(topology.server)}; or give module:Class"
        )
    view.open_kip(run)
    try:
        environment = libexo.attach(run, name)
        if ":" in server.module:
            module, _, attribute = server.module.partition(":")
            from importlib import import_module

            from libexo.stub import serve

            serve(getattr(import_module(module), attribute)(), name, environment)
        else:
            runpy.run_module(server.module, run_name="__main__", alter_sys=True)
    except GateClosed:
        print(f"exo: the system ended, or ended {name}")
    return 0
