"""Slices that are lent: who falls asleep, and waits for a member that is stopped, has it run on its slice."""

import pytest

from hwmodel.simulated.bodies import SimulatedBody
from kernel.abi.kip import WAIT_WORDS, Page, Wait
from kernel.abi.messages import Label, Preemption
from kernel.abi.traps import How
from tests.kernel.puppets import MS, Puppet, Theatre, theatre
from tests.kernel.test_processor import Work, cast_of, compute, plan, used

Told = list[tuple[Preemption, int, int]]


def waits(of: Puppet, whom: Puppet | None) -> None:
    """Have the page of *of* say that it waits for the answer of *whom*."""
    thread = of.environment.first
    of.environment.page[Page.WAITS + thread.row * WAIT_WORDS + Wait.ANSWER] = (
        whom.thread if whom is not None else 0
    )


class Talk:
    """A client that calls a server again and again, and what both do. The server is never idle."""

    def __init__(self) -> None:
        self.calls = 0
        self.answers: list[int] = []
        """How long each call took, in ns."""

    def client(self, body: SimulatedBody) -> None:
        """Think for 3 ms, call, wait for the answer, and sleep."""
        clock = body._machine.virtual
        while True:
            body.burn(3 * MS)
            self.calls, before = self.calls + 1, clock.now()
            body.wait(lambda: len(self.answers) >= self.calls, None)
            self.answers[-1] -= before
            body.wait(lambda: False, clock.now() + 35 * MS)

    def server(self, body: SimulatedBody) -> None:
        """Answer between two millisecond of other work."""
        while True:
            body.burn(MS)
            if self.calls > len(self.answers):
                self.answers.append(body._machine.virtual.now())


def stopped_server(body: SimulatedBody) -> None:
    """Compute for 15 ms, of which its first slice is a part, and then sleep for ever: it has answered."""
    body.burn(15 * MS)
    body.wait(lambda: False, None)


def sleeps_after(work_ms: float, until: Work | None = None) -> Work:
    """Compute for so long, and sleep for ever."""

    def live(body: SimulatedBody) -> None:
        body.burn(int(work_ms * MS))
        body.wait(lambda: False, None)
        if until is not None:
            until(body)

    return live


def told(scheduler: Puppet) -> Told:
    words = [u.words for u in scheduler.upcalls() if u.label == Label.PREEMPTION]
    return [(Preemption(w[at]), w[at + 1], w[at + 2]) for w in words for at in range(0, len(w), 3)]


def borrowing(stage: Theatre) -> tuple[Puppet, int, dict[str, Puppet]]:
    """Play a client that uses 2 ms of its slice, and waits for a server that computes for ever, beside a loop."""
    scheduler, cpu, members = cast_of(stage, server=compute, client=sleeps_after(2), a=compute)
    plan(scheduler, cpu, members, server=10, client=10, a=10)
    waits(members["client"], members["server"])
    return scheduler, cpu, members


def lent_to_server(
    stage: Theatre, *, says: bool, server: Work = stopped_server
) -> tuple[dict[str, float], Told]:
    """Play a client that uses 2 ms of its slice, and waits for a server; return what all used then."""
    scheduler, cpu, members = cast_of(
        stage, server=server, client=sleeps_after(2), a=compute, b=compute, c=compute
    )
    plan(scheduler, cpu, members, server=10, client=10, a=10, b=10, c=10)
    if says:
        waits(members["client"], members["server"])
    stage.pass_time(10)
    before = used(members)
    scheduler.upcalls()
    stage.pass_time(12)
    return {name: had - before[name] for name, had in used(members).items()}, told(scheduler)


def test_the_server_runs_on_the_clients_slice() -> None:
    """A stopped server has the rest of the slice of the client that waits for it, at once; else the next has it."""
    with theatre() as stage:
        found, _ = lent_to_server(stage, says=True)
    with theatre() as stage:
        without, _ = lent_to_server(stage, says=False)

    assert found["client"] == without["client"] == pytest.approx(2, abs=0.1)
    assert found["server"] == pytest.approx(5, abs=0.2)
    assert without["server"] == 0
    assert without["a"] == pytest.approx(8, abs=2.5)


def test_the_client_is_charged() -> None:
    """The scheduler is told that what the server used is the client's."""
    with theatre() as stage:
        _, said = lent_to_server(stage, says=True)
        client, server = (stage.kernel.environments.named(name) for name in ("client", "server"))
        assert client is not None
        assert server is not None
        lent = [each for each in said if each[0] in (Preemption.LENT, Preemption.BORROWED)]

        assert [each[:2] for each in lent] == [
            (Preemption.LENT, client.thread),
            (Preemption.BORROWED, server.thread),
        ]
        assert lent[0][2] == lent[1][2]
        assert 5 * MS <= lent[0][2] <= 8 * MS


