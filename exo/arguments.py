"""Arguments and variables that a program gets from us, of any length and any bytes.

If they fit in a packet, and are text, they go with the request; otherwise all go as a file, `Role.ARGUMENTS`.
Light: `exo run` imports it.
"""

import os

from exo.system import Trouble
from kernel.abi.limits import MAX_ARGUMENTS, MAX_NAME

TYPE_CHECKING = False  # as typing has it, which takes 4 ms to import
if TYPE_CHECKING:
    from collections.abc import Sequence

    Variables = Sequence[tuple[str, str]]

ARGUMENTS = 6
"""Its number in `kernel.abi.program.Role`, which would take 30 ms to import; a test compares them."""
PACKET = 32 << 10
"""Bytes that go with a request: in every packet on the way there is room for them."""
OWN_VARIABLES = ("EXO_RUN", "EXO_TRAP_FD", "EXO_NAME")
NOT_FOUND = 127


def variables(added: "Sequence[str]") -> list[tuple[str, str]]:
    """Return our variables and those *added*, without those that tell a program its place."""
    environ = {name: value for name, value in os.environ.items() if name not in OWN_VARIABLES}
    for text in added:
        name, _, value = text.partition("=")
        environ[name] = value
    return list(environ.items())


class Given:
    """Arguments and variables of a request, and the descriptor that carries them if need be."""

    def __init__(self, argv: "Sequence[str]", environ: "Variables") -> None:
        """Raises Trouble when they are more than the host gives an executable."""
        self.argv = list(argv)
        self.environ = list(environ)
        self.descriptor = -1
        pieces = [*argv, *(f"{name}={value}" for name, value in environ)]
        if is_text("".join(pieces)) and sum(map(len, pieces)) <= PACKET // 4:
            return  # a character has four bytes at most
        data = b"\0".join([b"%d" % len(argv), *map(os.fsencode, pieces), b""])
        if len(data) > MAX_ARGUMENTS:
            raise Trouble(
                f"arguments and variables have {len(data)} bytes, at most {MAX_ARGUMENTS} can be given: "
                "pass large things in a file",
                NOT_FOUND,
            )
        self.descriptor = os.memfd_create("arguments", os.MFD_CLOEXEC)
        os.write(self.descriptor, data)
        self.argv, self.environ = [os.fsencode(argv[0]).decode(errors="replace")], []

    @property
    def roles(self) -> list[int]:
        """The role of the descriptor, if there is one."""
        return [ARGUMENTS] if self.descriptor >= 0 else []

    @property
    def descriptors(self) -> list[int]:
        """The descriptor, if there is one."""
        return [self.descriptor] if self.descriptor >= 0 else []

    def close(self) -> None:
        """Close the descriptor, if there is one."""
        for number in self.descriptors:
            os.close(number)
        self.descriptor = -1


def is_text(text: str) -> bool:
    """Whether *text*, from the shell, is UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def known(text: str) -> str:
    """Return *text* if it can be a name that is in use: for argparse."""
    if not is_text(text):
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r} is not UTF-8, so it is no name")
    return text


def is_name(text: str) -> bool:
    """Whether *text* can be the name of an environment."""
    return (
        is_text(text) and 0 < len(text.encode()) <= MAX_NAME and text.isprintable() and text == text.strip()
    )


def named(text: str) -> str:
    """Return *text* if it can be the name of an environment: for argparse."""
    if not is_name(text):
        from argparse import ArgumentTypeError

        raise ArgumentTypeError(f"{text!r}: a name has 1..{MAX_NAME} bytes of printable text")
    return text
