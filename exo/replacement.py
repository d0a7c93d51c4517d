"""`exo serve` for a server of the topology: another program takes its place, if that answers."""

import os

from exo import sched, view
from exo.arguments import Given, variables
from exo.console import Console, own_directory
from exo.location import locate
from exo.ping import ask
from exo.run import DIRECTORY, IMPORTS
from exo.system import Trouble

PATIENCE = 10.0
"""Seconds within which the new one must answer."""


def is_server(run: str, name: str) -> bool:
    """Say whether *name* is a server of the topology that runs, or is to run again."""
    try:
        rows = view.open_kip(run).environments()
    except Trouble:
        return False  # the next request tells why
    return any(row.name == name and view.is_server(row) for row in rows)


def replace(run: str, name: str, server: str = "") -> str:
    """Have ``module:Class`` take the place of server *name*; empty: the topology's own.

    Returns *name* when it answers. Raises Trouble with the reason, when what ran before is back.
    """
    place = locate(server) if server else None
    given = Given([place.server], variables(())) if place else Given([], [])
    console, directory = Console(run), own_directory()
    imports = own_directory(place.folder if place else ".")
    try:
        console.ask(
            "replace",
            [directory, imports, *given.descriptors] if server else [],
            name=name,
            argv=given.argv,
            environ=given.environ,
            roles=[DIRECTORY, IMPORTS, *given.roles] if server else [],
        )
        if error := _silence(run, name) or (sched.refused(run) if name == sched.SCHEDULER else ""):
            why = console.ask("call_off", why=error)["why"]
            raise Trouble(_back(name, server, why))
        if why := console.ask("keep")["why"]:
            raise Trouble(_back(name, server, why))
    finally:
        given.close()
        os.close(directory)
        os.close(imports)
        console.close()
    return name


def _silence(run: str, name: str) -> str:
    """Return why *name* does not answer; empty: it does."""
    import libexo

    environment = libexo.attach(run, f"replace-{os.getpid()}")
    try:
        return str(ask(environment, name, PATIENCE)["error"] or "")
    finally:
        environment.close()


def _back(name: str, server: str, why: str) -> str:
    return (
        f"{server or name} did not come up as {name}: {why}. What ran before is back; see 'exo logs {name}'"
    )
