"""An event loop in virtual time: what asyncio waits for are the keys of the simulated machine's transports."""

import asyncio
import selectors
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from libexo.testing import Outcome
from tests.kernel.puppets import Puppet, Theatre

T = TypeVar("T")


class Keys(selectors.BaseSelector):
    """Selects among keys: ready at once, or after virtual time has passed."""

    def __init__(self, stage: Theatre, puppet: Puppet) -> None:
        self._stage = stage
        self._puppet = puppet
        self._keys: dict[int, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:  # noqa: ANN401
        number = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._keys[number] = selectors.SelectorKey(fileobj, number, events, data)
        return self._keys[number]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:  # noqa: ANN401
        return self._keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._keys

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self._ready() and (timeout is None or timeout > 0):
            self._wait(timeout)
        return self._ready()

    def _wait(self, timeout: float | None) -> None:
        machine = self._stage.machine
        end = None if timeout is None else machine.clock.now() + int(timeout * 1e9) + 1
        if end is not None:
            machine.clock.alarm(end, lambda: None)

        def over() -> bool:
            return bool(self._ready()) or (end is not None and machine.clock.now() >= end)

        if machine.drive(self._stage.supervisor, until=over, limit=end) is Outcome.IDLE:
            raise AssertionError(f"{self._puppet.name} waits for what will never come")

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        has = self._puppet.host.has_news
        return [(key, selectors.EVENT_READ) for number, key in self._keys.items() if has(number)]

    def close(self) -> None:
        self._keys.clear()


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock is the machine's."""

    def __init__(self, stage: Theatre, puppet: Puppet) -> None:
        self._machine_clock = stage.machine.clock
        super().__init__(Keys(stage, puppet))
        self.failures: list[BaseException] = []
        """What callbacks raised, which nobody else is told."""
        self.set_exception_handler(lambda _, context: self.failures.append(context["exception"]))

    def time(self) -> float:
        return self._machine_clock.now() / 1e9


def run(stage: Theatre, puppet: Puppet, main: Coroutine[Any, Any, T]) -> T:
    """Run *main* as *puppet*'s program. Raises what a callback raised meanwhile."""
    loop = VirtualLoop(stage, puppet)
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(main)
    finally:
        for failure in loop.failures:
            raise failure
