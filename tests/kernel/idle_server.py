"""A server that does nothing, for topologies of tests."""

from libexo.stub import Interface


class Idle(Interface, label=0x7E):
    """Serves no operation."""
