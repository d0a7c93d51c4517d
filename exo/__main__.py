"""`exo VERB …`: find the verb, do it, and report an error in one line."""

import os
import sys

from exo.system import Trouble, Usage

TYPE_CHECKING = False  # as typing has it, which takes 4 ms to import
if TYPE_CHECKING:
    from collections.abc import Sequence

INTERRUPTED = 130


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Do the command line; return the exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _fill_streams()
    try:
        return _dispatch(words)
    except Trouble as trouble:
        return _fail(str(trouble), trouble.status)
    except BrokenPipeError:
        # The reader of our output has seen enough; the interpreter must not stumble over it again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        return _fail(": ".join(filter(None, (error.strerror, error.filename))) or str(error), 1)
    except Exception as error:
        known = sys.modules.get("libexo.errors")
        if known is None or not isinstance(error, known.ExoError):
            raise
        return _fail(str(error), 1)


def _fill_streams() -> None:
    """Open closed standard streams, so that no descriptor of ours gets one of their numbers.

    A program is given our streams by number: otherwise a closed one would be the connection to the system.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _fail(text: str, status: int) -> int:
    print(f"exo: {text}", file=sys.stderr)
    return status


def _dispatch(words: list[str]) -> int:
    run = _run_option(words)
    if not words or words[0] in ("-h", "--help", "help"):
        return _help(words[1:])
    if words[0] in ("-V", "--version"):
        return _version()
    verb, rest = words[0], words[1:]
    if verb == "run":
        # The one verb that other programs call in loops: it goes without argparse.
        from exo.run import quick, start

        if (request := quick(rest)) is not None:
            request.system = request.system or run
            return start(request)
    if verb == "bench":
        from exo.bench import dispatch

        return dispatch(rest)
    from exo.verbs import load, parse

    options = parse(verb, rest)
    options.run = options.run or run
    return load(verb).main(options)


def _run_option(words: list[str]) -> str | None:
    """Take a leading ``--run DIR`` out of *words*."""
    if words and words[0].startswith("--run="):
        return words.pop(0).removeprefix("--run=")
    if words[:1] == ["--run"]:
        if len(words) < 2:  # noqa: PLR2004 - the option and its value
            raise Usage("--run needs a directory")
        del words[0]
        return words.pop(0)
    return None


def _help(words: list[str]) -> int:
    from exo.verbs import overview, parser

    if words:
        parser(words[0]).print_help()
    else:
        print(overview())
    return 0


def _version() -> int:
    from importlib.metadata import version

    print(f"exo {version('exokernel')}")
    return 0


if (
    __name__ == "__main__"
):  # `python -m` searches the current directory first: a module there may have the name of ours
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    sys.exit(main())
