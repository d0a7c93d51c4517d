"""Bytes one way: which sizes, what they need, that every way carries them, and a small run."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from bench import bulk, cli
from bench.errors import BenchError
from bench.harness import reference
from bench.system import running
from bench.worker import BULK, PIECE, pieces, read_pages, sized

MIB = 1 << 20


@dataclass
class Small:
    """A system whose environments may have so much."""

    quota: int


def test_sizes_go_from_a_message_to_a_gibibyte() -> None:
    """By fours; the largest only when they are asked for."""
    assert (BULK[0], BULK[-1]) == (64, 1 << 30)
    assert all(larger == 4 * smaller for smaller, larger in pairwise(BULK))
    assert bulk.sizes(full=True) == list(BULK)
    assert bulk.sizes(full=False)[-1] == bulk.USUAL


@pytest.mark.parametrize("size", BULK)
def test_pieces_make_up_the_size(size: int) -> None:
    """None is larger than a piece may be."""
    piece, count = pieces(size)

    assert len(piece) * count == size
    assert len(piece) <= PIECE


def test_every_page_is_read_once() -> None:
    """A byte of each: the first; a page that is begun counts."""
    memory = bytearray(3 * 4096)
    memory[0], memory[4096], memory[8192], memory[1] = 1, 2, 4, 100

    assert read_pages(memoryview(memory)) == 7
    assert read_pages(memoryview(memory)[: 4096 + 1]) == 3


def test_sizes_that_do_not_fit_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """All sizes of a run are kept, so they must fit together; a line says what is left out, beside the results."""
    system = Small(21 * MIB)
    sizes = [4 * MIB, 16 * MIB, 64 * MIB]

    assert bulk.fitting(system, sizes) == sizes[:2]  # type: ignore[arg-type]
    bulk.tell_left_out(system, sizes)  # type: ignore[arg-type]

    told = capsys.readouterr()
    assert told.err.startswith("64 MiB and more are left out")
    assert told.out == ""


def test_a_host_without_the_memory_is_refused() -> None:
    """Before anything is measured, with what it takes and what there is."""
    bulk.check_host(MIB, bulk.KEYS)
    with pytest.raises(BenchError, match="are free"):
        bulk.check_host(1 << 60)


def test_larger_sizes_are_sampled_less() -> None:
    """A round never has fewer than the least, nor more than the most."""
    blocks = [bulk.block(size) for size in BULK]

    assert blocks == sorted(blocks, reverse=True)
    assert (blocks[0], blocks[-1]) == (bulk.MOST, bulk.LEAST)


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.parametrize("key", bulk.REFERENCES)
def test_a_way_carries_bytes(key: str) -> None:
    """One message, and several pieces."""
    with reference(f"bench.references.{bulk.REFERENCES[key]}") as worker:
        for size in (BULK[0], 4 * MIB):
            samples = worker.sample(f"bulk-{sized(size)}", 2)
            assert len(samples) == 2
            assert min(samples) > 0


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
def test_bulk_runs_on_a_system_it_boots(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Extents of less than a page, and of many, arrive as they were; each size is a line with its references."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")
    monkeypatch.setattr(bulk, "USUAL", 256 << 10)

    assert cli.main(["bulk", "--rounds", "1", "--only", "pages,zmq,pipe", "--json"]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["size"] for line in told] == [size for size in BULK if size <= 256 << 10]
    assert all(len(line["references"]) == 3 for line in told)


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
def test_a_system_is_booted_with_the_memory_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of which one environment may have half."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")

    with running("512 MiB") as system:
        assert system.quota == 256 * MIB
