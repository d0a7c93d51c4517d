"""Memory: ask the memory server for frames, map them, use them as bytes, give them back.

    exo run examples/memory.py

`allocate` returns a capability. `vm.map` turns it into a memoryview: no copy, no library
between the program and the memory. Nobody else can map these frames, as nobody else holds the capability.
"""

import libexo
from libexo import vm
from servers.memory.api import Memory

if __name__ == "__main__":
    env = libexo.attach()
    memory = Memory.connect(env)
    free = memory.statistics().free

    extent = memory.allocate(pages=16)
    view = vm.map(env, extent)
    print(f"{extent.pages} frames are {len(view)} bytes, all zero: {not any(view)}")

    words = view.cast("Q")
    words[:4] = memoryview(bytes(range(32))).cast("Q")
    print(f"the first bytes are now {bytes(view[:8]).hex(' ')}")
    print(f"frames in use: {free - memory.statistics().free}")

    words.release()
    vm.unmap(env, view)
    memory.free(extent)
    print(f"and after free: {free - memory.statistics().free}")
