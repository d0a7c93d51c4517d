"""The chosen system, and the errors of this command. Light: `exo run` imports it."""

import os

DEFAULT_NAME = "exo"


class Trouble(Exception):
    """An error that a person can mend; the text says what was wrong and what to do. Exit status 1, or *status*."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class Usage(Trouble):
    """The command was called in a way it does not understand."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 2)


def run_directory(chosen: str | None = None) -> str:
    """Return the run directory: *chosen*, or EXO_RUN, or the default of `libexo.run_directory`.

    Repeated here because libexo takes 40 ms to import; a test compares the two.
    """
    if chosen or (chosen := os.environ.get("EXO_RUN")):
        return os.path.abspath(chosen)  # noqa: PTH100 - pathlib takes 7 ms to import
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return f"{runtime}/{DEFAULT_NAME}"
    return f"/run/{DEFAULT_NAME}" if os.getuid() == 0 else f"/tmp/{DEFAULT_NAME}-{os.getuid()}"  # noqa: S108


def no_system(run: str) -> Trouble:
    """Return the error that no system runs at *run*."""
    return Trouble(
        f"no system runs at {run}: start one with 'exo up -d', or name another with --run or EXO_RUN"
    )


def log_path(run: str) -> str:
    """Return the kernel's log of the system at *run*: beside it, for it begins earlier and may be wanted later."""
    return f"{run}.log"
