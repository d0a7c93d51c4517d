"""The operators' console: a socket for people's tools, so that `exo run` needs neither ZeroMQ nor a gate.

Each connection is a conversation of JSON packets (SOCK_SEQPACKET); the descriptors a program is to start with
come along with the request. Who may speak is decided by SO_PEERCRED; somebody whose uid programs may have too
shows the operators' secret in the first packet, as hexadecimal digits in the field "secret".

    {"op": "run", "kind": 1, "argv": [...], "name": "", "environ": [[k, v]...], "share": 1, "restart": "never",
     "roles": [0, 1, 2, ...], "detach": false, "heartbeat": false, "grace": 5}
                                                           -> {"ok": {"thread": ..., "name": ...}}
                                       and when it ended   -> {"exit": {"status": ..., "fault": ..., "text": ...}}
    {"op": "signal", "signal": 2}      to what this connection runs
    {"op": "kill", "name": ..., "signal": 15}              -> {"ok": {}}
    {"op": "end", "name": ..., "grace": 5}  end it for good: SIGTERM, then SIGKILL  -> {"ok": {}}
    {"op": "replace", "name": ..., "argv": [...], "environ": [[k, v]...], "roles": [...]}
                                       a server of the topology, by another, or, argv empty, by the topology's
                                       when the new one was started          -> {"ok": {}}
    {"op": "keep"}                     it answers: it stays; else why not      -> {"ok": {"why": ""}}
    {"op": "call_off", "why": ...}     what ran before is put back; when that was done -> {"ok": {"why": ...}}

What a connection runs ends with the connection, unless it was detached. A replacement that was neither kept nor
called off is called off then.
"""

import os
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from kernel.abi.program import ProgramKind
from libexo.errors import ExoError
from servers.process.api import Exit, ProgramSpec, Restart
from servers.process.ending import GRACE, MAX_GRACE
from servers.process.policy import ProcessRefused

if TYPE_CHECKING:
    from servers.process.children import Child
    from servers.process.replacement import Replacement
    from servers.process.server import ProcessServer

MAX_REQUEST = 128 * 1024
MAX_DESCRIPTORS = 16
MAX_STRANGERS = 16
"""Connections that have yet to show the secret; one more, and the oldest is dropped."""
STRANGER = (
    "programs of this system have your uid too: show the operators' secret, which 'operator' in the run directory "
    "holds for those who may read it"
)
_CREDENTIALS = struct.Struct("iII")


class _Request(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, kw_only=True):
    """What an operator asks for."""

    secret: str = ""
    """In the first packet: the operators' secret, from who can read it."""


class Run(_Request, tag="run"):
    """Start a program."""

    kind: int
    argv: tuple[str, ...]
    name: str = ""
    environ: tuple[tuple[str, str], ...] = ()
    share: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 1
    restart: Restart = "never"
    roles: tuple[int, ...] = ()
    detach: bool = False
    heartbeat: bool = False
    grace: Annotated[float, msgspec.Meta(ge=0, le=MAX_GRACE)] = GRACE


class Signal(_Request, tag="signal"):
    """Send a signal to what this connection runs."""

    signal: int


class Kill(_Request, tag="kill"):
    """Send a signal to a program by name."""

    name: str
    signal: int = 15


class End(_Request, tag="end"):
    """End a program by name, for good, with so many seconds between SIGTERM and SIGKILL (default: its own)."""

    name: str
    grace: Annotated[float, msgspec.Meta(ge=0, le=MAX_GRACE)] | None = None


class Replace(_Request, tag="replace"):
    """Start another program in the place of a server of the topology."""

    name: str
    argv: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    roles: tuple[int, ...] = ()


class Keep(_Request, tag="keep"):
    """Let it stay."""


class CallOff(_Request, tag="call_off"):
    """Put back what ran before."""

    why: str


_DECODER = msgspec.json.Decoder(Run | Signal | Kill | End | Replace | Keep | CallOff)
_ENCODE = msgspec.json.Encoder().encode


