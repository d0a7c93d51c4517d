"""Show what programs and servers wrote, and the kernel's own log.

If 'exo run' stays with a program, the streams are yours, so there is nothing to show here. A log is rotated
after 1 MiB, and one older file is kept beside it. The logs of a system that has ended stay until the next one
starts at its run directory.

Characters that would move the cursor or colour the screen are shown as escapes, so that no program can write over
a line, or fake its owner; --raw passes on what was written. A program's log that has the name of one of the
system's own, 'kernel' say, is called 'program kernel' here.
"""

import sys
import time
import unicodedata
from argparse import ArgumentParser, Namespace
from pathlib import Path

from exo.follower import Follower
from exo.numbers import count
from exo.system import Trouble, log_path, no_system, run_directory
from kernel.abi.logs import FOLDER, KEPT, OLDER, RESERVED, log_file, log_name

ARGUMENTS = "[-f] [-n LINES] [--raw] [NAME]"
EXAMPLES = """\
  exo logs                               all, each line with the name of who wrote it
  exo logs -f web
  exo logs -n 5 kernel
  exo logs -n 5 'program kernel'         of a program that is called so"""

PAUSE = 0.1
"""Seconds between looks at a file that is followed."""
KEEP = 4 << 20
"""Bytes of a log that are searched for its last lines."""
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that are more than visible."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `logs`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with new lines")
    parser.add_argument(
        "-n", "--lines", type=count, default=20, metavar="LINES", help="of each log (default: 20)"
    )
    parser.add_argument(
        "--raw", action="store_true", help="as it was written, whatever that does to a terminal"
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
        raise Trouble(f"no log is called {options.name!r}; there are: {', '.join(sorted(places))}")
    followed: dict[Path, Log] = {}
    for name in [options.name] if options.name else sorted(places):
        log = followed[places[name]] = Log(name, places[name])
        _show(name, last(log.begin(), options.lines), options)
    while options.follow and Path(run, FOLDER).is_dir():
        time.sleep(PAUSE)
        for name, path in files(run).items():
            if options.name in (None, name):
                log = followed.setdefault(path, Log(name, path))
                _show(name, lines_of(log.news()), options)
    return 0


class Log:
    """One log that is shown."""

    def __init__(self, name: str, path: Path) -> None:
        """Be ready to read *path*."""
        self.name = name
        self._follower = Follower(path)
        self._partial = b""

    def begin(self) -> bytes:
        """Return all there is, from before the last rotation too."""
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
    """Return the logs of the system at *run* by name: of the running one, or of the last one."""
    folder = Path(run, FOLDER) if Path(run, FOLDER).is_dir() else Path(run + KEPT)
    # A log that was put aside a moment ago, without a new one yet, has an older file only.
    paths = [folder / path.name.removesuffix(OLDER) for path in folder.glob("*.log*")]
    found: dict[str, Path] = {}
    for path in sorted(paths, key=lambda path: log_name(path.name) in RESERVED):
        name = log_name(path.name)
        if name in RESERVED and path.name == log_file(name):
            name = program(name)
            while name in found:  # the name is taken
                name = program(name)
        found[name] = path
    kernel = Path(log_path(run))
    if kernel.exists():
        found["kernel"] = kernel
    return found


def program(name: str) -> str:
    """Return the name of the log of the program called *name*, when the system has one of that name."""
    return f"program {name}"


def lines_of(text: bytes) -> list[bytes]:
    """Return the lines of *text*, which newlines alone end."""
    lines = text.split(b"\n")
    return lines if lines[-1] else lines[:-1]


def last(text: bytes, lines: int | None) -> list[bytes]:
    """Return the last *lines* lines of *text*."""
    found = lines_of(text)
    return found if lines is None else found[max(0, len(found) - lines) :]


def last_lines(text: bytes, lines: int | None) -> list[str]:
    """Return the last *lines* lines of *text*, as they are shown."""
    return [shown(line) for line in last(text, lines)]


def shown(line: bytes) -> str:
    """Return *line* with escapes for characters that act rather than show; tabs stay."""
    text = line.decode(errors="replace")
    if text.isprintable():
        return text
    return "".join(c if c == "\t" or unicodedata.category(c) not in UNSEEN else _escape(c) for c in text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _show(name: str, lines: list[bytes], options: Namespace) -> None:
    prefix = "" if options.name else f"{shown(name.encode(errors='replace')):>10} | "
    if options.raw:
        sys.stdout.flush()
        sys.stdout.buffer.write(b"".join(prefix.encode() + line + b"\n" for line in lines))
        sys.stdout.buffer.flush()
        return
    for line in lines:
        print(f"{prefix}{shown(line)}", flush=True)
