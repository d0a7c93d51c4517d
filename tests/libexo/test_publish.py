"""Publish channels between environments of the simulated machine: readers, ends, moves, and sleeping."""

import contextlib
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from kernel.abi.limits import FRAME_SIZE
from libexo import vm
from libexo.environment import Environment
from libexo.errors import ExoError, TrapRefused
from libexo.extent import Extent
from libexo.publish import BrokenChannel, ChannelEnded, Publication, PublicationServer, Publisher, Reader
from libexo.publish.reader import Start
from libexo.stub import Server, serve
from libexo.testing import System, simulated
from tests.kernel.puppets import Puppet, Theatre, theatre
from tests.libexo.test_publish_ring import record
from tests.libexo.vm.test_vm import carved, lent

if TYPE_CHECKING:
    from kernel import frames
    from kernel.jobs import Steps


class Quote(msgspec.Struct, array_like=True):
    """A typed record."""

    name: str
    price: float


def channel(stage: Theatre, *, pages: int = 1) -> tuple[Puppet, Publisher[bytes], Extent]:
    a = stage.puppet(holds=("ram",))
    extent = carved(a, pages)
    return a, Publisher(a.env, extent), extent


def joined(a: Puppet, b: Puppet, extent: Extent, start: Start = "newest") -> Reader[bytes]:
    return Reader(b.env, Extent(lent(a, b, extent), extent.pages, extent.first), start=start)


def test_a_reader_in_another_environment() -> None:
    """It reads what is published, in order; the memory it got cannot be written."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        b = stage.puppet()
        reader = joined(a, b, extent)
        for number in range(5):
            publisher.publish(record(number))

        assert list(reader) == [record(number) for number in range(5)]
        assert (reader.read(), list(reader), reader.missed, publisher.published) == (None, [], 0, 5)
        assert not publisher.extent.writable


def test_typed_records() -> None:
    """With a type, records are encoded and decoded; one that is not of the type is told of, and passed over."""
    with theatre() as stage:
        a = stage.puppet(holds=("ram",))
        publisher = Publisher(a.env, carved(a), Quote)
        b = stage.puppet()
        mine = Extent(lent(a, b, publisher._extent), 1, 0)
        reader, wrong = Reader(b.env, mine, Quote), Reader(b.env, mine, int)
        publisher.publish(Quote("a", 1.5))
        publisher.publish(Quote("b", 2.5))

        assert list(reader) == [Quote("a", 1.5), Quote("b", 2.5)]
        for _ in range(2):
            with pytest.raises(BrokenChannel, match="not what it should be"):
                wrong.read()
        assert wrong.read() is None


@pytest.mark.parametrize("content", [b"", b"\xdd\xff\xff\xff\xff", b"\x91" * 2000, b"\xa2\xff\xfe", b"\xc1"])
def test_hostile_records(content: bytes) -> None:
    """Any undecodable record is a BrokenChannel."""
    with theatre() as stage:
        a, publisher, extent = channel(stage, pages=2)
        b = stage.puppet()
        reader = Reader(b.env, Extent(lent(a, b, extent), 2, 0), object)
        publisher.publish(content)

        with pytest.raises(BrokenChannel):
            reader.read()


def test_what_cannot_be_published() -> None:
    """A record that is too large, into an extent one cannot write, or after the end."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        b = stage.puppet()
        with pytest.raises(ExoError, match=f"at most {publisher.largest} bytes"):
            publisher.publish(bytes(publisher.largest + 1))
        with pytest.raises(ExoError, match="able to write"):
            Publisher(b.env, Extent(lent(a, b, extent), 1, 0))
        publisher.publish(bytes(publisher.largest))
        publisher.close()
        publisher.close()
        with pytest.raises(ChannelEnded):
            publisher.publish(b"late")


def test_a_publisher_that_ends_while_it_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extent went before it was mapped: a reader hears of that, not of how the rest was given up."""
    with theatre() as stage:
        a, _, extent = channel(stage)
        b = stage.puppet()
        mine = Extent(lent(a, b, extent), extent.pages, extent.first)
        a.env.sys.drop(extent.handle)
        monkeypatch.setattr(Publication, "connect", lambda *_, **__: SimpleNamespace(join=lambda: mine))

        with pytest.raises(TrapRefused, match="MapExtent"):
            Reader.join(b.env)


def test_the_end() -> None:
    """After `close` a reader reads what there is; then `read` and `wait` tell that it ended, again and again."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        b = stage.puppet()
        reader = joined(a, b, extent)
        publisher.publish(b"last")
        publisher.close()

        assert reader.wait()
        assert list(reader) == [b"last"]
        for end in (reader.read, reader.wait, reader.read):
            with pytest.raises(ChannelEnded):
                end()
        assert list(reader) == []


