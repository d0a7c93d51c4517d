"""The operators' console: a socket for people's tools, so that `exo run` needs neither ZeroMQ nor a gate.

Each connection is a conversation of JSON packets (SOCK_SEQPACKET, `servers.process.requests`); the descriptors of
a program come with the request that starts it. SO_PEERCRED decides who may speak. An operator whose uid programs
may have too shows the operators' secret in the first packet, as hexadecimal digits in the field "secret".

The programs of a connection end with it, unless they were detached. A replacement that was neither kept nor
called off is called off then. Arguments and environ that are too long for a packet, or not text, come as a file: a
descriptor whose role is ARGUMENTS.

Whatever arrives is answered or dropped, without effect on others. Connections that run nothing are idle: there are
IDLE_CONNECTIONS at most, for IDLE_SECONDS; then the oldest is dropped.
"""

import contextlib
import os
import socket
import struct
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from kernel.abi.gate import UNDECODABLE
from kernel.abi.limits import MAX_TRAP_BYTES, MAX_TRAP_DESCRIPTORS
from kernel.abi.program import ProgramKind, Role
from libexo.errors import ExoError, GateClosed
from servers.process.api import Exit, ProgramSpec
from servers.process.policy import ProcessRefused, check_budget
from servers.process.requests import (
    CallOff,
    End,
    EndFamily,
    Keep,
    Kill,
    Power,
    Replace,
    Request,
    Run,
    Signal,
)

if TYPE_CHECKING:
    from servers.process.children import Child
    from servers.process.keeper import Keeper
    from servers.process.replacement import Replacement, Replacements

MAX_REQUEST = 128 * 1024
MAX_DESCRIPTORS = MAX_TRAP_DESCRIPTORS
MAX_PROGRAM = MAX_TRAP_BYTES - 4096
"""Bytes of arguments and environ that fit in a trap beside the rest."""
IDLE_CONNECTIONS = 64
IDLE_SECONDS = 30.0
MAX_STRANGERS = 16
"""Connections that have yet to show the secret; for one more, the oldest is dropped."""
STRANGER = (
    "programs of this system have your uid too: show the operators' secret, which 'operator' in the run directory "
    "holds for those who may read it"
)
NO_DESCRIPTORS = 0.1
"""Seconds until connections are accepted again, after descriptors ran out."""
_CREDENTIALS = struct.Struct("iII")
_DECODER = msgspec.json.Decoder(Request)

_ENCODE = msgspec.json.Encoder().encode


class Console:
    """The listening socket, and the connections that run nothing."""

    def __init__(self, server: "Keeper", replacements: "Replacements", descriptor: int) -> None:
        """Accept operators at the listening socket *descriptor*."""
        self.server = server
        self.replacements = replacements
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._strangers: deque[Conversation] = deque()
        self._idle: dict[Conversation, int] = {}
        """Idle connections with the time since when, the longest first."""
        self.dropped = 0
        """Connections that were dropped because they were idle."""
        self._listen()

    def _listen(self) -> None:
        self.server.server.watch(self._socket, self._accept)

    def _accept(self) -> None:
        """Accept a waiting connection, if its uid may speak."""
        try:
            peer, _ = self._socket.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: drop an idle connection for one
            self._drop_idle(1)
            self.server.server.unwatch(self._socket)
            self.server.server.after(NO_DESCRIPTORS, self._listen)
            return
        peer.setblocking(False)
        uid = _uid_of(peer)
        if uid in self.server.operators.uids:
            self._let_in(Conversation(self, peer, uid))
            return
        refusal = {
            "error": f"uid {uid} is not an operator of this system: see attach.operators in system.toml"
        }
        with contextlib.suppress(OSError):  # it does not read
            peer.send(_ENCODE(refusal))
        peer.close()

    def _let_in(self, conversation: "Conversation") -> None:
        """Keep few connections that have not shown the secret yet: programs may open them, too."""
        if conversation.is_stranger:
            self._strangers = deque([*(each for each in self._strangers if each.is_stranger), conversation])
        if len(self._strangers) > MAX_STRANGERS:
            self._strangers.popleft().refuse("too many connections wait to show the operators' secret")

    def idles(self, conversation: "Conversation") -> None:
        """Note that *conversation* runs nothing, from now on."""
        self.busy(conversation)
        self._idle[conversation] = self.server.environment.host.now()
        if len(self._idle) == 1:
            self.server.server.after(IDLE_SECONDS, self._look)
        self._drop_idle(len(self._idle) - IDLE_CONNECTIONS)

    def busy(self, conversation: "Conversation") -> None:
        """Note that *conversation* runs something, or is over."""
        self._idle.pop(conversation, None)

    def _look(self) -> None:
        """Drop connections that have been idle for too long; look again while there are others."""
        oldest = self.server.environment.host.now() - int(IDLE_SECONDS * 1e9)
        self._drop_idle(sum(since <= oldest for since in self._idle.values()))
        if self._idle:
            self.server.server.after(IDLE_SECONDS, self._look)

    def _drop_idle(self, count: int) -> None:
        """Drop the *count* connections that have been idle longest."""
        for conversation in list(self._idle)[: max(0, count)]:
            self.dropped += 1
            conversation.leave()


def _uid_of(peer: socket.socket) -> int:
    data = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(data)[1])


