"""Requests of people's tools at the operators' console, and the replies: JSON, a packet each.

{"op": "run", "kind": 1, "argv": [...], "name": "", "environ": [[k, v]...], "share": 1, "restart": "never",
"roles": [0, 1, 2, ...], "detach": false, "heartbeat": false, "grace": 5, "budget": {"threads": 4, ...}}
-> {"ok": {"thread": ..., "name": ...}}
and when it ended   -> {"exit": {"status": ..., "fault": ..., "text": ...}}
{"op": "signal", "signal": 2}      to what this connection runs
{"op": "kill", "name": ..., "signal": 15}              -> {"ok": {}}
{"op": "end", "name": ..., "grace": 5}  end it for good: SIGTERM, then SIGKILL
-> {"ok": {"grace": 5, "names": [...]}}
and when it ended   -> {"ended": {}}
{"op": "end_family", ...}          likewise, with all its descendants; "ended" when all have
{"op": "replace", "name": ..., "argv": [...], "environ": [[k, v]...], "roles": [...]}
a server of the topology, by another, or, argv empty, by the topology's
when the new one was started          -> {"ok": {}}
{"op": "keep"}                     it answers: it stays; else why not      -> {"ok": {"why": ""}}
{"op": "power", "processor": 1, "on": false}           -> {"ok": {}}
{"op": "call_off", "why": ...}     what ran before is put back; when that was done -> {"ok": {"why": ...}}
"""

from typing import Annotated

import msgspec

from kernel.abi.limits import MAX_CPUS, MAX_NAME
from kernel.abi.program import Role
from servers.process.api import Budget, Restart
from servers.process.ending import GRACE, MAX_GRACE

Name = Annotated[str, msgspec.Meta(max_length=MAX_NAME)]
SignalNumber = Annotated[int, msgspec.Meta(ge=1, le=64)]


class Operator(msgspec.Struct, tag_field="op", forbid_unknown_fields=True, kw_only=True):
    """A request of an operator."""

    secret: str = ""
    """In the first packet: the operators' secret, if the operator can read it."""


class Run(Operator, tag="run"):
    """Start a program."""

    kind: Annotated[int, msgspec.Meta(ge=1, le=3)]
    argv: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    name: Name = ""
    environ: tuple[tuple[str, str], ...] = ()
    share: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 1
    restart: Restart = "never"
    roles: tuple[Annotated[int, msgspec.Meta(ge=0, le=int(max(Role)))], ...] = ()
    detach: bool = False
    heartbeat: bool = False
    grace: Annotated[float, msgspec.Meta(ge=0, le=MAX_GRACE)] = GRACE
    budget: Budget = {}
    paged: bool = False


class Signal(Operator, tag="signal"):
    """Send a signal to what this connection runs."""

    signal: SignalNumber


class Kill(Operator, tag="kill"):
    """Send a signal to a program by name."""

    name: Name
    signal: SignalNumber = 15


class End(Operator, tag="end"):
    """End a program by name, for good, with so many seconds between SIGTERM and SIGKILL (default: its own)."""

    name: Name
    grace: Annotated[float, msgspec.Meta(ge=0, le=MAX_GRACE)] | None = None


class EndFamily(End, tag="end_family"):
    """End a program and all its descendants, for good, likewise; or the descendants of one that ended."""


class Replace(Operator, tag="replace"):
    """Start another program in the place of a server of the topology."""

    name: Name
    argv: tuple[str, ...] = ()
    environ: tuple[tuple[str, str], ...] = ()
    roles: tuple[Annotated[int, msgspec.Meta(ge=0, le=int(max(Role)))], ...] = ()


class Keep(Operator, tag="keep"):
    """Keep the new program."""


class CallOff(Operator, tag="call_off"):
    """Put back what ran before."""

    why: str


class Power(Operator, tag="power"):
    """Take a processor out, or put it back."""

    processor: Annotated[int, msgspec.Meta(ge=0, lt=MAX_CPUS)]
    on: bool


Request = Run | Signal | Kill | End | EndFamily | Replace | Keep | CallOff | Power