def test_a_reader_that_is_closed() -> None:
    """It raises ChannelEnded, and its memory is unmapped; to close it twice is harmless."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        b = stage.puppet()
        with joined(a, b, extent) as reader:
            publisher.publish(b"unread")
        reader.close()

        with pytest.raises(ChannelEnded, match="reader is closed"):
            reader.read()


def test_the_publisher_is_killed() -> None:
    """The kernel takes its extent: the reader hears of the end, and lives."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        b = stage.puppet()
        reader = joined(a, b, extent)
        publisher.publish(b"one")
        assert reader.read() == b"one"
        stage.kill(a)

        with pytest.raises(ChannelEnded, match="its publisher ended"):
            reader.read()
        with pytest.raises(ChannelEnded):
            reader.wait(1)


def test_the_publisher_revokes() -> None:
    """Readers hear of the end; the publisher goes on in the memory it was given in its place."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        b, c = stage.puppet(), stage.puppet()
        reader = joined(a, b, extent)
        vm.revoke(a.env, extent)
        publisher.publish(b"two")
        again = joined(a, c, publisher.extent, start="oldest")

        with pytest.raises(ChannelEnded):
            reader.read()
        assert again.read() == b"two"


def test_the_memory_moves() -> None:
    """When the kernel moves the extent, publisher and readers find it again; what was not read is missed."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        b = stage.puppet()
        reader = joined(a, b, extent)
        for content in (b"one", b"two", b"three"):
            publisher.publish(content)
            if content == b"one":
                assert reader.read() == b"one"
        move(stage, a)
        assert reader.read() is None
        publisher.publish(b"four")

        assert (list(reader), reader.missed) == ([b"four"], 2)


def test_one_who_joins_after_a_move() -> None:
    """It gets the memory in which the publisher has started over, not what a copy had in it."""
    with theatre() as stage:
        a, publisher, _ = channel(stage)
        b = stage.puppet()
        publisher.publish(b"before")
        move(stage, a)
        reader = joined(a, b, publisher.extent, start="oldest")
        publisher.publish(b"after")

        assert (list(reader), reader.missed) == ([b"after"], 0)


def test_a_move_while_it_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mark that it stores in memory whose copy is made already is in the copy too: readers hear of it."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        reader = joined(a, stage.puppet(), extent)
        publisher.publish(b"one")
        store = publisher._writer.close

        def close() -> None:
            monkeypatch.undo()
            move(stage, a, until=lambda moved: moved.pieces.at(0)[0].copied)
            store()

        monkeypatch.setattr(publisher._writer, "close", close)
        publisher.close()

        with pytest.raises(ChannelEnded, match="closed"):
            reader.read()


def test_a_move_after_it_closed() -> None:
    """The copy has all, and the mark: readers lose nothing, and hear of the end."""
    with theatre() as stage:
        a, publisher, extent = channel(stage)
        reader = joined(a, stage.puppet(), extent)
        publisher.publish(b"one")
        publisher.close()
        move(stage, a)

        assert reader.read() == b"one"
        with pytest.raises(ChannelEnded, match="closed"):
            reader.read()


def move(stage: Theatre, holder: Puppet, *, until: "Callable[[frames.Extent], bool] | None" = None) -> None:
    """Have the kernel move the extent of *holder*, as it does when one that attached by itself leaves.

    Return when that is over, or as soon as it is so *until* then.
    """
    [resource] = {capability.resource for capability in holder.caps if capability.mapped}
    moved = cast("frames.Extent", resource)
    stage.kernel.jobs.add(moving(moved))
    now = stage.machine.clock.now()
    stage.machine.drive(stage.supervisor, until=until and partial(until, moved), limit=now)


def moving(extent: "frames.Extent") -> "Steps[None]":
    """Move it in steps, as `kernel.taking` does."""
    pages = range(extent.pages)
    yield from extent.lock()
    yield extent.copy(pages)
    yield None
    yield from extent.move(None, pages)
    extent.unlock()


