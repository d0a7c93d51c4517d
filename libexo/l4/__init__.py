"""The L4 X.2 interface: every function under its X.2 name, without the ``L4_`` prefix.

    from libexo import l4

    l4.LoadMR(0, l4.MsgTag.of(label=0x40, u=1))
    l4.LoadMR(1, 7)

A C program's pointers become results here: a function that changes a value (a tag, an
fpage, an item) returns the new one, and out-parameters come back, in declaration order, before the C result.
Types have the names of X.2 without ``_t``; a type and the function that makes one are the same object
(`l4.Fpage(base, size)`, `l4.MapItem(fpage, base)`), and `l4.MsgTag()` is the calling thread's tag. Wrong
arguments raise ValueError; tag and ErrorCode tell whether a call succeeded, as in X.2.

Formats are the 64-bit ones of the L4 X.2 reference manual, rev. 7. Where the headers of L4Ka::Pistachio
differ from it by mistake, the function's docstring says so.
"""

# ruff: noqa: F403 - each module's __all__ lists the names of X.2
from libexo.l4.boot import *
from libexo.l4.calls import *
from libexo.l4.entries import entry as entry
from libexo.l4.exregs import *
from libexo.l4.format.acceptor import *
from libexo.l4.format.constants import *
from libexo.l4.format.controls import *
from libexo.l4.format.fpage import *
from libexo.l4.format.items import *
from libexo.l4.format.message import *
from libexo.l4.format.registers import *
from libexo.l4.format.strings import *
from libexo.l4.format.tag import *
from libexo.l4.format.tcrs import *
from libexo.l4.format.threadids import *
from libexo.l4.format.times import *
from libexo.l4.ipc import *
from libexo.l4.kip import *
from libexo.l4.memory import *
from libexo.l4.schedule import *
from libexo.l4.sigma0 import *
