"""Programs that may have more of the processor than their part, if it can be had: each goes on without end."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping

import libexo
from kernel.abi.kip import Page
from servers.scheduler.api import Scheduler


def loop() -> None:
    """Compute, as the others do."""
    while True:
        pass


def critical() -> None:
    """Compute, and say again and again that no slice must end now."""
    page = libexo.attach().page
    while True:
        page[Page.CRITICAL] = 1


def threads() -> None:
    """Compute in sixteen threads."""
    for _ in range(15):
        threading.Thread(target=loop, daemon=True).start()
    loop()


def naps() -> None:
    """Sleep and wake ten thousand times a second."""
    while True:
        time.sleep(0.00005)


def timers() -> None:
    """Be woken by a timer four thousand times a second, and compute a little."""
    signal.signal(signal.SIGALRM, lambda *_: sum(range(2000)))
    signal.setitimer(signal.ITIMER_REAL, 0.00025, 0.00025)
    while True:
        signal.pause()


def signals() -> None:
    """Send oneself signals without rest."""
    signal.signal(signal.SIGUSR1, lambda *_: None)
    while True:
        os.kill(os.getpid(), signal.SIGUSR1)


def stops() -> None:
    """Stop oneself, again and again."""
    while True:
        os.kill(os.getpid(), signal.SIGSTOP)


def yields() -> None:
    """Give up each slice at once."""
    scheduler = Scheduler.connect(libexo.attach())
    while True:
        scheduler.switch(0)


def shares() -> None:
    """Give up each slice at once, and have all planned anew by asking for another part."""
    environment = libexo.attach()
    scheduler = Scheduler.connect(environment)
    while True:
        scheduler.switch(0)
        scheduler.set_share(environment.thread.id, 1)


KINDS: Mapping[str, Callable[[], None]] = {
    each.__name__: each for each in (loop, critical, threads, naps, timers, signals, stops, yields, shares)
}

if __name__ == "__main__":
    KINDS[sys.argv[1]]()
