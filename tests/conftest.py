"""What every test may rely on: a seed that can be repeated, and a ledger of what the host lent.

Fixtures about the kernel's own things (frames, handles, end points) live with the tests that boot one.
"""

import gc
import os
import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil
import pytest
from hypothesis import HealthCheck, settings

SETTLE_SECONDS = 3.0
"""How long a child that was told to end may take: its last exit work runs after its parent looked away."""


# --------------------------------------------------------------------------------------------------- options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --seed and --soak."""
    group = parser.getgroup("exokernel")
    group.addoption(
        "--seed", type=lambda text: int(text, 0), help="the seed of all randomness (default: a new one)"
    )
    group.addoption(
        "--soak", type=float, default=10.0, metavar="MINUTES", help="length of a soak test (default: 10)"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed of this run, unless one was given."""
    if config.option.seed is None:
        config.option.seed = secrets.randbits(32)
    # How long an example takes, to make or to run, is the machine's affair.
    settings.register_profile("work", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("work")


def pytest_report_header(config: pytest.Config) -> str:
    """Name the seed at the top."""
    return f"seed: {config.option.seed}"


REPORTS = pytest.StashKey[list[str]]()


@pytest.fixture
def report(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Take a line for the end of the run: what a campaign measured, whether or not it held."""
    return pytestconfig.stash.setdefault(REPORTS, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show the lines that campaigns reported."""
    if lines := config.stash.get(REPORTS, []):
        terminalreporter.section("reports")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Name the seed again beside every failure of a test that drew from it."""
    report = yield
    if report.failed and "seed" in getattr(item, "fixturenames", ()):
        report.sections.append(
            ("seed", f"repeat with: pytest --seed={item.config.option.seed} '{item.nodeid}'")
        )
    return report


@pytest.fixture(autouse=True, scope="module")
def heap() -> None:
    """Set aside, before the tests of a module, every object there is.

    The simulated MMU asks the collector for the views of each mapping it takes away, and that walks the heap. The
    collected tests, and what single ones import, would make it so large that a test took ten times as long.
    What is set aside it does not find: a simulated machine must not outlive its module.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    """The seed of this run: `--seed`, or a new one, printed when the test fails."""
    return int(pytestconfig.option.seed)


@pytest.fixture(scope="session")
def soak_seconds(pytestconfig: pytest.Config) -> float:
    """How long a soak test goes on: `--soak`, in seconds."""
    return float(pytestconfig.option.soak) * 60


# ---------------------------------------------------------------------------------------------------- ledger


@dataclass(frozen=True)
class Ledger:
    """What the test process holds of the host: open descriptors and what they lead to, and descendants."""

    descriptors: dict[int, str]
    children: frozenset[psutil.Process]

    @classmethod
    def take(cls) -> Self:
        """Read the ledger as it stands."""
        descriptors = {}
        for entry in list(Path("/proc/self/fd").iterdir()):
            with suppress(FileNotFoundError):  # the descriptor of this very listing
                descriptors[int(entry.name)] = str(entry.readlink())
        return cls(descriptors, frozenset(psutil.Process().children(recursive=True)))

    def differences(self, after: Self) -> list[str]:
        """Say, a line each, how *after* differs from this ledger; end the processes that were left behind."""
        was, now = self.descriptors, after.descriptors
        lines = [f"descriptor {fd} left open: {now[fd]}" for fd in sorted(now.keys() - was.keys())]
        lines += [f"descriptor {fd} closed: {was[fd]}" for fd in sorted(was.keys() - now.keys())]
        both = sorted(was.keys() & now.keys())
        lines += [f"descriptor {fd} replaced: {was[fd]} -> {now[fd]}" for fd in both if was[fd] != now[fd]]
        return lines + _left_behind(after.children - self.children)


def _left_behind(children: frozenset[psutil.Process]) -> list[str]:
    """Let *children* end, name those that do not or were never waited for, and end them."""
    shown = {child: _show(child) for child in children}
    zombies = [child for child in children if shown[child].startswith("zombie")]
    _, alive = psutil.wait_procs(children - set(zombies), timeout=SETTLE_SECONDS)
    for child in alive:
        child.kill()
    psutil.wait_procs([*alive, *zombies], timeout=SETTLE_SECONDS)
    return [f"process left behind: {shown[child]}" for child in [*alive, *zombies]]


def _show(child: psutil.Process) -> str:
    """One process as a line: state, number, command."""
    try:
        with child.oneshot():
            zombie = child.status() == psutil.STATUS_ZOMBIE and child.ppid() == os.getpid()
            return (
                f"{'zombie' if zombie else 'alive'} {child.pid} {' '.join(child.cmdline()) or child.name()}"
            )
    except psutil.NoSuchProcess:
        return f"ended {child.pid}"


@pytest.fixture(autouse=True)
def host_ledger(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold a `system` test to it: what it opened it closed, what it started has ended."""
    if request.node.get_closest_marker("system") is None:
        yield
        return
    before = Ledger.take()
    yield
    after = Ledger.take()
    if after != before:
        gc.collect()  # what only a reference cycle still holds is no leak
        after = Ledger.take()
    if differences := before.differences(after):
        pytest.fail("the test did not give back what it took:\n  " + "\n  ".join(differences), pytrace=False)