class Console:
    """The listening socket."""

    def __init__(self, server: "ProcessServer", descriptor: int) -> None:
        """Let operators in through *descriptor*."""
        self._server = server
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._strangers: deque[Conversation] = deque()
        server.server.watch(self._socket, self._accept)

    def _accept(self) -> None:
        """Let in who waits and may."""
        try:
            peer, _ = self._socket.accept()
        except BlockingIOError:
            return
        _, uid, _ = _CREDENTIALS.unpack(
            peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid not in self._server.operators.uids:
            refusal = f"uid {uid} is no operator of this system: see attach.operators in system.toml"
            peer.send(_ENCODE({"error": refusal}))
            peer.close()
            return
        conversation = Conversation(self._server, peer, uid)
        if conversation.is_stranger:
            self._bound_strangers(conversation)

    def _bound_strangers(self, newest: "Conversation") -> None:
        """Keep few connections of those who have shown nothing yet: programs may open them, too."""
        self._strangers = deque([*(each for each in self._strangers if each.is_stranger), newest])
        if len(self._strangers) > MAX_STRANGERS:
            self._strangers.popleft().refuse("others wait to show the operators' secret, and came later")


def _digits(text: str) -> bytes:
    """Return the bytes that *text* spells; none where it spells none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _check_whole(flags: int) -> None:
    """Raise ExoError when the host cut a request."""
    if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        raise ExoError(f"a request has at most {MAX_REQUEST} bytes and {MAX_DESCRIPTORS} descriptors")


class Conversation:
    """One operator's connection."""

    def __init__(self, server: "ProcessServer", peer: socket.socket, uid: int) -> None:
        """Talk to *peer*, whose uid is an operator's; its first request may be there already."""
        self._server = server
        self._peer = peer
        self._uid = uid
        self._child: Child | None = None
        self._detached = False
        self.is_stranger = not server.operators.admits(uid, b"")
        """It has yet to show the secret."""
        self._replacement: Replacement | None = None
        peer.setblocking(False)
        server.server.watch(peer, self._hear)
        if self.is_stranger:
            self._hear()

    def refuse(self, reason: str) -> None:
        """Say why something was not done; a stranger has no second try."""
        self._say({"error": reason})
        if self.is_stranger:
            self._leave()

    def _knows(self, request: _Request) -> bool:
        """Whether whoever sends *request* is an operator, for all we know by now; once is enough."""
        if self.is_stranger:
            self.is_stranger = not self._server.operators.admits(self._uid, _digits(request.secret))
        return not self.is_stranger

    def _hear(self) -> None:
        """Do the next request, if there is one."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._peer, MAX_REQUEST, MAX_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            self._leave()
            return
        if not data:
            self._leave()
            return
        try:
            _check_whole(flags)
            request = _DECODER.decode(data)
            if not self._knows(request):
                self.refuse(STRANGER)
                return
            answer = self._do(request, descriptors)
            if answer is not None:
                self._say({"ok": answer})
        except (ExoError, ProcessRefused, msgspec.DecodeError) as error:
            self.refuse(str(error))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

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
                server.end(server.named(request.name), request.grace)
                return {}
            case Replace():
                self._replace(request, descriptors)
                return None
            case Keep() | CallOff():
                return self._settle(request)
        return {}

    def _replace(self, replace: Replace, descriptors: list[int]) -> None:
        if self._replacement is not None:
            raise ExoError("this connection replaces a server already")
        kind = int(ProgramKind.SERVER)
        spec = ProgramSpec(kind, replace.argv, replace.name, replace.environ) if replace.argv else None
        given: list[object] = list(descriptors)
        self._replacement = self._server.replacements.begin(
            replace.name, spec, given, replace.roles, self._began
        )
        descriptors.clear()

    def _began(self, why_not: str) -> None:
        self._say({"error": why_not} if why_not else {"ok": {}})
        if why_not:
            self._replacement = None

    def _settle(self, request: Keep | CallOff) -> dict[str, Any] | None:
        made, self._replacement = self._replacement, None
        if made is None:
            raise ExoError("this connection replaces no server")
        if isinstance(request, Keep):
            return {"why": self._server.replacements.keep(made)}
        self._server.replacements.call_off(made, request.why, lambda why: self._say({"ok": {"why": why}}))
        return None

    def _run(self, run: Run, descriptors: list[int]) -> dict[str, Any]:
        if self._child is not None:
            raise ExoError("this connection runs a program already")
        spec = ProgramSpec(
            run.kind, run.argv, run.name, run.environ, run.share, run.restart, run.heartbeat, run.grace
        )
        given: list[object] = list(descriptors)
        descriptors.clear()
        child = self._server.start(spec, given, run.roles, spawner=0)
        self._detached = run.detach
        if not run.detach:
            self._child = child
            self._server.when_ended(child.thread, self._ended)
        return {"thread": child.thread, "name": child.spec.name}

    def _ended(self, exited: Exit) -> None:
        self._child = None
        self._say({"exit": {"status": exited.status, "fault": exited.fault, "text": exited.text}})

    def _say(self, what: dict[str, Any]) -> None:
        try:
            self._peer.send(_ENCODE(what))
        except OSError:
            self._leave()

    def _leave(self) -> None:
        """The operator is gone: end what it ran."""
        self.is_stranger = False
        self._server.server.unwatch(self._peer)
        self._peer.close()
        if self._replacement is not None:
            made, self._replacement = self._replacement, None
            self._server.replacements.call_off(made, "whoever asked for it left", lambda _why: None)
        if self._child is not None:
            child, self._child = self._child, None
            self._server.end(child)
