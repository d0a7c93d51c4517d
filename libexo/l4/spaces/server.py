"""The first thread of a fresh space: it knows the entries of its creator's modules, and waits for its pager."""

from importlib import import_module

from libexo import attach
from libexo.l4.engine.start import live
from libexo.l4.spaces import MODULES


def main() -> None:
    """Import the modules, then live as the first thread: wait for the start message, and begin there."""
    environment = attach()
    while (
        environment.thread.engine is None
    ):  # the kernel says who the pager is, before a module can want a register
        environment.thread.core.pump_gate()
        if environment.thread.engine is None:
            environment.host.wait(environment.thread.core.outside, None)
    for module in filter(None, environment.host.variables.get(MODULES, "").split(",")):
        import_module(module)
    live(environment.thread)
