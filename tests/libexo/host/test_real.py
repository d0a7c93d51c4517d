"""Strands and wakers of the real host, with a thread at the other end of the gate that stands in for the kernel."""

import ctypes
import os
import resource
import signal
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

from kernel.abi.gate import Status
from libexo.errors import GateClosed
from libexo.host import current
from libexo.host.real import RealHost
from tests.calls import calls

DONE, UPCALL = bytes([Status.DONE]), bytes([Status.UPCALL])
PATIENCE = 20_000_000_000
"""Nanoseconds a wait may take before a test has failed."""


class Kernel:
    """Answers each trap with its own bytes, and puts an upcall before the answer for each "!" in it."""

    def __init__(self) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.host = RealHost(theirs, Path("/nonexistent"))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while data := self.socket.recv(1 << 16):
            for number in range(data.count(b"!")):
                self.socket.send(UPCALL + data[1:] + b"%d" % number)
            with suppress(BrokenPipeError):
                self.socket.send(data)

    def close(self) -> None:
        """End it."""
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.socket.close()
        self.host.gate.close()


def descriptors() -> int:
    """Count what this process has open."""
    return psutil.Process().num_fds()


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A gate, with a party that answers at its other end."""
    before = descriptors()
    made = Kernel()
    yield made
    made.close()
    assert descriptors() == before


@pytest.fixture
def host(kernel: Kernel) -> RealHost:
    """The host of a program at that gate."""
    return kernel.host


def begin(host: RealHost, *works: Callable[[], object]) -> Callable[[], None]:
    """Do each of *works* in a strand of its own; return what waits for all of them, and raises what they raised."""
    left = list(range(len(works)))
    raised: list[BaseException] = []
    waker = host.waker()

    def strand(number: int) -> None:
        try:
            works[number]()
        except BaseException as error:  # noqa: BLE001 - it is handed to the test
            raised.append(error)
        left.remove(number)
        waker.wake()

    def wait() -> None:
        deadline = host.now() + PATIENCE
        while left:
            assert host.now() < deadline, f"strands {left} have not ended; so far: {raised}"
            host.wait((waker,), deadline)
            waker.clear()
        waker.close()
        for error in raised:
            raise error

    for number in left.copy():
        host.start_strand(lambda number=number: strand(number), f"s{number}")  # type: ignore[misc]
    return wait


def join(host: RealHost, *works: Callable[[], object]) -> None:
    """Do each of *works* in a strand of its own, until all are done."""
    begin(host, *works)()


def test_what_an_ordinary_trap_takes(host: RealHost) -> None:
    """One call of the host to ask, one for the answer, two for the mask of signals, and four functions of ours."""
    taken = calls(partial(host.gate.trap, DONE))

    assert (taken.pop("send()"), taken.pop("recvmsg_into()")) == (1, 1)
    assert sum(taken.values()) <= 5


def test_only_long_answers_take_memory(host: RealHost) -> None:
    """Of the room for an answer, as much is there as the longest so far needed: every program has such room."""
    host.gate.trap(DONE)

    assert present(host.gate._view) == 1


def present(view: memoryview) -> int:
    """Count the pages of *view* that are in memory (pagemap, bit 63)."""
    page = resource.getpagesize()
    first, pages = ctypes.addressof(ctypes.c_char.from_buffer(view)) // page, len(view) // page
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(first * 8)
        return sum(entry >> 63 for (entry,) in struct.iter_unpack("<Q", pagemap.read(pages * 8)))


def asking(host: RealHost, name: bytes, times: int) -> Callable[[], None]:
    """Trap as *name*, and check that each answer is to the question."""

    def work() -> None:
        for number in range(times):
            question = DONE + name + b"%d" % number
            assert host.gate.trap(question) == (question, [])

    return work


# ------------------------------------------------------------------------------------------------------ strands


def test_a_strand_stands_on_its_program_s_host(host: RealHost) -> None:
    """Every strand but the main one finds the host where `attach` asks, and has its name."""
    found: list[object] = []

    join(host, lambda: found.extend((current.get(), threading.current_thread().name)))
    assert (found, current.get()) == ([host, "s0"], None)


def test_what_a_strand_raises_ends_it_alone(host: RealHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error goes to `threading.excepthook`; the program goes on."""
    told: list[tuple[object, str]] = []
    waker = host.waker()

    def hook(what: threading.ExceptHookArgs) -> None:
        told.append((what.exc_type, what.thread.name if what.thread else ""))
        waker.wake()

    monkeypatch.setattr(threading, "excepthook", hook)
    host.start_strand(lambda: 1 // 0, "divider")
    host.wait((waker,), host.now() + PATIENCE)
    waker.close()

    assert told == [(ZeroDivisionError, "divider")]
    asking(host, b"on", 3)()


def test_a_program_of_one_strand_holds_no_more(host: RealHost) -> None:
    """Bell and epoll descriptor come with the first other strand, and only once."""
    held = [descriptors()]
    gate = host.gate.fileno()
    for _ in range(2):
        host.start_strand(lambda: None, "brief")
        held.append(descriptors())

    assert held == [held[0], held[0] + 2, held[0] + 2]
    assert host.gate.fileno() != gate


# -------------------------------------------------------------------------------------------------------- traps


def test_answers_are_never_mixed(host: RealHost) -> None:
    """Two strands that trap a thousand times each at once get each its own answers, and no upcall is lost."""
    join(host, asking(host, b"a", 1000), asking(host, b"b!", 1000))

    assert host.gate.upcalls(surely=True) == [UPCALL + b"b!%d0" % n for n in range(1000)]


def test_upcalls_come_out_once(host: RealHost) -> None:
    """Strands that look while others trap get every upcall, each one of them once."""
    got: list[bytes] = []

    def look() -> None:
        for _ in range(1000):
            got.extend(host.gate.upcalls(surely=True))

    join(host, asking(host, b"a!!", 500), look, asking(host, b"b!", 500), look)
    got += host.gate.upcalls(surely=True)
    wanted = [b"a!!%d%d" % (n, m) for n in range(500) for m in range(2)] + [b"b!%d0" % n for n in range(500)]
    assert sorted(got) == sorted(UPCALL + each for each in wanted)


def test_what_one_look_leaves_the_next_wait_shows(kernel: Kernel, host: RealHost) -> None:
    """A look takes one upcall out of the socket, and all if told to; the next wait does not last."""
    for number in range(4):
        kernel.socket.send(UPCALL + b"%d" % number)
    got = []
    for surely in (False, False, True):
        assert not host.wait((host.gate,), None)
        got.append(host.gate.upcalls(surely=surely))

    assert got == [[UPCALL + b"0"], [UPCALL + b"1"], [UPCALL + b"2", UPCALL + b"3"]]


def test_upcalls_of_one_strand_s_trap_wake_another(host: RealHost) -> None:
    """A sleeper at the gate wakes for upcalls that came with another's answer, though the socket is empty again.

    That holds for the main strand, too, which has waited there before there was another.
    """
    rounds, got = 300, list[bytes]()
    heard = host.waker()

    def trap() -> None:
        for number in range(rounds):
            asking(host, b"!%d." % number, 1)()
            while len(got) <= number:
                host.wait((heard,), None)
                heard.clear()

    host.wait((host.gate,), 0)
    ended = begin(host, trap)
    deadline = host.now() + PATIENCE
    while len(got) < rounds:
        assert host.now() < deadline, f"nobody was woken for upcall {len(got)}"
        host.wait((host.gate,), deadline)
        if upcalls := host.gate.upcalls():
            got.extend(upcalls)
            heard.wake()
    ended()
    heard.close()

    assert got == [UPCALL + b"!%d.00" % number for number in range(rounds)]


def test_a_wait_that_found_nothing_speaks_for_its_own_strand(kernel: Kernel, host: RealHost) -> None:
    """A strand whose wait found nothing need not look at the gate at once; another strand's look counts."""
    got: list[list[bytes]] = []

    def look() -> None:
        got.append(host.gate.upcalls())

    join(host, lambda: None)
    host.wait((host.gate,), 0)
    kernel.socket.send(UPCALL + b"new")
    assert host.gate.upcalls() == []
    join(host, look)
    assert got == [[UPCALL + b"new"]]


def test_a_closed_gate_tells_every_strand(kernel: Kernel, host: RealHost) -> None:
    """When the kernel closes the gate, those that trap and those that sleep there learn it."""
    told: list[str] = []
    asked = host.waker()

    def learn(name: str, wait: Callable[[], object]) -> Callable[[], None]:
        def for_ever() -> None:
            while True:
                wait()

        def work() -> None:
            with pytest.raises(GateClosed):
                for_ever()
            told.append(name)

        return work

    def listen() -> None:
        host.wait((host.gate,), None)
        host.gate.upcalls()

    def ask() -> None:
        asking(host, b"a", 1)()
        asked.wake()

    def close() -> None:
        host.wait((asked,), None)
        kernel.socket.shutdown(socket.SHUT_RDWR)

    works = [learn("a", ask), learn("b", asking(host, b"b", 1)), learn("c", listen), learn("d", listen)]
    join(host, *works, close)
    assert sorted(told) == ["a", "b", "c", "d"]
    asked.close()


def test_each_strand_keeps_its_own_signal_mask(host: RealHost) -> None:
    """Traps hold signals back; afterwards each strand has the mask it had, not another's."""

    def work(*blocked: signal.Signals) -> Callable[[], None]:
        def trap() -> None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            for _ in range(500):
                asking(host, b"x", 1)()
                assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set(blocked)

        return trap

    join(host, work(signal.SIGUSR1), work(signal.SIGUSR2), work())


def test_a_handler_may_trap_between_traps(host: RealHost) -> None:
    """A signal's handler that traps, while another strand does, gets its answer, and no signal stays blocked."""
    handled: list[object] = []

    def handle(*_: object) -> None:
        asking(host, b"handler", 1)()
        handled.append(None)

    def interrupt() -> None:
        while len(handled) < 50:  # those that come while a trap holds them back are one
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            asking(host, b"other", 5)()

    def trap() -> None:
        while len(handled) < 50:
            asking(host, b"main", 10)()

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        ended = begin(host, interrupt)
        trap()
        ended()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()


# -------------------------------------------------------------------------------------------------------- waits


def test_strands_wait_for_the_same_things(host: RealHost) -> None:
    """Strands that wait for the very same sources at the same time are all woken."""
    waker, ready, woken = host.waker(), host.waker(), list[int]()

    def wait(number: int) -> Callable[[], None]:
        def work() -> None:
            ready.wake()
            host.wait((host.gate, waker), host.now() + PATIENCE)
            woken.append(number)

        return work

    def wake() -> None:
        host.wait((ready,), None)
        for _ in range(100):
            asking(host, b"x", 1)()
        waker.wake()

    join(host, wake, *(wait(number) for number in range(8)))
    assert sorted(woken) == list(range(8))
    waker.close()
    ready.close()


def test_a_waker_stays_awake_until_it_is_cleared(host: RealHost) -> None:
    """However often it was woken, one clearing makes waits last again."""
    waker = host.waker()
    waker.clear()
    for _ in range(3):
        waker.wake()
    start = host.now()
    for _ in range(2):
        host.wait((host.gate, waker), start + PATIENCE)
    assert host.now() < start + PATIENCE
    waker.clear()
    deadline = host.now() + 2_000_000
    host.wait((host.gate, waker), deadline)
    assert host.now() >= deadline
    waker.close()


def test_a_closed_waker(host: RealHost) -> None:
    """It cannot be waited for; to wake, clear or close it again touches nobody's descriptor."""
    waker = host.waker()
    number = waker.fileno()
    waker.close()
    other = os.eventfd(0, os.EFD_NONBLOCK)
    assert other == number
    for harmless in (waker.wake, waker.clear, waker.close):
        harmless()
    with pytest.raises(BlockingIOError):
        os.eventfd_read(other)
    with pytest.raises(ValueError, match="closed"):
        host.wait((waker,), None)
    os.close(other)


def test_strands_make_one_transport(host: RealHost) -> None:
    """Strands that need the transport for the first time at once get the same one."""
    made: list[object] = []

    join(host, *[lambda: made.append(host.transport)] * 8)
    assert len(set(map(id, made))) == 1
    host.transport.close()


class RingEnd:
    """Errors that a host takes for the end of a ring."""

    found_others = False

    def prepare_to_sleep(self) -> bool:
        """Say that there is nothing."""
        return False

    def fileno(self) -> int:
        """Be nothing to wait on."""
        return -1


def test_who_looks_into_rings_hears_what_the_gate_kept(host: RealHost) -> None:
    """A wait that ends at once because of upcalls that came with an answer says so to ends of rings, each time."""
    ring = RingEnd()
    host.gate.trap(DONE + b"!")
    for _ in range(2):
        ring.found_others = False
        host.wait((host.gate, ring), None)
        assert ring.found_others
    assert len(host.gate.upcalls()) == 1


def test_a_quiet_trap_is_sent_and_no_answer_waited_for() -> None:
    """It returns at once; a closed gate is told."""
    kernel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    host = RealHost(theirs, Path("/nonexistent"))
    with kernel:
        host.gate.post(b"quiet")
        assert kernel.recv(100) == b"quiet"
    with pytest.raises(GateClosed):
        host.gate.post(b"quiet")
    host.gate.close()
