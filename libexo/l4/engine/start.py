"""How a thread of an environment begins (X.2 thread start), and how it goes on.

The kernel says that a thread was activated here; the thread then waits for its pager's start message, which
names where it begins: an *entry*, the word that stands for an instruction pointer (`libexo.l4.entries`). Another
thread may abort that wait and name the entry itself (ExchangeRegisters).
"""

from typing import TYPE_CHECKING

from kernel.abi.gate import Upcall
from kernel.abi.ids import NIL_THREAD, show_thread
from kernel.abi.messages import IpcCode
from kernel.abi.space import UTCB_AREA
from libexo.environment import be, here, home
from libexo.errors import Ended, GateClosed
from libexo.ipc.message import Message
from libexo.l4.engine import exceptions
from libexo.l4.engine.context import Jump
from libexo.l4.engine.exceptions import NoEntry
from libexo.l4.engine.x2 import Engine, Ipc
from libexo.l4.entries import ENTRIES, Function, entry
from libexo.l4.format import registers as virtual
from libexo.l4.format.acceptor import CtrlXferAcceptor, UntypedWordsAcceptor
from libexo.l4.format.times import Never, Timeouts
from libexo.l4.space.space import space_of

if TYPE_CHECKING:
    from libexo.environment import Environment
    from libexo.ipc import Thread

_START_WORDS = 2
"""Instruction pointer and stack pointer: any other start message leaves them as they are."""


def begin(pager: "Thread", function: Function, sp: int) -> int:
    """Create a thread in the environment of *pager* and start it at *function*; return its id.

    Raises RemoteError, NotFound, IpcError.
    """
    thread = pager.environment.services.create_thread()
    pager.core.pump_gate(surely=True)
    pager.send(thread, Message(words=(int(entry(function)), sp)))
    return thread


def engine_of(thread: "Thread", local: int = 0) -> Engine:
    """Return the X.2 engine of *thread*, making it at the first use; its UTCB is at *local*."""
    engine: Engine | None = thread.engine
    if engine is None:
        thread.engine = engine = Engine(thread, local or thread.local or UTCB_AREA.start)
        space = space_of(home(thread))
        space.fault, space.attend = _fault, _attend
    return engine


def _fault(address: int, access: int) -> None:
    engine().paging.fault(address, access)


def _attend() -> None:
    here().core.pump_gate(surely=True)


def engine() -> Engine:
    """Return the engine of the calling thread, attaching its program if need be."""
    return engine_of(here())


def changed(environment: "Environment", upcall: Upcall) -> None:
    """A thread of *environment* was activated, changed or deleted: see `messages.Label.THREAD`."""
    before, now, pager, _, utcb = upcall.words
    if not before:
        _activated(environment, now, pager, utcb)
        return
    thread = environment.threads.pop(before, None)
    if thread is None:
        return
    if now:
        environment.threads[now] = thread
        thread.rename(now)
        registers = engine_of(thread).registers
        registers.my_global_id, registers.pager = now, pager or registers.pager
    else:
        thread.core.ended = True
        thread.wake()


def _activated(environment: "Environment", number: int, pager: int, utcb: int) -> None:
    if number == environment.thread.id:  # the first of a fresh space, which `libexo.l4.spaces` has live
        own = engine_of(environment.thread, utcb)
        own.registers.my_local_id = utcb
        _await(own, pager)
        return
    engine_of(environment.thread)
    thread = environment.add_thread(number)
    _await(engine_of(thread, utcb), pager)
    environment.host.start_strand(lambda: live(thread), f"thread {show_thread(number)}")


def _await(own: Engine, pager: int) -> None:
    """Make it what an activated thread is, even before it has run: one that receives from its pager."""
    own.registers.pager = pager
    own.operation = Ipc(own, NIL_THREAD, pager, Timeouts(Never, Never))


def live(thread: "Thread") -> None:
    """The life of *thread*: wait for its pager's start message, begin there, and go where it is sent."""
    be(thread)
    own = engine_of(thread)
    virtual.use(own.registers)
    try:
        _await_start(own)
        while not _returns(own):
            pass
    except (GateClosed, Ended):
        return
    finally:
        be(None)
        own.environment.threads.pop(thread.id, None)
        thread.close()


def _await_start(own: Engine) -> None:
    """Wait until the pager, or a thread that aborts that wait, has named an instruction pointer to begin at."""
    while not own.begins:
        own.stop_if_halted()
        cancelled, own.operation = own.is_aborted, None
        if not cancelled:
            own.registers.br[0] = CtrlXferAcceptor  # it may bring the registers by an item, not by words
            _, tag = own.ipc(NIL_THREAD, own.registers.pager, Timeouts(Never, Never))
            if not tag.E and not tag.label and tag.u == _START_WORDS:
                own.ip, own.sp = own.registers.mr[1 : 1 + _START_WORDS]
            own.begins = not tag.E
            cancelled = tag.E and own.registers.error_code >> 1 == IpcCode.CANCELLED
        own.begins = own.begins or (cancelled and own.ip != 0)
        if not own.begins and not cancelled and own.registers.error_code >> 1 == IpcCode.NO_PARTNER:
            own.pause()  # the pager is gone: only an abort can help
    own.registers.br[0] = UntypedWordsAcceptor


def _returns(own: Engine) -> bool:
    """Run where the thread is to begin. False: it is to go on elsewhere.

    With its first thread an environment ends; any other that returns is halted, until it is sent elsewhere.
    """
    try:
        try:
            _function(own)(own.sp)
        except (GateClosed, SystemExit):
            raise
        except Exception as error:  # noqa: BLE001 - whatever it was: its handler's to say what becomes of it
            exceptions.handle(own, error)
            return False
        if own.thread is own.environment.thread:
            return True
        while True:  # there is nothing to go on with, until it is sent elsewhere
            own.halt()
    except Jump:
        own.jumps = False
    return False


def _function(own: Engine) -> Function:
    function = ENTRIES.get(own.ip)
    if function is None:
        raise NoEntry(
            f"thread {show_thread(own.thread.id)} is to begin at {own.ip:#x}, which is no entry known here: "
            "import the module that makes it by l4.entry"
        )
    return function.function


virtual.attach_by(lambda: engine().registers)
