"""Removal: environments moved from one processor to another, and processors taken out and put back.

A processor that is taken out goes on for those that it has. Its scheduler is told, and moves them where it likes.
Those that it has left there after a second the kernel moves itself, as it walks a round robin for a scheduler that
sends no plan. Capabilities to a processor that is out, and to reservations of it, stay what they are: nothing runs
by them until it is back.
"""

from functools import partial
from typing import TYPE_CHECKING

from hwmodel.machine import Exhausted
from kernel.abi.events import Event
from kernel.abi.kip import Counter, EnvironmentState, Head
from kernel.errors import Refused
from kernel.processor import ANSWER_TIME

if TYPE_CHECKING:
    from hwmodel.machine import Alarm, Clock
    from kernel.environment import Environment
    from kernel.environments import Environments
    from kernel.exposure import Exposure
    from kernel.jobs import Jobs, Steps
    from kernel.processor import Processor


class Removal:
    """Moves environments, and sees to it that none stays on a processor that is out."""

    def __init__(
        self,
        clock: "Clock",
        exposure: "Exposure",
        jobs: "Jobs",
        environments: "Environments",
        processors: "list[Processor]",
    ) -> None:
        """Have all *processors* in."""
        self._clock, self._exposure, self._jobs = clock, exposure, jobs
        self._environments, self._processors = environments, processors
        self._watches: dict[Processor, Alarm] = {}

    def move(self, environment: "Environment", processor: "Processor") -> "Steps[None]":
        """Move *environment* under *processor*, if it lives until that is done. Raises Refused, Exhausted."""
        if environment.cpu == processor.number:
            return
        self._environments.places.check(processor.number)
        if environment.launched:
            moving = environment.body.move(processor.core)
            if environment.pid:
                yield moving
            if not environment.alive or environment.cpu == processor.number:
                return
            self._environments.places.check(processor.number)
            environment.body.pause()
        if environment.cpu >= 0:
            self._processors[environment.cpu].leave(environment)
        self._put(environment, processor)

    def _put(self, environment: "Environment", processor: "Processor") -> None:
        """Put *environment*, which does not run, under the plan of *processor*, once its program runs."""
        environment.cpu = processor.number
        runs = environment.state is not EnvironmentState.STARTING
        if runs:
            environment.state = EnvironmentState.READY
        self._exposure.kip.show(environment)
        if runs:
            processor.admit(environment)

    def take_out(self, processor: "Processor") -> None:
        """Take *processor* out, if it is in. Raises Refused: it is needed."""
        if processor.gone:
            return
        self._environments.places.check_removal(processor.number)
        self._turn(processor, gone=True)
        self._watch(processor, ANSWER_TIME if processor.scheduler is not None else 0)

    def put_back(self, processor: "Processor") -> None:
        """Put *processor* back, if it is out."""
        if processor.gone:
            self._turn(processor, gone=False)
            self._watches.pop(processor).cancel()

    def _turn(self, processor: "Processor", *, gone: bool) -> None:
        processor.go(gone=gone)
        off = sum(1 << each.number for each in self._processors if each.gone)
        self._exposure.kip.set_head(Head.PROCESSORS_OFF, off)
        self._exposure.log(f"processor {processor.number} is {'taken out' if gone else 'back'}")

    def _watch(self, processor: "Processor", wait: int) -> None:
        at = self._clock.now() + wait
        self._watches[processor] = self._clock.alarm(at, partial(self._look, processor))

    def _look(self, processor: "Processor") -> None:
        """Move those that the scheduler has left on *processor*; it, and not they, is named."""
        left = self._left(processor)
        if not left:
            return
        scheduler = processor.scheduler
        self._exposure.count(Counter.WATCHDOG_FALLBACKS)
        self._exposure.trace.record(
            Event.FALLBACK, scheduler.number if scheduler is not None else 0, processor.number
        )
        who = f"{scheduler.name} leaves" if scheduler is not None else "no scheduler moves"
        self._exposure.log(f"processor {processor.number}: {who} {left[0].name}: the kernel moves all")
        self._jobs.begin(self._clear(processor))

    def _left(self, processor: "Processor") -> "list[Environment]":
        return [each for each in self._environments if _is_left(each, processor)]

    def _clear(self, processor: "Processor") -> "Steps[None]":
        """Move all from *processor*; who cannot be now runs there, until a second later."""
        for environment in self._left(processor):
            if not _is_left(environment, processor):  # any more
                continue
            to = self._processors[self._environments.places.near(processor.number)]
            try:
                yield from self.move(environment, to)
            except (Refused, Exhausted) as why:
                self._exposure.log(f"{environment.name} stays on processor {processor.number}: {why}")
            yield None
        if self._left(processor):
            self._watch(processor, ANSWER_TIME)


def _is_left(environment: "Environment", processor: "Processor") -> bool:
    return processor.gone and environment.alive and environment.cpu == processor.number
