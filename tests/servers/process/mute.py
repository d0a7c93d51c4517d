"""A server that answers nobody."""

from libexo import attach
from libexo.stub import Interface


class Mute(Interface, label=0x7C):
    """Waits, before it serves anybody."""

    def __init__(self) -> None:
        attach().thread.sleep(10**6)
