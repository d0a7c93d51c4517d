"""A simulated machine under a supervisor that only writes down what it is told, and answers every trap."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from hwmodel.machine import Body, Descriptor, PageFault
from hwmodel.simulated.bodies import SimulatedBody
from hwmodel.simulated.machine import Outcome, SimulatedMachine
from kernel.abi.errors import Fault
from kernel.abi.program import Program, ProgramKind
from kernel.abi.topology import MachineConfig, Topology

MS = 1_000_000


class Recorder:
    """Answers every trap with its own bytes, and remembers what happened."""

    def __init__(self) -> None:
        self.said: list[tuple[object, ...]] = []
        self.on_fault: Callable[[Body, PageFault], object] = lambda _body, _fault: None

    def trap(self, body: Body, data: bytes, descriptors: list[Descriptor]) -> None:
        self.said.append(("trap", data))
        body.port.send(data, descriptors)

    def broke(self, body: Body, fault: Fault, detail: str) -> None:
        self.said.append(("broke", fault, detail))
        body.kill()

    def started(self, body: Body) -> None:
        self.said.append(("started", body.pid > 0))

    def failed(self, body: Body, reason: str) -> None:
        self.said.append(("failed", reason))

    def ended(self, body: Body, status: int) -> None:
        self.said.append(("ended", status))
        body.discard()

    def faulted(self, body: Body, fault: PageFault) -> None:
        self.said.append(("faulted", *fault))
        self.on_fault(body, fault)

    def attached(self, body: Body, data: bytes) -> None:
        self.said.append(("attached", body.uid, data))

    def stop(self) -> None:
        self.said.append(("stop",))


class Rig:
    """A machine, its recorder, and programs that are given their own body."""

    def __init__(self, **options: object) -> None:
        self.machine = SimulatedMachine(Topology(MachineConfig(memory="1 MiB")), **options)  # type: ignore[arg-type]
        self.recorder = Recorder()
        self.count = 0

    def launch(self, program: Callable[[SimulatedBody], object], *, cpu: int = -1) -> SimulatedBody:
        self.count += 1
        made: list[SimulatedBody] = []
        self.machine.programs[f"p{self.count}"] = lambda: program(made[0])
        what = Program(kind=ProgramKind.PYTHON, argv=(f"p{self.count}",), paged=True)
        made.append(self.machine.launch(self.count, f"p{self.count}", what, [], cpu=cpu))
        return made[0]

    def run(self, **options: object) -> Outcome:
        return self.machine.drive(self.recorder, **options)  # type: ignore[arg-type]


@contextmanager
def rig(**options: object) -> Iterator[Rig]:
    made = Rig(**options)
    try:
        yield made
    finally:
        made.machine.close()
        assert made.machine.open_descriptors() == []


def call(body: SimulatedBody, data: bytes) -> bytes:
    """Trap and return the answer."""
    body.send(data)
    while (packet := body.receive()) is None:
        body.wait(body.arrived, None)
    return packet[0]


def step(body: SimulatedBody) -> None:
    """Hand over ten times."""
    for _ in range(10):
        body.wait(lambda: True, None)
