"""The operators' console: a socket for people's tools, so that `exo run` needs neither ZeroMQ nor a gate.

Each connection is a conversation of JSON packets (SOCK_SEQPACKET); the descriptors a program is to start with
come along with the request. Who may speak is decided by SO_PEERCRED.

    {"op": "run", "kind": 1, "argv": [...], "name": "", "environ": [[k, v]...], "share": 1, "restart": "never",
     "roles": [0, 1, 2, ...], "detach": false}             -> {"ok": {"thread": ..., "name": ...}}
                                       and when it ended   -> {"exit": {"status": ..., "fault": ..., "text": ...}}
    {"op": "signal", "signal": 2}      to what this connection runs
    {"op": "kill", "name": ..., "signal": 15}              -> {"ok": {}}
    {"op": "end", "name": ...}         end it for good     -> {"ok": {}}

What a connection runs ends with the connection, unless it was detached. Arguments and environ that are too long for
a packet, or no text, come as a file: a descriptor whose role is ARGUMENTS.

Whatever comes, it is answered or dropped, and nobody else notices. Connections that run nothing are idle: there are
IDLE_CONNECTIONS at most, for IDLE_SECONDS after what they said last; then the oldest is dropped.
"""

import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from kernel.abi.limits import MAX_NAME, MAX_TRAP_BYTES, MAX_TRAP_DESCRIPTORS
from kernel.abi.program import Role
from libexo.errors import ExoError
from servers.process.api import Exit, ProgramSpec, Restart
from servers.process.policy import ProcessRefused

if TYPE_CHECKING:
    from servers.process.server import Child, ProcessServer

MAX_REQUEST = 128 * 1024
MAX_DESCRIPTORS = MAX_TRAP_DESCRIPTORS
MAX_PROGRAM = MAX_TRAP_BYTES - 4096
"""Bytes of arguments and environ that fit in a trap beside the rest."""
IDLE_CONNECTIONS = 64
IDLE_SECONDS = 30.0
NO_DESCRIPTORS = 0.1
"""Seconds until somebody is let in again, when there was no descriptor left for it."""
_CREDENTIALS = struct.Struct("iII")


Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
SignalNumber = Annotated[int, msgspec.Meta(ge=1, le=64)]


class _Request(msgspec.Struct, tag_field="op", forbid_unknown_fields=True):
    """What an operator asks for."""


class Run(_Request, tag="run"):
    """Start a program."""

    kind: Annotated[int, msgspec.Meta(ge=1, le=3)]
    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    name: Name = ""
    environ: tuple[tuple[str, str], ...] = ()
    share: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 1
    restart: Restart = "never"
    roles: tuple[Annotated[int, msgspec.Meta(ge=0, le=int(max(Role)))], ...] = ()
    detach: bool = False


class Signal(_Request, tag="signal"):
    """Send a signal to what this connection runs."""

    signal: SignalNumber


class Kill(_Request, tag="kill"):
    """Send a signal to a program by name."""

    name: Name
    signal: SignalNumber = 15


class End(_Request, tag="end"):
    """End a program by name, for good."""

    name: Name


_DECODER = msgspec.json.Decoder(Run | Signal | Kill | End)
_ENCODE = msgspec.json.Encoder().encode


class Console:
    """The listening socket, and the connections that run nothing."""

    def __init__(self, server: "ProcessServer", descriptor: int) -> None:
        """Let operators in through *descriptor*."""
        self.server = server
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._idle: dict[Conversation, int] = {}
        """Since when each is idle, the longest first."""
        self.dropped = 0
        """Connections that were dropped because they said nothing."""
        self._listen()

    def _listen(self) -> None:
        self.server.server.watch(self._socket, self._accept)

    def _accept(self) -> None:
        """Let in who waits and may."""
        try:
            peer, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left; one that idles may have it
            self._drop_idle(1)
            self.server.server.unwatch(self._socket)
            self.server.server.after(NO_DESCRIPTORS, self._listen)
            return
        peer.setblocking(False)
        uid = _uid_of(peer)
        if uid in self.server.operators:
            Conversation(self, peer)
            return
        refusal = {"error": f"uid {uid} is no operator of this system: see attach.operators in system.toml"}
        with contextlib.suppress(OSError):  # it does not listen
            peer.send(_ENCODE(refusal))
        peer.close()

    def idles(self, conversation: "Conversation") -> None:
        """*conversation* runs nothing, from now on."""
        self.busy(conversation)
        self._idle[conversation] = self.server.environment.host.now()
        if len(self._idle) == 1:
            self.server.server.after(IDLE_SECONDS, self._look)
        self._drop_idle(len(self._idle) - IDLE_CONNECTIONS)

    def busy(self, conversation: "Conversation") -> None:
        """*conversation* runs something, or is over."""
        self._idle.pop(conversation, None)

    def _look(self) -> None:
        """Drop those who have been idle for too long; look again while there are others."""
        oldest = self.server.environment.host.now() - int(IDLE_SECONDS * 1e9)
        self._drop_idle(sum(since <= oldest for since in self._idle.values()))
        if self._idle:
            self.server.server.after(IDLE_SECONDS, self._look)

    def _drop_idle(self, count: int) -> None:
        """Drop *count* of those who have been idle longest."""
        for conversation in list(self._idle)[: max(0, count)]:
            self.dropped += 1
            conversation.leave()


