"""Programs that a program starts at a function of its own, and forks by copy-on-write.

    child = process.start(env, work, 7)              # work(env, 7) in a program of its own
    child = process.fork(env, work, region)          # the same, with a copy of the region as it is now
    child.wait().status

A program cannot fork on the host: its child would have its sockets, and if it is paged its memory unwatched. What a
fork is for is made of what there is: a program that begins at a function, and copies of regions (`libexo.regions`).
The child has nothing else of its parent's memory: no other variable, module state, thread, or open file.

Source: the forks of ExOS and JOS are library code over page tables, too.
"""

from libexo.process.forking import fork
from libexo.process.starting import Child, Passed, start

__all__ = ["Child", "Passed", "fork", "start"]
