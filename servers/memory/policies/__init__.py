"""Replacement policies: which page goes when one more is to be there. Each is pure code, chosen by its name."""

from collections.abc import Mapping

from servers.memory.policies.clock import Clock
from servers.memory.policies.fifo import Fifo
from servers.memory.policies.handover import Handover
from servers.memory.policies.lru import Lru
from servers.memory.policies.policy import Policy
from servers.memory.policies.random import Random
from servers.memory.policies.two_queue import TwoQueue

__all__ = ["POLICIES", "Handover", "Policy"]

POLICIES: Mapping[str, type[Policy]] = {each.name: each for each in (Fifo, Lru, Clock, TwoQueue, Random)}
"""By name."""
