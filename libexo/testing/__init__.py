"""The public test kit: a whole system in one process, from a seed.

from libexo.testing import simulated

def test_hello():
    with simulated(seed=1) as system:
        task = system.spawn(lambda env: env.kip.lookup("hello"), "hello")
        system.run()
        assert task.result == task.thread
"""

from hwmodel.failures import Failure, FailureKind, Failures
from hwmodel.simulated.machine import Outcome
from libexo.testing.exploring import TooManyOrders, explore, replay
from libexo.testing.ledger import LeakError, Ledger
from libexo.testing.system import NotFinished, System, Task, burn, simulated

__all__ = [
    "Failure",
    "FailureKind",
    "Failures",
    "LeakError",
    "Ledger",
    "NotFinished",
    "Outcome",
    "System",
    "Task",
    "TooManyOrders",
    "burn",
    "explore",
    "replay",
    "simulated",
]
