"""The operators' console of a running system, this end: JSON packets, with descriptors.

`_socket` and not `socket`, and `json` only when something was received: we import while a program is being
started, which costs no time. The protocol is described in `servers/process/console.py`.
"""

import os
import struct
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_CLOEXEC, SOCK_SEQPACKET, SOL_SOCKET, socket

from exo.system import Trouble, no_system

TYPE_CHECKING = False  # as typing has it, which takes 4 ms to import
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, TypeAlias

    Value: TypeAlias = str | int | float | bool | Sequence["Value"] | Mapping[str, "Value"]

MAX_ANSWER = 64 * 1024
PAUSE = 0.005
TRIES = 1000
"""How often, and with what pause, to call a server that is being started: five seconds in all."""


class Console:
    """One conversation with the process server of the system at *run*."""

    def __init__(self, run: str) -> None:
        """Connect. Raises Trouble when no server is there, or it does not let us in."""
        self._socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC)
        tries = 0
        self._secret = ""
        try:
            while not self._connect(f"{run}/console"):
                tries += 1
                _wait(run, tries)
        except OSError as error:
            self.close()
            raise Trouble(f"cannot reach the system at {run}: {error.strerror or error}") from None
        except Trouble:
            self.close()
            raise
        self._secret = secret(run)

    def _connect(self, path: str) -> bool:
        """Connect; False: no server listens there now."""
        try:
            self._socket.connect(path)
        except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
            return False
        return True

    def send(self, op: str, /, descriptors: "Sequence[int]" = (), **request: "Value") -> None:
        """Send one request. Raises Trouble when it is too long, or the server is gone."""
        rights = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary = [(SOL_SOCKET, SCM_RIGHTS, rights)] if descriptors else []
        if self._secret:
            request["secret"], self._secret = self._secret, ""
        try:
            self._socket.sendmsg([encode({"op": op, **request}).encode(errors="surrogateescape")], ancillary)
        except BrokenPipeError:
            return  # its last packet, such as the reason, can be received
        except OSError as error:
            raise Trouble(f"the request could not be sent: {error.strerror or error}") from None

    def receive(self) -> "dict[str, Any] | None":
        """Return the next packet, waiting for it; None: the conversation is over."""
        import json

        try:
            data = self._socket.recv(MAX_ANSWER)
        except ConnectionResetError:
            data = self._socket.recv(MAX_ANSWER)  # its packets before it closed, even if ours were unread
        answer: dict[str, Any] | None = json.loads(data) if data else None
        return answer

    def ask(self, op: str, /, descriptors: "Sequence[int]" = (), **request: "Value") -> "dict[str, Any]":
        """Send a request and return the answer. Raises Trouble with the reason when it was refused."""
        self.send(op, descriptors, **request)
        answer = self.receive()
        if answer is None:
            raise Trouble("the process server is gone: 'exo status' says whether it is back")
        if "error" in answer:
            raise Trouble(answer["error"])
        result: dict[str, Any] = answer["ok"]
        return result

    def close(self) -> None:
        """End the conversation, and its programs."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()


def secret(run: str) -> str:
    """Return the operators' secret of the system at *run*, in hexadecimal; empty: we may not read it."""
    try:
        number = os.open(f"{run}/operator", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(number, 64).hex()
    finally:
        os.close(number)


def _wait(run: str, tries: int) -> None:
    """Wait a moment for a process server that is being started. Raises Trouble when there is no hope."""
    if not os.path.exists(f"{run}/kip"):  # noqa: PTH110 - pathlib takes 7 ms to import
        raise no_system(run)
    if tries > TRIES:
        raise Trouble(f"no process server answers at {run}: 'exo status' and 'exo logs process' say more")
    import time

    time.sleep(PAUSE)


def encode(value: "Value | dict[str, Value]") -> str:
    """Return *value* as JSON. Not by `json`, which imports `re`: 7 ms before the program is even asked for."""
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            return f'"{value}"' if _is_plain(value) else _quote(value)
        case dict():
            return "{" + ",".join(f"{encode(key)}:{encode(each)}" for key, each in value.items()) + "}"
    return "[" + ",".join(encode(each) for each in value) + "]"


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable() and '"' not in text and "\\" not in text


def _quote(text: str) -> str:
    """Quote a string; bytes that are not text go as they came, for the receiver to refuse or to use."""
    escaped = {'"': '\\"', "\\": "\\\\"}
    return '"' + "".join(escaped.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in text) + '"'


def own_directory(path: str = ".") -> int:
    """Return a descriptor of *path*, for a program to work in or to import from."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
