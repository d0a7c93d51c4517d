"""What others lose beside programs that try to have more of the processor than their part."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from bench import hostile, sched
from bench.programs import hostile as programs
from bench.system import running
from hwmodel.real.switches import RealSwitches

ATTEMPTS = 4
AT_ONCE = 4
"""Kinds between two looks at ordinary loops."""
MOST = 6
"""Percent lost that are too much: the bench says 1, in longer windows and on a quiet machine."""


def test_each_kind_is_there() -> None:
    """Each says what it does, and those that are programs of ours are those there are."""
    own = {command[1] for command in hostile.KINDS.values() if command[0] != "sh"}

    assert hostile.KINDS.keys() == hostile.TELLS.keys()
    assert {*own, hostile.ORDINARY[1]} == programs.KINDS.keys()


def test_what_is_lost() -> None:
    """Percent of what they had beside an ordinary loop, on average of before and after; less than 0: they won."""
    assert hostile.lost(0.6, 0.7, 0.5) == pytest.approx(0)
    assert hostile.lost(0.3, 0.6, 0.6) == pytest.approx(50)
    assert hostile.lost(0.9, 0.6, 0.6) == pytest.approx(-50)


@pytest.fixture(scope="module")
def bench() -> Iterator[sched.Bench]:
    """A system of its own under stride."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to give each environment a uid")
    switches = RealSwitches(min(os.sched_getaffinity(0)))
    switches.close()
    if switches.refused:
        pytest.skip(
            f"what others use is charged less exactly without a record of switches: {switches.refused}"
        )
    with running() as system, contextlib.ExitStack() as opened:
        made = sched.Bench(system, opened)
        made.use("stride")
        yield made


@pytest.mark.system
@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, len(hostile.KINDS), AT_ONCE))
def test_nobody_takes_from_others(bench: sched.Bench, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two loops have what they have beside a third loop, whatever the third program does instead.

    What else the machine does changes from one look to the next: only what is lost at each attempt is lost.
    """
    monkeypatch.setattr(sched, "HOSTILE", sched.SECOND)
    guilty = list(hostile.KINDS)[first : first + AT_ONCE]
    with bench.loops((1, 1)) as loops:
        for _ in range(ATTEMPTS):
            before = sched.beside(bench, loops, hostile.ORDINARY)
            had = {kind: sched.beside(bench, loops, hostile.KINDS[kind]) for kind in guilty}
            after = sched.beside(bench, loops, hostile.ORDINARY)
            guilty = [kind for kind, part in had.items() if hostile.lost(part, before, after) > MOST]
            if not guilty:
                break

    assert guilty == []
