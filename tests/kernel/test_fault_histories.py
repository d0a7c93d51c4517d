"""A pager that swaps, and programs that come, store, read and die in any order: each byte is that stored last."""

import errno
import random
from collections.abc import Callable

import pytest

from hwmodel.failures import HostFailure
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.rights import Rights
from kernel.abi.traps import Protection
from libexo.errors import TrapRefused
from tests.kernel.pagers import FRAMES, LOAD, PAGES, STORE, SUPPLIED, WRITTEN, Paging, Program
from tests.kernel.puppets import Theatre, theatre

PROGRAMS = 3
STEPS = 150
CALLS = ("UFFDIO_CONTINUE", "UFFDIO_WRITEPROTECT", "UFFDIO_REGISTER", "fallocate")


class History:
    """One pager, its programs, and what must be in each page."""

    def __init__(self, stage: Theatre, seed: int, *, failing: bool) -> None:
        self.stage, self.random, self.failing = stage, random.Random(seed), failing
        self.paging = Paging(stage)
        self.programs: list[Program] = []
        self.saved = [0] * PAGES
        self.last = [0] * PAGES
        """What was stored last."""
        self.asked: list[int] = []
        """Pages that the pager was told of, and did not supply yet."""
        self.waits: list[tuple[Program, int, bool]] = []
        """Accesses that are tried again."""
        self.started = self.reads = 0

    def step(self) -> None:
        actions: list[Callable[[], object]] = [*[self.touch] * 6, *[self.serve] * 3]
        actions += [self.evict, self.clean, self.die, self.start, self.close, self.reopen, self.pass_time]
        if self.failing:
            actions.append(self.fail_next)
        self.random.choice(actions)()
        self.stage.settle()
        self.stage.check()

    # ------------------------------------------------------------------------------------------- the programs

    def start(self) -> None:
        if len(self.programs) < PROGRAMS:
            self.started += 1
            rights = self.random.choice((Rights.READ, Rights.READ | Rights.WRITE))
            self.tried(lambda: self.programs.append(self.paging.program(rights, f"program{self.started}")))

    def touch(self) -> None:
        if not self.programs:
            return
        again = [each for each in self.waits if each[0] in self.programs]
        if again and self.random.random() < 0.7:
            program, page, write = self.waits.pop(self.waits.index(self.random.choice(again)))
        else:
            program, page = self.random.choice(self.programs), self.random.randrange(PAGES)
            write = not program.view.readonly and self.random.random() < 0.5
        if not program.touch(page, write=write):
            self.waits.append((program, page, write))
            return
        assert program.byte(page) == self.last[page]
        self.reads += 1
        if write:
            self.last[page] = self.random.randrange(256)
            program.view[page * FRAME_SIZE] = self.last[page]

    def die(self) -> None:
        if self.programs and self.random.random() < 0.3:
            self.stage.kill(self.programs.pop(self.random.randrange(len(self.programs))).puppet)

    def close(self) -> None:
        """Unmap, and map again."""
        if self.programs:
            program = self.random.choice(self.programs)
            program.puppet.env.views.unmap(program.view)
            self.reopened(program)

    def reopen(self) -> None:
        """Open the window anew where it is."""
        if self.programs:
            program = self.random.choice(self.programs)
            self.tried(lambda: program.puppet.sys.window(program.handle, program.address, 0, PAGES))

    def reopened(self, program: Program) -> None:
        def map_again() -> None:
            program.view = program.puppet.env.views.map(program.handle)
            program.address = program.puppet.host.address(program.view)

        if not self.tried(map_again):
            self.programs.remove(program)
            self.stage.kill(program.puppet)

    # --------------------------------------------------------------------------------------------- the pager

    def serve(self) -> None:
        """Answer one of the faults it was told of, if there is one."""
        self.asked += [page for label, _, page in self.paging.told() if label in (LOAD, STORE)]
        if not self.asked:
            return
        page = self.asked.pop(self.random.randrange(len(self.asked)))
        if not self.paging.states()[page] & SUPPLIED:
            if self.paging.object.resident == FRAMES and not self.evict():
                self.asked.append(page)
                return
            self.paging.store(page, self.saved[page])
        self.paging.pager.sys.supply(self.paging.handle, page)

    def evict(self) -> bool:
        """Guard, save, evict."""
        there = [page for page, state in enumerate(self.paging.states()) if state & SUPPLIED]
        if not there:
            return False
        page, sys, handle = self.random.choice(there), self.paging.pager.sys, self.paging.handle
        states = self.tried(lambda: sys.protect(handle, page, 1, Protection.GUARD))
        if not isinstance(states, bytes):
            return False
        if states[0] & WRITTEN:
            self.saved[page] = self.paging.view[page * FRAME_SIZE]
        assert self.saved[page] == self.last[page], "a store was not noted"
        return self.tried(lambda: sys.evict(handle, page)) == 1

    def clean(self) -> None:
        page, sys, handle = self.random.randrange(PAGES), self.paging.pager.sys, self.paging.handle
        states = self.tried(lambda: sys.protect(handle, page, 1, Protection.CLEAN))
        if isinstance(states, bytes) and states[0] & WRITTEN:
            self.saved[page] = self.paging.view[page * FRAME_SIZE]

    # ---------------------------------------------------------------------------------------------- the world

    def pass_time(self) -> None:
        self.stage.pass_time(6)

    def fail_next(self) -> None:
        calls = self.stage.machine.calls
        name = self.random.choice(CALLS)
        self.stage.machine.failures.fail_call(HostFailure(calls._of_name[name] + 1, errno.ENOMEM, name))

    def tried(self, action: Callable[[], object]) -> object:
        """Do *action*, or say None where the host refuses it just now."""
        try:
            return action() or True
        except TrapRefused as refused:
            if not self.failing:
                raise AssertionError("nothing fails") from refused
            return None


@pytest.mark.slow
@pytest.mark.parametrize("failing", [False, True], ids=["", "failing"])
@pytest.mark.parametrize("seed", range(4))
def test_history(seed: int, failing: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Whoever reads a page finds what was stored in it last, by whomever, through however many evictions."""
    with theatre(seed=seed) as stage:
        history = History(stage, seed, failing=failing)
        for _ in range(STEPS):
            history.step()
        assert history.reads or failing
