"""A child in a siege: it calls the memory server from ten threads, for as many seconds as it was told."""

import os
import threading
import time
from contextlib import suppress

import libexo
from libexo.errors import ExoError
from servers.memory.api import Memory

END = time.monotonic() + float(os.environ["FLOOD_SECONDS"])


def calls(memory: Memory) -> None:
    """Call until the time is up."""
    while time.monotonic() < END:
        with suppress(ExoError):
            memory.statistics()


if __name__ == "__main__":
    memory = Memory.connect(libexo.attach())
    threads = [threading.Thread(target=calls, args=(memory,), daemon=True) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
