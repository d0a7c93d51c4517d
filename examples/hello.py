"""Hello: a program attaches, and sees the other environments.

    exo run examples/hello.py

A program the kernel started finds its gate open already; `attach` asks the kernel who it is and maps the
kernel interface page. From then on, looking is free: reading a table in shared memory takes no trap.
"""

import libexo
from kernel.abi.ids import show_thread

if __name__ == "__main__":
    env = libexo.attach()
    names = env.kip.names()
    me = next(name for name, thread in names.items() if thread == env.thread.id)

    print(f"hello from {me}, an environment of its own")
    for name in ("memory", "process", "scheduler"):
        print(f"  {name:9} is thread {show_thread(env.lookup(name))}")