def _uid_of(peer: socket.socket) -> int:
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(data)[1])


def _check_whole(flags: int) -> None:
    """Raise ExoError when the host cut a request."""
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise ExoError(f"a request has at most {MAX_REQUEST} bytes and {MAX_DESCRIPTORS} descriptors")


def _check_size(run: Run) -> None:
    """Raise ExoError for a program that does not fit in a trap."""
    size = sum(len(text.encode()) + 3 for pair in ((*run.argv,), *run.environ) for text in pair)
    if size > MAX_PROGRAM:
        raise ExoError(
            f"arguments and environ have {size} bytes, at most {MAX_PROGRAM} fit: pass them as a file, in a "
            f"descriptor of role {int(Role.ARGUMENTS)}"
        )


class Conversation:
    """One operator's connection."""

    def __init__(self, console: Console, peer: socket.socket) -> None:
        """Talk to *peer*."""
        self._console = console
        self._server = console.server
        self._peer = peer
        self._child: Child | None = None
        self._is_over = False
        self._server.server.watch(peer, self._hear)
        console.idles(self)

    def _hear(self) -> None:
        """Do the next request, if there is one."""
        if self._is_over:
            return
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._peer, MAX_REQUEST, MAX_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            self.leave()
            return
        if not data:
            self.leave()
        else:
            self._answer(data, descriptors, flags)
        for descriptor in descriptors:
            os.close(descriptor)

    def _answer(self, data: bytes, descriptors: list[int], flags: int) -> None:
        """Do what *data* asks for, and say what came of it; *descriptors* are left where they are not used."""
        try:
            _check_whole(flags)
            answer = self._do(_DECODER.decode(data), descriptors)
        except (ExoError, ProcessRefused, msgspec.MsgspecError, ValueError, OverflowError) as error:
            # The last two are what values outside their range become on their way to the kernel.
            self._say({"error": str(error).encode(errors="replace").decode()})
            return
        if answer is not None:
            self._say({"ok": answer})
        if self._child is None and not self._is_over:
            self._console.idles(self)

    def _do(self, request: _Request, descriptors: list[int]) -> dict[str, Any] | None:
        server = self._server
        match request:
            case Run():
                return self._run(request, descriptors)
            case Signal():
                if self._child is not None:
                    server.signal(self._child, request.signal)
                return None
            case Kill():
                server.signal(server.named(request.name), request.signal)
                return {}
            case End():
                server.end(server.named(request.name))
                return {}
        return {}

    def _run(self, run: Run, descriptors: list[int]) -> dict[str, Any]:
        if self._child is not None:
            raise ExoError("this connection runs a program already")
        _check_size(run)
        spec = ProgramSpec(run.kind, run.argv, run.name, run.environ, run.share, run.restart)
        child = self._server.start(spec, descriptors, run.roles, spawner=0)
        if not run.detach:
            self._child = child
            self._console.busy(self)
            self._server.when_ended(child.thread, self._ended)
        return {"thread": child.thread, "name": child.spec.name}

    def _ended(self, exited: Exit) -> None:
        self._child = None
        if not self._is_over:
            self._say({"exit": {"status": exited.status, "fault": exited.fault, "text": exited.text}})
        if not self._is_over:
            self._console.idles(self)

    def _say(self, what: dict[str, Any]) -> None:
        try:
            self._peer.send(_ENCODE(what))
        except OSError:  # it does not read its answers, or is gone
            self.leave()

    def leave(self) -> None:
        """The operator is gone, or sent away: end what it ran."""
        if self._is_over:
            return
        self._is_over = True
        self._console.busy(self)
        self._server.server.unwatch(self._peer)
        self._peer.close()
        if self._child is not None:
            child, self._child = self._child, None
            self._server.end(child)
