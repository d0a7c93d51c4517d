"""Typed interfaces: one class is the operations, the client's stub and the server's dispatch.

    class Counter(Interface, label=0x41):
        @operation(1)
        def add(self, n: int) -> int: ...

`interface` has the class, `client` what a connected one does with a call, `server` the loop of one that serves;
`shortcut` is the way of ordinary calls over a ring, `failure` how an exception travels.
"""

from libexo.stub.client import DEFERRED
from libexo.stub.interface import Interface, Operation, operation
from libexo.stub.server import Call, Server, publish, serve

__all__ = ["DEFERRED", "Call", "Interface", "Operation", "Server", "operation", "publish", "serve"]
