"""Show what programs and servers wrote, and the kernel's own log.

Of a program that 'exo run' stays with, the streams are yours, so there is nothing to show here. A log is begun
anew after 1 MiB, and one older file is kept beside it. The logs of a system that is over stay until the next one
starts at its run directory.
"""

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

from exo.following import Follower
from exo.numbers import count
from exo.system import Trouble, log_path, no_system, run_directory
from kernel.abi.logs import FOLDER, KEPT, OLDER, log_name

ARGUMENTS = "[-f] [-n LINES] [NAME]"
EXAMPLES = """\
  exo logs                               all, each line with the name of who wrote it
  exo logs -f web
  exo logs -n 5 kernel"""

PAUSE = 0.1
"""Seconds between looks at a file that is followed."""
KEEP = 4 << 20
"""Bytes of a log that are looked at for its last lines."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `logs`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    parser.add_argument(
        "-n", "--lines", type=count, default=20, metavar="LINES", help="of each log (default: 20)"
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="of a program, a server, or 'kernel' (default: all)"
    )


def main(options: Namespace) -> int:
    """Print the last lines, and go on if asked to."""
    run = run_directory(options.run)
    places = files(run)
    if not places:
        raise no_system(run)
    if options.name is not None and options.name not in places:
        raise Trouble(f"nobody called {options.name!r} has a log; there are: {', '.join(sorted(places))}")
    followed: dict[Path, Log] = {}
    for name in [options.name] if options.name else sorted(places):
        log = followed[places[name]] = Log(name, places[name])
        _show(name, last_lines(log.begin(), options.lines), options)
    while options.follow and Path(run, FOLDER).is_dir():
        time.sleep(PAUSE)
        for name, path in files(run).items():
            if options.name in (None, name):
                log = followed.setdefault(path, Log(name, path))
                _show(name, log.news().decode(errors="replace").splitlines(), options)
    return 0


class Log:
    """One log that is shown."""

    def __init__(self, name: str, path: Path) -> None:
        """Be ready to read *path*."""
        self.name = name
        self._follower = Follower(path)
        self._partial = b""

    def begin(self) -> bytes:
        """Return all there is, from before the log was begun anew too."""
        older = Follower(Path(f"{self._follower.path}{OLDER}"))
        text = older.read()
        older.close()
        while data := self._follower.read():
            text = (text + data)[-KEEP:]
        return text

    def news(self) -> bytes:
        """Return what was written since, in whole lines."""
        text = self._partial + self._follower.read()
        whole = text.rfind(b"\n") + 1
        self._partial = text[whole:]
        return text[:whole]


def files(run: str) -> dict[str, Path]:
    """Return the logs of the system at *run* by name: of the one that runs there, or of the last one."""
    folder = Path(run, FOLDER) if Path(run, FOLDER).is_dir() else Path(run + KEPT)
    # A log that was put aside a moment ago, and not begun anew yet, has an older file only.
    paths = [folder / path.name.removesuffix(OLDER) for path in folder.glob("*.log*")]
    found = {log_name(path.name): path for path in paths}
    kernel = Path(log_path(run))
    if kernel.exists():
        found["kernel"] = kernel
    return found


def last_lines(text: bytes, lines: int | None) -> list[str]:
    """Return the last *lines* lines of *text*."""
    found = text.decode(errors="replace").splitlines()
    return found if lines is None else found[max(0, len(found) - lines) :]


def _show(name: str, lines: list[str], options: Namespace) -> None:
    for line in lines:
        print(line if options.name else f"{name:>10} | {line}", flush=True)
