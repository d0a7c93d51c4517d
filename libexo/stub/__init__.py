"""Typed interfaces: one class is the operations, the client's stub and the server's dispatch.

    class Counter(Interface, label=0x41):
        @operation(1)
        def add(self, n: int) -> int: ...

`interface` has the class, `client` what a connected one does with a call, `server` the loop of one that serves. All
three stand on `operation`, `call` and `failure`: what is asked for, who asked, and how an exception travels.
Ordinary calls are made by `libexo.ipc.plain`.
"""

from libexo.stub.call import DEFERRED, Call
from libexo.stub.interface import Interface
from libexo.stub.operation import Operation, operation
from libexo.stub.server import Server, publish, serve

__all__ = ["DEFERRED", "Call", "Interface", "Operation", "Server", "operation", "publish", "serve"]
