"""Ask servers whether they serve.

Each is sent a heartbeat, as the process server does all the time. Any answer shows that it is up, takes
messages and answers them, which a look at its process or its socket would not show. Without names every
server of the topology is asked. The exit status is 0 when all answered, and 1 otherwise.
"""

import os
from argparse import ArgumentParser, Namespace
from time import monotonic_ns
from typing import TYPE_CHECKING

from exo import view
from exo.arguments import known
from exo.numbers import seconds
from exo.system import Trouble, run_directory

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.kip import Kip

ARGUMENTS = "[--timeout SECONDS] [--json] [NAME]..."
EXAMPLES = """\
  exo ping                               every server of the system
  exo ping --timeout 2 memory            the health check of a container
  exo ping counter --json | jq '.[].round_trip_ns'"""

TIMEOUT = 1.0
HEAD = ("NAME", "THREAD", "ROUND TRIP")


def configure(parser: ArgumentParser) -> None:
    """Add the options of `ping`."""
    view.add_json(parser)
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help=f"how long each may take (default: {TIMEOUT:g})",
    )
    parser.add_argument(
        "names", type=known, nargs="*", metavar="NAME", help="as 'exo ps' shows it (default: all servers)"
    )


def main(options: Namespace) -> int:
    """Ask each; raise Trouble with the names of those that did not answer."""
    import libexo

    kip = view.open_kip(options.run)
    names = options.names or servers(kip)
    environment = libexo.attach(run_directory(options.run), f"ping-{os.getpid()}")
    try:
        answers = [ask(environment, name, options.timeout) for name in names]
    finally:
        environment.close()
    if options.json:
        view.print_json(answers)
    elif heard := [answer for answer in answers if not answer["error"]]:
        print(view.table(HEAD, map(_row, heard), {"ROUND TRIP"}))
    if silent := [f"{answer['name']} ({answer['error']})" for answer in answers if answer["error"]]:
        raise Trouble(f"no answer from {', '.join(silent)}")
    return 0


def servers(kip: "Kip") -> list[str]:
    """Return the names of the servers of the topology. Raises Trouble when none is there."""
    names = [
        row.name for row in sorted(kip.environments(), key=lambda row: row.thread) if view.is_server(row)
    ]
    if not names:
        raise Trouble("the system has no server yet: 'exo status' says how far it is")
    return names


def ask(environment: "Environment", name: str, timeout: float) -> view.Json:
    """Send *name* a message and wait for any answer; these keys are kept stable."""
    from kernel.abi.ids import show_thread
    from kernel.abi.messages import Label
    from libexo.errors import ExoError
    from libexo.ipc.message import Message

    answer: view.Json = {"name": name, "thread": None, "round_trip_ns": None, "error": None}
    try:
        thread = environment.lookup(name)
        answer["thread"] = show_thread(thread)
        environment.thread.core.link(thread)  # not part of the round trip: done once
        started = monotonic_ns()
        environment.thread.call(thread, Message(Label.HEARTBEAT), timeout)
        answer["round_trip_ns"] = monotonic_ns() - started
    except ExoError as error:
        answer["error"] = str(error)
    return answer


def _row(answer: view.Json) -> tuple[object, ...]:
    took = answer["round_trip_ns"]
    assert isinstance(took, int)
    return (answer["name"], answer["thread"], view.duration(took))