def test_a_server_that_does_not_stop() -> None:
    """One that computes for ever has the rest of the slice, and no more than its own slices afterwards."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(stage, server=compute, client=sleeps_after(2), a=compute, b=compute)
        plan(scheduler, cpu, members, server=10, client=10, a=10, b=10)
        waits(members["client"], members["server"])
        stage.pass_time(10)
        before = used(members)
        stage.pass_time(300)
        found = {name: had - before[name] for name, had in used(members).items()}

        assert found["server"] - found["a"] == pytest.approx(8 - 10, abs=3)
        assert found["a"] - found["b"] == pytest.approx(0, abs=11)


def test_its_own_slices_stay() -> None:
    """What it used in the client's slice does not come off its own: it has 10 ms in its turn."""
    with theatre() as stage:
        _, _, members = borrowing(stage)
        stage.pass_time(30)
        before = used(members)["server"]
        stage.pass_time(10)

        assert used(members)["server"] - before == pytest.approx(10, abs=2.5)


def test_many_calls() -> None:
    """Calls to a busy server whose slice is far away are answered in the client's slice."""

    def play(*, says: bool) -> tuple[list[int], dict[str, float]]:
        talk = Talk()
        loops = dict.fromkeys("abcd", compute)
        with theatre() as stage:
            scheduler, cpu, members = cast_of(stage, server=talk.server, client=talk.client, **loops)
            plan(scheduler, cpu, members, client=10, a=10, b=10, server=10, c=10, d=10)
            if says:
                waits(members["client"], members["server"])
            stage.pass_time(3000)
            found = used(members)
        return [each for each in talk.answers if each < 10**9], found

    (said, had), (unsaid, _) = play(says=True), play(says=False)

    assert max(said) < 6 * MS
    assert sum(unsaid) / len(unsaid) > 15 * MS
    assert [had[name] for name in "abcd"] == pytest.approx([500] * 4, abs=25)


def test_a_server_of_a_server() -> None:
    """The slice goes on to whom the server itself waits for, asleep."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(
            stage, deep=stopped_server, middle=sleeps_after(0.2), client=sleeps_after(2), a=compute
        )
        plan(scheduler, cpu, members, deep=10, middle=10, client=10, a=10)
        waits(members["client"], members["middle"])
        stage.pass_time(14)
        waits(members["middle"], members["deep"])
        before = used(members)
        stage.pass_time(8)
        found = {name: had - before[name] for name, had in used(members).items()}

        assert found["deep"] == pytest.approx(5, abs=1.5)


@pytest.mark.parametrize("gone", ["client", "server"])
def test_one_of_them_ends(gone: str) -> None:
    """When the client or the server ends, what was lent is over, and the plan goes on."""
    with theatre() as stage:
        _, _, members = borrowing(stage)
        stage.pass_time(16)
        left = {name: member for name, member in members.items() if name not in (gone, "client")}
        stage.kill(members[gone])
        before = used(left)
        stage.pass_time(200)
        found = [used(left)[name] - before[name] for name in left]

        assert found == pytest.approx([200 / len(left)] * len(left), abs=11)


def test_a_plan_that_begins_now() -> None:
    """It ends what is lent, as any slice; one without the server does not, as long as it has the client."""
    with theatre() as stage:
        scheduler, cpu, members = borrowing(stage)
        stage.pass_time(15)
        before = used(members)["server"]
        plan(scheduler, cpu, members, client=10, a=10)
        stage.pass_time(2)
        between = used(members)["server"]
        plan(scheduler, cpu, members, how=How.NOW, client=10, a=10)
        stage.pass_time(2)

        assert between - before == pytest.approx(2, abs=0.1)
        assert used(members)["server"] - between == pytest.approx(0, abs=0.1)


def test_whatever_the_page_says() -> None:
    """A word of no thread, and those of two that wait for one another, lend nothing, and harm nobody."""
    with theatre() as stage:
        scheduler, cpu, members = cast_of(
            stage, p=sleeps_after(2), q=sleeps_after(2), r=sleeps_after(2), a=compute
        )
        waits(members["p"], members["q"])
        waits(members["q"], members["p"])
        row = members["r"].environment.first.row
        members["r"].environment.page[Page.WAITS + row * WAIT_WORDS + Wait.ANSWER] = (1 << 64) - 1
        plan(scheduler, cpu, members, p=10, q=10, r=10, a=10)
        before = used(members)["a"]
        stage.pass_time(100)

        assert used(members)["a"] - before == pytest.approx(94, abs=7)
