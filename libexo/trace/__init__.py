"""The kernel's events, read by programs: what happened, who ran when, and why a program did not run.

Reading costs the kernel nothing, and needs no right: every attached program may map the ring.

    from libexo import trace
    ring = trace.Ring(env.trace())
    found = trace.why(env.kip, ring, "worker", now=env.host.now(), seconds=1.0)
"""

from libexo.trace.explanation import Explanation, Stop
from libexo.trace.history import History, Present, Span, State
from libexo.trace.ring import Record, Ring
from libexo.trace.why import Cause, Why, explain, in_steps, why

__all__ = [
    "Cause",
    "Explanation",
    "History",
    "Present",
    "Record",
    "Ring",
    "Span",
    "State",
    "Stop",
    "Why",
    "explain",
    "in_steps",
    "why",
]