def _digits(text: str) -> bytes:
    """Return the bytes that *text* spells in hexadecimal; empty: it does not."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _check_whole(flags: int) -> None:
    """Raise ExoError when the host cut a request short."""
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

    def __init__(self, console: Console, peer: socket.socket, uid: int) -> None:
        """Talk to *peer*, whose uid is an operator's; its first request may be there already."""
        self._console = console
        self._server = console.server
        self._peer = peer
        self._child: Child | None = None
        self._awaits = 0
        """Programs, or families, that it asked to end and that have not ended yet."""
        self._replacement: Replacement | None = None
        self._uid = uid
        self.is_stranger = not self._server.operators.admits(uid, b"")
        """It has yet to show the secret."""
        self._is_over = False
        self._server.server.watch(peer, self._hear)
        console.idles(self)
        if self.is_stranger:
            self._hear()

    def refuse(self, reason: str) -> None:
        """Send the reason why a request was not done; a stranger has no second try."""
        self._say({"error": reason})
        if self.is_stranger:
            self.leave()

    def _knows(self, request: Request) -> bool:
        """Say whether the sender of *request* has shown, now or before, that it is an operator."""
        if self.is_stranger:
            self.is_stranger = not self._server.operators.admits(self._uid, _digits(request.secret))
        return not self.is_stranger

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
        """Do the request *data* and send the result; *descriptors* it does not use stay in the list."""
        try:
            _check_whole(flags)
            request = _DECODER.decode(data)
            if not self._knows(request):
                self.refuse(STRANGER)
                return
            answer = self._do(request, descriptors)
        except GateClosed:
            raise  # no refusal: it is the end of this server
        except (
            ExoError,
            ProcessRefused,
            *UNDECODABLE,
            msgspec.MsgspecError,
            ValueError,
            OverflowError,
        ) as error:
            # The last two are what values outside their range become on their way to the kernel.
            self.refuse(str(error).encode(errors="replace").decode())
            return
        if answer is not None:
            self._say({"ok": answer})
        self._idle()

    def _do(self, request: Request, descriptors: list[int]) -> dict[str, Any] | None:
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
                self._end(request)
                return None
            case Replace():
                self._replace(request, descriptors)
                return None
            case Power():
                server.environment.sys.processor_power(request.processor, on=request.on)
                return {}
            case Keep() | CallOff():
                return self._settle(request)

    def _end(self, end: End) -> None:
        """End the programs that it names, and tell when the last of them has ended."""
        if isinstance(end, EndFamily):
            children = self._server.end_family(end.name, end.grace)
        else:
            children = [self._server.named(end.name)]
            self._server.end(children[0], end.grace)
        grace = max(child.spec.grace for child in children) if end.grace is None else end.grace
        self._say({"ok": {"grace": grace, "names": [child.spec.name for child in children]}})
        left = {child.thread for child in children if self._server.is_there(child)}
        if not left:
            self._say({"ended": {}})
            return
        self._awaits += 1
        self._console.busy(self)
        for thread in tuple(left):
            self._server.when_ended(thread, partial(self._was_ended, left, thread))

    def _was_ended(self, left: set[int], thread: int, _how: Exit) -> None:
        left.discard(thread)
        if left:
            return
        self._awaits -= 1
        if not self._is_over:
            self._say({"ended": {}})
        self._idle()

    def _idle(self) -> None:
        """Tell the console if this connection runs nothing, and waits for nothing."""
        if self._child is None and not self._awaits and not self._is_over:
            self._console.idles(self)

    def _replace(self, replace: Replace, descriptors: list[int]) -> None:
        if self._replacement is not None:
            raise ExoError("this connection replaces a server already")
        kind = int(ProgramKind.SERVER)
        spec = ProgramSpec(kind, replace.argv, replace.name, replace.environ) if replace.argv else None
        given: list[object] = list(descriptors)
        self._replacement = self._console.replacements.begin(
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
            return {"why": self._console.replacements.keep(made)}
        self._console.replacements.call_off(made, request.why, lambda why: self._say({"ok": {"why": why}}))
        return None

    def _run(self, run: Run, descriptors: list[int]) -> dict[str, Any]:
        if self._child is not None:
            raise ExoError("this connection runs a program already")
        _check_size(run)
        check_budget(run.budget)
        spec = ProgramSpec(
            run.kind,
            run.argv,
            run.name,
            run.environ,
            run.share,
            run.restart,
            run.heartbeat,
            run.grace,
            run.budget,
            run.paged,
        )
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
        self._idle()

    def _say(self, what: dict[str, Any]) -> None:
        try:
            self._peer.send(_ENCODE(what))
        except OSError:  # it does not read its answers, or is gone
            self.leave()

    def leave(self) -> None:
        """Close the connection of an operator that left or was sent away: end what it ran."""
        if self._is_over:
            return
        self._is_over, self.is_stranger = True, False
        self._console.busy(self)
        self._server.server.unwatch(self._peer)
        self._peer.close()
        if self._replacement is not None:
            made, self._replacement = self._replacement, None
            self._console.replacements.call_off(
                made, "the operator that asked for it left", lambda _why: None
            )
        if self._child is not None:
            child, self._child = self._child, None
            self._server.end(child)
