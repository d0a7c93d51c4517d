"""A pager that swaps, and programs that come, store, read and die in any order: each byte is that stored last."""

import errno
import random
from collections import Counter
from collections.abc import Callable

import pytest

from hwmodel.failures import HostFailure
from kernel.abi.limits import FRAME_SIZE
from kernel.abi.messages import Label
from kernel.abi.rights import Rights
from kernel.abi.traps import Protection
from libexo import vm
from libexo.errors import TrapRefused
from libexo.extent import Extent
from tests.kernel.pagers import FRAMES, IDLE, LOAD, PAGES, STORE, SUPPLIED, WRITTEN, Paging, Program
from tests.kernel.puppets import Theatre, theatre

PROGRAMS = 3
STEPS = 300
CALLS = ("UFFDIO_CONTINUE", "UFFDIO_WRITEPROTECT", "UFFDIO_REGISTER", "fallocate", "process_madvise")


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
        actions += [
            self.evict,
            self.clean,
            self.age,
            self.die,
            self.start,
            self.close,
            self.reopen,
            self.pass_time,
        ]
        actions += [self.supply_run, self.evict_run, self.take, self.lose, self.scribble]
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
            sys, handle, name = self.paging.pager.sys, self.paging.handle, f"program{self.started}"
            first, count = 0, 0
            if self.random.random() < 0.5:
                first = self.random.randrange(PAGES)
                count = self.random.randrange(1, PAGES - first + 1)
            lent = self.tried(lambda: sys.derive(handle, int(rights | Rights.TRANSFER), first, count))
            self.map_again()
            if not isinstance(lent, int) or lent is True:
                return
            if not self.tried(
                lambda: self.programs.append(self.paging.program(rights | Rights.TRANSFER, name, lent, first))
            ):
                sys.drop(lent)
                self.map_again()

    def touch(self) -> None:
        if not self.programs:
            return
        again = [each for each in self.waits if each[0] in self.programs]
        if again and self.random.random() < 0.7:
            program, page, write = self.waits.pop(self.waits.index(self.random.choice(again)))
        else:
            program = self.random.choice(self.programs)
            page = program.first + self.random.randrange(program.pages)
            write = not program.view.readonly and self.random.random() < 0.5
        if not program.touch(page, write=write):
            self.waits.append((program, page, write))
            return
        assert program.byte(page) == self.last[page]
        assert not self.paging.states()[page] & IDLE, "an access was not noted"
        self.reads += 1
        if write:
            self.last[page] = self.random.randrange(256)
            program.view[(page - program.first) * FRAME_SIZE] = self.last[page]

    def die(self) -> None:
        if self.programs and self.random.random() < 0.3:
            self.stage.kill(self.programs.pop(self.random.randrange(len(self.programs))).puppet)

    def close(self) -> None:
        """Unmap, and map again."""
        if self.programs:
            self.close_of(self.random.choice(self.programs))

    def close_of(self, program: Program) -> None:
        program.puppet.env.views.unmap(program.view)
        self.reopened(program)

    def reopen(self) -> None:
        """Open the window anew where it is."""
        if self.programs:
            program = self.random.choice(self.programs)
            self.tried(lambda: program.puppet.sys.window(program.handle, program.address, 0, program.pages))

    def reopened(self, program: Program) -> None:
        def map_again() -> None:
            program.view = program.puppet.env.views.map(program.handle)
            program.address = program.puppet.host.address(program.view)

        if not self.tried(map_again):
            self.programs.remove(program)
            self.stage.kill(program.puppet)

    def lose(self) -> None:
        """Give the right up with which a window was opened, and open it anew by the one it came from."""
        if self.programs:
            program = self.random.choice(self.programs)
            sys = program.puppet.sys
            own = sys.derive(
                program.handle, int(Rights.READ if program.view.readonly else Rights.READ | Rights.WRITE)
            )
            if self.tried(lambda: sys.window(own, program.address, 0, program.pages)):
                sys.drop(own)
                self.stage.settle()
            self.waits = [each for each in self.waits if each[0] is not program]
            self.close_of(program)

    def scribble(self) -> None:
        """A stranger makes pages of zeros in what is absent."""
        page = self.random.randrange(PAGES)
        if self.paging.states()[page] == 0 and page not in self.asked:
            backing, piece = self.paging.object.pieces.at(page)
            backing._region.present.add(page - piece.start)  # type: ignore[attr-defined]

    # --------------------------------------------------------------------------------------------- the pager

    def take(self) -> None:
        """Take it back from one program: the memory moves, and the others map it again."""
        if not self.programs or self.random.random() < 0.5:
            return
        program = self.programs.pop(self.random.randrange(len(self.programs)))
        pager = self.paging.pager
        assert self.tried(lambda: vm.revoke(pager.env, Extent(program.lent, PAGES, 0, Rights(31))))
        pager.sys.drop(program.lent)
        self.map_again()
        self.stage.kill(program.puppet)

    def map_again(self) -> None:
        """Let those whose memory moved map it again."""
        self.stage.settle()
        pager = self.paging.pager
        for each in (pager, *(left.puppet for left in self.programs)):
            for upcall in each.upcalls():
                if upcall.label == Label.MOVED:
                    each.env.views.moved(upcall.words[0])
                elif each is pager and upcall.label in (LOAD, STORE):
                    self.asked.append(upcall.words[3])
        windows = self.paging.object.windows
        seen = Counter(environment for each in windows for environment in [each.environment] * each.count)
        for program in [
            each
            for each in self.programs
            if seen[each.puppet.environment] < each.pages or not each.puppet.body.mapping(each.view).whole
        ]:
            assert (
                self.failing
            )  # the host refused to watch it: what lies there gives no access (`libexo.host.memory`)
            self.programs.remove(program)
            self.stage.kill(program.puppet)

    def supply_run(self) -> None:
        """Supply a run of absent pages, as far as there are frames."""
        states, first = self.paging.states(), self.random.randrange(PAGES)
        room = FRAMES - self.paging.object.resident
        run = [first]
        while len(run) < room and run[-1] + 1 < PAGES and not states[run[-1] + 1]:
            run.append(run[-1] + 1)
        if not room or states[first]:
            return
        for page in run:
            self.paging.store(page, self.saved[page])
        self.paging.pager.sys.supply(self.paging.handle, first, len(run))

    def evict_run(self) -> None:
        """Evict what need not be saved: what is clean."""
        first = self.random.randrange(PAGES)
        count = self.random.randrange(1, PAGES - first + 1)
        for page, state in enumerate(self.paging.states()):
            assert state & WRITTEN or not state or self.saved[page] == self.last[page], (
                "a store was not noted"
            )
        self.tried(lambda: self.paging.pager.sys.evict(self.paging.handle, first, count) + 1)

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

    def age(self) -> None:
        pager, handle = self.paging.pager, self.paging.handle
        if self.random.random() < 0.8:
            pager.host.unsee(self.paging.view, 0, PAGES * FRAME_SIZE)
        self.tried(lambda: pager.sys.protect(handle, 0, PAGES, Protection.AGE))

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
