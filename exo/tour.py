"""See every server do a checked piece of work, with the time it took.

The tour boots a system of its own, unless one runs already, and ends it again. Each line is something that
was done and checked: a tour that gets to its end is a system that works here. The exit status is 1 when a
check failed.
"""

import os
import shutil
import signal
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from exo import view
from exo.launcher import Kernel, boot_servers, command, default_config, link_log, open_log
from exo.system import Trouble, run_directory
from kernel.abi.kip import Head

if TYPE_CHECKING:
    from exo.tour_steps import Done

ARGUMENTS = "[--keep]"
EXAMPLES = """\
  exo tour
  exo tour --keep                        and leave the system running, to look around"""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `tour`."""
    parser.add_argument("--keep", action="store_true", help="leave the system running")


def main(options: Namespace) -> int:
    """Take the tour."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    began = time.perf_counter_ns()
    try:
        with _system(options) as run:
            from exo.tour_steps import Stage, steps

            stage = Stage(run)
            try:
                failed = [done.what for done in map(_show, steps(stage)) if not done.ok]
            finally:
                stage.close()
            after = time.perf_counter_ns()
    except KeyboardInterrupt:
        print("\nleft before its end")
        return 130
    if not options.keep:
        _line(
            "kernel",
            "everything is ended, and nothing is left behind",
            time.perf_counter_ns() - after,
            ok=True,
        )
    print(
        f"\n{'every check passed' if not failed else 'FAILED: ' + '; '.join(failed)}, "
        f"after {view.duration(time.perf_counter_ns() - began)}"
    )
    return 1 if failed else 0


def _leave(_number: int, _frame: object) -> NoReturn:
    """Act as Ctrl-C: everything that was begun is cleaned up."""
    raise KeyboardInterrupt


@contextmanager
def _system(options: Namespace) -> Iterator[str]:
    """Give the run directory of a system to visit: one that runs, or a new one, removed afterwards unless kept."""
    running = run_directory(options.run)
    with suppress(Trouble):
        if view.is_ready(view.open_kip(running)):
            print(f"visiting the system at {running}")
            yield running
            return
    folder = Path(tempfile.mkdtemp(prefix="exo-tour-"))
    kernel = None
    log = -1
    try:
        folder.chmod(0o711)  # programs have uids of their own, and pass through
        run = str(folder / "run")
        log = open_log(run)
        kernel = boot(run, log, tied=not options.keep)
        yield run
    finally:
        if log >= 0:
            os.close(log)
        if kernel is not None and not options.keep:
            kernel.end()
            kernel.close()
        if kernel is None or not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    if options.keep:
        print(f"\nit runs on:  export EXO_RUN={run}; exo ps; exo down")


def boot(run: str, log: int, *, tied: bool) -> Kernel:
    """Boot at *run*. As an ordinary user, without the protections that only root can give."""
    degraded = os.geteuid() != 0
    with default_config(None) as config:
        kernel = Kernel(run, command(config, run, degraded=degraded), log, tied=tied)
        try:
            kip = kernel.wait_ready(
                boot_servers(config), lambda: os.pread(log, 1 << 16, 0).decode(errors="replace")
            )
        except BaseException:
            kernel.end()
            kernel.close()
            raise
    link_log(run)
    names = ", ".join(row.name for row in kip.environments())
    frames = view.size(kip.head(Head.FRAME_COUNT))
    _line(
        "kernel",
        f"booted with {frames} of memory and the servers {names}",
        time.monotonic_ns() - kernel.started,
        ok=True,
    )
    if degraded:
        _note("not as root: some protections are missing here, 'exo doctor' says which")
    return kernel


def _show(done: "Done") -> "Done":
    _line(done.server, done.what, done.took, ok=done.ok)
    for note in done.notes:
        _note(note)
    return done


def _line(server: str, what: str, took: int, *, ok: bool) -> None:
    print(f"{'ok' if ok else 'FAILED':6} {server:10} {what:72} {view.duration(took):>10}", flush=True)


def _note(text: str) -> None:
    print(f"{'':17} {text}", flush=True)
