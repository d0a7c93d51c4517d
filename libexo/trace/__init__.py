"""The kernel's events, read by programs: what happened, who ran when, and why a program did not run.

Reading costs the kernel nothing, and needs no right: every attached program may map the ring.

    from libexo import trace
    ring = trace.Ring(env.trace())
    found = trace.why(env.kip, ring, "worker", now=env.host.now(), seconds=1.0)
"""

from libexo.trace.history import History, Present, Span, State
from libexo.trace.ring import Record, Ring
from libexo.trace.why import Cause, Why, explain, why

__all__ = ["Cause", "History", "Present", "Record", "Ring", "Span", "State", "Why", "explain", "why"]
