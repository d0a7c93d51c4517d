"""Interrupt lines: a message for each interrupt, and none more until it is answered."""

from kernel.abi.errors import Refusal
from kernel.abi.ids import KERNEL_MEMORY, thread_id
from kernel.abi.kip import Counter
from kernel.abi.messages import Label
from tests.kernel.puppets import Puppet, Theatre, refusal, theatre

LINE = 5


def handler(stage: Theatre, name: str = "driver") -> tuple[Puppet, int]:
    """A puppet and its handle to one line."""
    puppet = stage.puppet(name)
    return puppet, stage.system.give(puppet.task, stage.kernel.interrupts.lines[LINE]).handle


def interrupts(puppet: Puppet) -> int:
    """Count the interrupt messages that came since the last time."""
    return sum(u.sender == thread_id(LINE) and u.label == Label.INTERRUPT for u in puppet.upcalls())


def test_an_interrupt_is_a_message() -> None:
    """An interrupt comes as a message of the line's thread, and is counted."""
    with theatre() as stage:
        driver, line = handler(stage)
        driver.sys.interrupt_bind(line)
        stage.machine.interrupts.trigger(LINE)

        assert (interrupts(driver), stage.kernel.kip.counter(Counter.INTERRUPTS)) == (1, 1)


def test_masked_until_answered() -> None:
    """Until the answer nothing more comes; then what was raised meanwhile, once."""
    with theatre() as stage:
        driver, line = handler(stage)
        driver.sys.interrupt_bind(line)
        for _ in range(4):
            stage.machine.interrupts.trigger(LINE)
        before = interrupts(driver)
        driver.sys.acknowledge(thread_id(LINE))
        after = interrupts(driver)
        driver.sys.acknowledge(thread_id(LINE))

        assert (before, after, interrupts(driver)) == (1, 1, 0)


def test_pending_before_the_bind() -> None:
    """An interrupt raised before anybody handled the line comes with the bind."""
    with theatre() as stage:
        driver, line = handler(stage)
        stage.machine.interrupts.trigger(LINE)
        driver.sys.interrupt_bind(line)

        assert interrupts(driver) == 1


def test_one_handler_a_line() -> None:
    """A second handler is refused; the first may bind again."""
    with theatre() as stage:
        (driver, line), (other, same) = handler(stage), handler(stage, "other")
        driver.sys.interrupt_bind(line)
        driver.sys.interrupt_bind(line)

        assert refusal(other.sys.interrupt_bind, same) == Refusal.LINE_BUSY
        other.sys.interrupt_bind(same, bind=False)
        assert stage.kernel.interrupts.lines[LINE].handler is driver.environment.first


def test_given_up() -> None:
    """A handler that gives the line up hears no more, and another may take it."""
    with theatre() as stage:
        (driver, line), (other, same) = handler(stage), handler(stage, "other")
        driver.sys.interrupt_bind(line)
        driver.sys.interrupt_bind(line, bind=False)
        stage.machine.interrupts.trigger(LINE)
        other.sys.interrupt_bind(same)

        assert (interrupts(driver), interrupts(other)) == (0, 1)


def test_masked_by_hand() -> None:
    """A masked line keeps its interrupt until it is unmasked."""
    with theatre() as stage:
        driver, line = handler(stage)
        driver.sys.interrupt_bind(line)
        driver.sys.interrupt_mask(line, masked=True)
        stage.machine.interrupts.trigger(LINE)
        before = interrupts(driver)
        driver.sys.interrupt_mask(line, masked=False)

        assert (before, interrupts(driver)) == (0, 1)


def test_nothing_is_lost_while_nobody_handles() -> None:
    """An interrupt of an unmasked line that nobody handles waits for the next handler."""
    with theatre() as stage:
        driver, line = handler(stage)
        driver.sys.interrupt_mask(line, masked=False)
        stage.machine.interrupts.trigger(LINE)
        driver.sys.interrupt_bind(line)

        assert interrupts(driver) == 1


def test_answers_nobody_asked_for() -> None:
    """An answer without a message, from another, or to a thread that is none is refused."""
    with theatre() as stage:
        (driver, line), other = handler(stage), stage.puppet("other")
        driver.sys.interrupt_bind(line)
        early = refusal(driver.sys.acknowledge, thread_id(LINE))
        stage.machine.interrupts.trigger(LINE)

        assert early == Refusal.NO_SUCH_MESSAGE
        assert refusal(other.sys.acknowledge, thread_id(LINE)) == Refusal.NO_SUCH_MESSAGE
        for nobody in (0, LINE, thread_id(LINE, 3), KERNEL_MEMORY, driver.thread):
            assert refusal(driver.sys.acknowledge, nobody) == Refusal.NO_SUCH_THREAD


def test_a_dead_handler() -> None:
    """When the handler ends, its line is masked and free for the next."""
    with theatre() as stage:
        (driver, line), (other, same) = handler(stage), handler(stage, "other")
        driver.sys.interrupt_bind(line)
        stage.machine.interrupts.trigger(LINE)
        stage.kill(driver)
        stage.machine.interrupts.trigger(LINE)
        other.sys.interrupt_bind(same)

        assert interrupts(other) == 1
