"""Show what programs and servers wrote, and the kernel's own log.

Of a program that 'exo run' stays with, the streams are yours, so there is nothing to show here.
"""

import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

from exo.system import Trouble, log_path, no_system, run_directory

ARGUMENTS = "[-f] [-n LINES] [NAME]"
EXAMPLES = """\
  exo logs                               all, each line with the name of who wrote it
  exo logs -f web
  exo logs -n 5 kernel"""

PAUSE = 0.1
"""Seconds between looks at a file that is followed."""


def configure(parser: ArgumentParser) -> None:
    """Add the options of `logs`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written from now on")
    parser.add_argument(
        "-n", "--lines", type=int, default=20, metavar="LINES", help="of each log (default: 20)"
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="of a program, a server, or 'kernel' (default: all)"
    )


def main(options: Namespace) -> int:
    """Print the last lines, and go on if asked to."""
    folder = Path(run_directory(options.run), "log")
    if not folder.is_dir():
        return _last_words(run_directory(options.run), options)
    if options.name is not None and not (folder / f"{options.name}.log").exists():
        raise Trouble(
            f"nobody called {options.name!r} has a log; there are: {', '.join(_names(folder)) or 'none'}"
        )
    at: dict[Path, int] = {}
    for name in [options.name] if options.name else _names(folder):
        path = folder / f"{name}.log"
        text = _read(path)
        at[path] = len(text)
        _show(name, text, options)
    while options.follow and folder.is_dir():
        time.sleep(PAUSE)
        for name, text in _news(folder, options.name, at):
            _show(name, text, Namespace(name=options.name, lines=None))
    return 0


def _last_words(run: str, options: Namespace) -> int:
    """Show the kernel's log of a system that is gone, and did not end well."""
    text = _read(Path(log_path(run)))
    if not text or options.name not in (None, "kernel"):
        raise no_system(run)
    _show("kernel", text, options)
    return 0


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.log"))


def _show(name: str, text: bytes, options: Namespace) -> None:
    lines = text.decode(errors="replace").splitlines()
    for line in lines if options.lines is None else lines[max(0, len(lines) - options.lines) :]:
        print(line if options.name else f"{name:>10} | {line}", flush=True)


def _read(path: Path, start: int = 0) -> bytes:
    """Return what stands in *path* from byte *start* on."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            return file.read()
    except PermissionError:
        raise Trouble(f"{path} belongs to its program's own user: be root to read it") from None
    except FileNotFoundError:
        return b""


def _news(folder: Path, only: str | None, at: dict[Path, int]) -> Iterator[tuple[str, bytes]]:
    """Yield what was written since, whole lines only; moves the marks in *at*."""
    for name in [only] if only else _names(folder):
        path = folder / f"{name}.log"
        text = _read(path, at.setdefault(path, 0))
        whole = text[: text.rfind(b"\n") + 1]
        if whole:
            at[path] += len(whole)
            yield name, whole
