"""Bodies of the simulated machine: how programs end, what they map, and what the host takes back."""

import signal

import pytest

from hwmodel.failures import Failure, FailureKind, Failures
from hwmodel.machine import do
from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.errors import Fault
from kernel.abi.limits import MAX_TRAP_BYTES
from kernel.abi.program import Activity, Program, ProgramKind, Role
from tests.hwmodel.simulated.rig import MS, call, rig, step


def test_kill_of_a_waiting_program() -> None:
    """A killed program unwinds from where it waits, cannot use its host any more, and ends with -9."""
    log: list[str] = []

    def program(body: SimulatedBody) -> None:
        try:
            body.wait(lambda: False, None)
        finally:
            log.append("unwinds")
            body.send(b"from the grave")

    with rig() as r:
        body = r.launch(program)
        r.run()
        assert body.activity() is Activity.WAITS
        body.kill()
        r.run()
        assert (log, r.recorder.said) == (["unwinds"], [("started", True), ("ended", -9)])


def test_kill_at_a_handover() -> None:
    """A scheduled failure kills a program at exactly that handover."""
    failures = Failures([Failure(FailureKind.KILL, 1, 3)])
    with rig(failures=failures) as r:
        body = r.launch(step)
        r.run()
        assert (body.handovers, body.status, failures.planned) == (3, -9, frozenset())


def test_kill_before_the_start() -> None:
    """A program killed before it ran ends, and was never started."""
    with rig() as r:
        r.launch(lambda _: None).kill()
        r.run()
        assert r.recorder.said == [("ended", -9)]


def test_failed_launch() -> None:
    """A start fails by schedule, or because there is no such program; the supervisor is told why."""
    with rig(failures=Failures([Failure(FailureKind.FAIL_LAUNCH, 1, 1)])) as r:
        r.launch(lambda _: None)
        r.machine.launch(2, "x", Program(kind=ProgramKind.PYTHON, argv=("nosuch",)), [], cpu=-1)
        r.run()
        assert [what for what, *_ in r.recorder.said] == ["failed", "failed"]
        assert "nosuch" in str(r.recorder.said[1])


def test_dropped_port() -> None:
    """A cut gate takes nothing in either direction, and both ends can tell."""
    with rig(failures=Failures([Failure(FailureKind.DROP_PORT, 1, 1)])) as r:

        def program(body: SimulatedBody) -> bool:
            body.send(b"lost")
            body.wait(lambda: True, None)
            return body.closed

        body = r.launch(program)
        r.run()
        assert (body.result, r.recorder.said) == (True, [("started", True), ("ended", 0)])
        assert body.port.send(b"x") is False


def test_exception_ends_one_program() -> None:
    """An exception ends its program with status 1; the error and its traceback are kept."""
    with rig() as r:
        body = r.launch(lambda _: 1 // 0)
        r.run()
        assert (body.status, type(body.error)) == (1, ZeroDivisionError)
        assert "ZeroDivisionError" in r.machine.log[0]


@pytest.mark.parametrize(("code", "status"), [(None, 0), (3, 3), ("no", 1)])
def test_exit_status(code: object, status: int) -> None:
    """SystemExit counts as it does for a process."""

    def leave(_: SimulatedBody) -> None:
        raise SystemExit(code)

    with rig() as r:
        body = r.launch(leave)
        r.run()
        assert body.status == status


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, -15), (signal.SIGCHLD, None), (signal.SIGSTOP, None)]
)
def test_signals(number: int, status: int | None) -> None:
    """A signal does to a program what the host's does to one that handles none."""
    with rig() as r:
        body = r.launch(lambda body: body.wait(lambda: False, None))
        r.run()
        body.signal(number)
        r.run()
        assert body.status == status
        assert body.stopped is (number == signal.SIGSTOP)


def test_overlong_trap() -> None:
    """A packet longer than a trap is thrown away, and the supervisor is told."""
    with rig() as r:
        r.launch(lambda body: call(body, bytes(MAX_TRAP_BYTES + 1)))
        r.run()
        assert ("broke", Fault.TOO_LONG, "") in r.recorder.said


def test_full_port() -> None:
    """A program that does not read its gate makes `send` say so, and the descriptors are closed."""
    with rig() as r:
        body = r.launch(lambda body: body.wait(lambda: False, None))
        r.run()
        while body.port.send(b"x", [r.machine.console()]):
            pass
        assert len(r.machine.open_descriptors()) == 256


def test_revoked_mapping_is_a_bus_error() -> None:
    """A program that touches memory that was taken ends as by SIGBUS."""
    with rig() as r:
        backing = r.machine.memory.carve(0, 1, zero=True)

        def program(body: SimulatedBody) -> None:
            view = body.map(backing.descriptor(writable=True), 4096, writable=True)
            view[0] = 1
            body.wait(lambda: False, MS)
            view[0] = 2

        body = r.launch(program)
        r.machine.clock.alarm(MS // 2, lambda: do(backing.release()))
        r.run()
        assert body.status == -signal.SIGBUS


def test_remap_goes_on() -> None:
    """A program maps the replaced memory where its old view is, and the view goes on."""
    with rig() as r:
        backing = r.machine.memory.carve(0, 1, zero=True)

        def program(body: SimulatedBody) -> int:
            view = body.map(backing.descriptor(writable=True), 4096, writable=True)
            view[0] = 1
            do(backing.copy())
            do(backing.replace())
            body.remap(body.mapping(view), backing.descriptor(writable=True), writable=True)
            view[1] = 2
            return view[0] + view[1]

        body = r.launch(program)
        r.run()
        assert body.result == 3


def test_mapping_needs_the_right() -> None:
    """A descriptor that was opened for reading cannot be mapped for writing."""
    with rig() as r:
        page = r.machine.page("kip", 4096)
        body = r.launch(lambda body: body.map(page.descriptor(writable=False), 4096, writable=True))
        r.run()
        assert isinstance(body.error, PermissionError)


def test_end_takes_mappings_and_descriptors() -> None:
    """A program that ended holds no descriptor, and what it mapped is gone."""
    with rig() as r:
        page = r.machine.page("kip", 4096)

        def program(body: SimulatedBody) -> memoryview:
            body.send(b"keep", [page.descriptor(writable=True)])
            return body.map(page.descriptor(writable=True), 4096, writable=True)

        body = r.launch(program)
        r.run()
        assert r.machine.open_descriptors() == []
        with pytest.raises(ValueError, match="released"):
            bytes(body.result)  # type: ignore[call-overload]


def test_given_descriptors() -> None:
    """A program finds what it was started with by its role."""
    with rig() as r:
        program = Program(kind=ProgramKind.PYTHON, argv=("p",), roles=(Role.SOURCE,))
        r.machine.programs["p"] = lambda: None
        body = r.machine.launch(1, "p", program, [r.machine.console()], cpu=-1)
        assert "console" in str(body.given(Role.SOURCE))
        assert body.given(Role.STDIN) is None
        r.run()


def test_attached_program() -> None:
    """A program started elsewhere is announced by its first packet; its later ones are traps."""
    with rig() as r:
        bodies: list[SimulatedBody] = []

        def program() -> None:
            bodies[0].send(b"me")
            bodies[0].wait(lambda: True, None)
            call(bodies[0], b"t")

        bodies.append(r.machine.attach("x", program, uid=7))
        r.run()
        assert r.recorder.said == [("attached", 7, b"me"), ("trap", b"t"), ("ended", 0)]