def test_start_is_checked() -> None:
    """Where a reader starts is one of two words."""
    with theatre() as stage:
        a, _, extent = channel(stage)
        with pytest.raises(ValueError, match="'oldest' or 'newest'"):
            Reader(a.env, extent, start=cast("Any", "middle"))
        blank = carved(a)
        with pytest.raises(BrokenChannel, match="no publish channel"):
            Reader(a.env, blank)


# ----------------------------------------------------------------------------------------- programs, and sleeping


class Ticker(PublicationServer):
    """Publishes *count* numbers, one every *pause* seconds, from the first reader on; then closes, or just ends."""

    def __init__(self, environment: Environment, count: int, pause: float, *, closes: bool) -> None:
        ram = environment.sys.inventory()[0]
        made = environment.sys.carve(ram, 1)
        super().__init__(Publisher(environment, Extent(made.extent, 1, made.first), int))
        self.server = Server(environment, self)
        self._left, self._pause, self._closes = count, pause, closes
        self._is_ticking = False

    def join(self) -> Extent:
        if not self._is_ticking:
            self._is_ticking = True
            self.server.after(self._pause, self._tick)
        return super().join()

    def _tick(self) -> None:
        self.publisher.publish(self.publisher.published)
        self._left -= 1
        if self._left:
            self.server.after(self._pause, self._tick)
            return
        if self._closes:
            self.publisher.close()
        self.server.after(1 if self._closes else 0, self.server.stop)


def tick(system: System, count: int, pause: float, *, closes: bool = True) -> None:
    """Start one that is called ticker."""

    def run(env: Environment) -> None:
        serve(Ticker(env, count, pause, closes=closes), "ticker", env)

    system.spawn(run, "ticker", holds=("ram",))


def follow(env: Environment) -> tuple[list[int], list[float]]:
    """Read to the end; return the numbers, and when each came, in milliseconds."""
    env.lookup("ticker", timeout=1)
    numbers: list[int] = []
    times: list[float] = []
    with Reader.join(env, "ticker", int, start="oldest") as reader:
        try:
            while reader.wait():
                for number in reader:
                    numbers.append(number)
                    times.append(env.host.now() / 1e6)
        except ChannelEnded:
            return numbers, times
    raise AssertionError("unreachable")


@pytest.mark.parametrize("closes", [True, False])
def test_a_sleeper_is_woken(closes: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """A reader that sleeps is woken by each record, at once, and by the end: `close`, or that of the program."""
    with simulated() as system:
        tick(system, 4, 0.3, closes=closes)
        task = system.spawn(follow, "follower")
        system.run(until=lambda: task.ended)
        numbers, times = cast("tuple[list[int], list[float]]", task.result)

        assert numbers == [0, 1, 2, 3][: len(numbers)]
        assert len(numbers) == 4 or not closes
        assert {round(later - earlier) for earlier, later in pairwise(times)} == {300}


def test_many_sleepers() -> None:
    """Each of them reads everything."""
    with simulated(seed=3) as system:
        tick(system, 5, 0.05)
        tasks = [system.spawn(follow, f"follower-{n}") for n in range(3)]
        system.run()

        assert [cast("tuple[list[int], object]", task.result)[0][-1] for task in tasks] == [4] * 3


def look(env: Environment) -> tuple[bool, float, list[float]]:
    """Read without being woken; return what a short wait said and how long it took, and when each number came."""
    env.lookup("ticker", timeout=1)
    extent = Publication.connect(env, "ticker").join()
    began = env.host.now()
    with Reader(env, extent, int) as reader:
        found, took = reader.wait(0.2), (env.host.now() - began) / 1e6
        times: list[float] = []
        with contextlib.suppress(ChannelEnded):
            while reader.wait():
                times += [(env.host.now() - began) / 1e6 for _ in reader]
        return found, took, times


def test_who_is_not_woken_looks() -> None:
    """Without a server a reader finds each record within 10 ms, and gives up when its time has passed."""
    with simulated() as system:
        tick(system, 3, 0.3)
        task = system.spawn(look, "looker")
        system.run()
        found, took, times = cast("tuple[bool, float, list[float]]", task.result)

        assert (found, int(took)) == (False, 200)
        assert [time // 300 for time in times] == [1, 2, 3]
        assert all(time % 300 <= 11 for time in times)


def test_the_largest_record_of_one_page() -> None:
    """Somewhat less than half of the extent."""
    with theatre() as stage:
        _, publisher, _ = channel(stage)

        assert FRAME_SIZE // 2 - 96 <= publisher.largest <= FRAME_SIZE // 2
