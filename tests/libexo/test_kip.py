"""Reading the kernel interface page: what is none, and what is being written."""

from pathlib import Path

import pytest

from kernel.abi.ids import ANY_THREAD, thread_id
from kernel.abi.kip import X2, Head, ThreadState, kip_size
from kernel.abi.limits import MAX_THREADS
from libexo.errors import ExoError
from libexo.kip import Kip, read
from libexo.testing import simulated
from tests.kernel.puppets import theatre


def page_of(**words: int) -> memoryview:
    """A KIP as a kernel lays it out, with some words changed."""
    with simulated() as system:
        page = bytearray(system.machine.published["kip"].buffer)
    view = memoryview(page)
    for name, value in words.items():
        view.cast("Q")[Head[name] if name in Head.__members__ else X2[name]] = value
    return view


@pytest.mark.parametrize(
    ("words", "message"),
    [({"MAGIC": 0}, "wrong magic"), ({"ABI_LEVEL": 99}, "speaks ABI level 99, this library")],
)
def test_what_is_no_kip(words: dict[str, int], message: str) -> None:
    """A page of another kind or another level is refused, with the reason."""
    with pytest.raises(ExoError, match=message):
        Kip(page_of(**words))


def test_a_table_that_is_always_written() -> None:
    """A table whose writer never finishes is not read torn: the reader gives up, and says so."""
    with pytest.raises(ExoError, match="name table was being written"):
        Kip(page_of(NAME_SEQUENCE=1)).names()


def test_read_from_a_file(tmp_path: Path) -> None:
    """Tools read the page a system publishes without attaching."""
    path = tmp_path / "kip"
    path.write_bytes(bytes(page_of()))

    assert len(path.read_bytes()) == kip_size(256)
    assert read(path).head(Head.FRAME_COUNT) == 256


def test_threads() -> None:
    """A thread is found by its id, with its environment; another version of it, or any other number, is not."""
    with theatre() as stage:
        a, b = stage.pair()
        kip = Kip(stage.machine.published["kip"].buffer)
        rows = {row.thread: row for row in kip.threads()}

        assert set(rows) == {a.thread, b.thread}
        assert rows[b.thread] == kip.thread(b.thread)
        assert (rows[b.thread].environment, rows[b.thread].state) == (
            b.environment.number,
            ThreadState.ACTIVE,
        )
        strangers = (b.thread + 2, ANY_THREAD, thread_id(MAX_THREADS - 1), thread_id(MAX_THREADS), 0)
        assert [kip.thread(thread) for thread in strangers] == [None] * len(strangers)
