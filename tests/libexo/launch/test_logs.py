"""The logs of programs: bounded, one for each name; a busy writer waits while others go on."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.abi import logs as abi
from libexo.launch import logs
from libexo.launch.logs import PIPE_BYTES, PIPES_PER_TURN, TURN_EVERY, Logs

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=31)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Logs]:
    """The logs of a system, in an empty folder."""
    made = Logs(str(tmp_path))
    yield made
    made.close()


def write(writing: int, data: bytes) -> int:
    """Write what there is room for."""
    os.set_blocking(writing, False)
    try:
        return os.write(writing, data)
    except BlockingIOError:
        return 0


@given(st.sets(NAMES, min_size=2, max_size=8))
def test_every_name_has_one_log(names: set[str]) -> None:
    """Of its own, in the folder of logs, and none is that of the kernel or the nursery."""
    files = {abi.log_file(name) for name in names}

    assert len(files) == len(names)
    assert {abi.log_name(file) for file in files} == names
    assert not {f"{name}.log" for name in abi.RESERVED} & files
    assert not any("/" in file or file.startswith(".") for file in files)
    assert all(len(os.fsencode(file + abi.OLDER)) <= 255 for file in files)


def test_what_is_written_stands_in_the_log(kept: Logs, tmp_path: Path) -> None:
    """In order, over all programs of the name, and the rest when the program ends."""
    first, writing = kept.open("web")
    write(writing, b"one\n")
    kept.turn()
    write(writing, b"two\n")
    os.close(writing)
    kept.finish(first)
    second, writing = kept.open("web")
    write(writing, b"three\n")
    kept.finish(second)
    os.close(writing)

    assert (tmp_path / "web.log").read_bytes() == b"one\ntwo\nthree\n"


def test_whoever_floods_waits(kept: Logs, tmp_path: Path) -> None:
    """A pipe takes no more than it has room for; a turn makes room for as much, and no more."""
    stream, writing = kept.open("flood")
    taken = 0
    while written := write(writing, b"x" * 4096):
        taken += written
    kept.turn()

    assert taken <= PIPE_BYTES
    assert (tmp_path / "flood.log").stat().st_size <= PIPE_BYTES
    os.close(writing)
    kept.finish(stream)


def test_a_turn_is_bounded_and_everybody_has_his(kept: Logs, tmp_path: Path) -> None:
    """Of many that flood, all are served in as many turns as it takes to look at each once."""
    count = 3 * PIPES_PER_TURN
    opened = [kept.open(f"p{number}") for number in range(count)]
    for _, writing in opened:
        write(writing, b"x" * 100)
    sizes = []
    for _ in range(3):
        for _, writing in opened:
            write(writing, b"x" * 100)  # they go on meanwhile
        kept.turn()
        sizes.append(sum(1 for number in range(count) if (tmp_path / f"p{number}.log").stat().st_size))
    for stream, writing in opened:
        os.close(writing)
        kept.finish(stream)

    assert sizes == [PIPES_PER_TURN, 2 * PIPES_PER_TURN, count]


def test_a_log_is_begun_anew(kept: Logs, tmp_path: Path) -> None:
    """After its limit; one older file is kept."""
    stream, writing = kept.open("web")
    for number in range(3 * abi.MAX_LOG // PIPE_BYTES):
        write(writing, bytes([65 + number % 26]) * PIPE_BYTES)
        kept.turn()
    os.close(writing)
    kept.finish(stream)

    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sizes == {"web.log": abi.MAX_LOG, f"web.log{abi.OLDER}": abi.MAX_LOG}


def test_all_logs_are_bounded_together(kept: Logs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The logs of those who ended first go, and that is said; those who run share what there is."""
    monkeypatch.setattr(logs, "MAX_ALL_LOGS", 40 * PIPE_BYTES)
    monkeypatch.setattr(logs, "MIN_LOG", PIPE_BYTES)
    for number in range(20):
        stream, writing = kept.open(f"p{number}")
        for _ in range(8):
            write(writing, b"x" * PIPE_BYTES)
            kept.turn()
        os.close(writing)
        kept.finish(stream)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 41 * PIPE_BYTES

    said = (tmp_path / "nursery.log").read_text(encoding="ascii")
    assert said.startswith("p0.log was removed: logs are bounded, and this one's program ended first\np1.log")
    assert not (tmp_path / "p0.log").exists()
    assert (tmp_path / "p19.log").exists()


def test_the_number_of_logs_is_bounded(kept: Logs, tmp_path: Path) -> None:
    """A name used again counts as new; a running program keeps its log."""
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    stays, staying = kept.open("stays")
    again, writing = kept.open("p0")
    os.close(writing)
    for number in range(abi.MAX_ENDED_LOGS + 3):
        stream, writing = kept.open(f"p{number}")
        os.close(writing)
        kept.finish(stream)
    kept.finish(again)
    os.close(staying)
    kept.finish(stays)

    left = {path.name for path in tmp_path.iterdir()} - {"nursery.log"}
    assert len(left) == abi.MAX_ENDED_LOGS
    assert {"stays.log", "p0.log"} <= left
    assert "p1.log" not in left
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_what_cannot_be_written_is_said(kept: Logs, tmp_path: Path) -> None:
    """The writer is not held up; the next text that can be written says how much is missing."""
    (tmp_path / "web.log").symlink_to("/dev/full")  # links are not followed, so it cannot be opened
    stream, writing = kept.open("web")
    write(writing, b"lost\n")
    kept.turn()
    (tmp_path / "web.log").unlink()
    write(writing, b"found\n")
    os.close(writing)
    kept.finish(stream)

    said = (tmp_path / "web.log").read_text(encoding="ascii")
    assert said == "[5 bytes of this log were lost: they could not be written]\nfound\n"


def test_who_outlives_the_program_is_not_waited_for(kept: Logs, tmp_path: Path) -> None:
    """Its end of the pipe leads nowhere then."""
    stream, writing = kept.open("web")
    write(writing, b"x")
    kept.finish(stream)

    with pytest.raises(BrokenPipeError):
        os.write(writing, b"y")
    os.close(writing)
    assert (tmp_path / "web.log").read_bytes() == b"x"


def test_the_logs_of_a_system_that_is_over_are_kept(tmp_path: Path) -> None:
    """Beside its run directory, instead of those of the one before."""
    run = tmp_path / "run"
    for text in ("first", "second"):
        (run / "log").mkdir(parents=True)
        (run / "log" / "web.log").write_text(text, encoding="ascii")
        logs.keep(str(run))

    assert (tmp_path / "run.logs" / "web.log").read_text(encoding="ascii") == "second"
    assert not (run / "log").exists()


def test_there_is_a_rest_between_turns(kept: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """However much is written, and in however small pieces: what comes meanwhile is for the next turn."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    _, writing = kept.open("flood")
    rests = []
    for _ in range(3):
        rests.append(kept.rest())
        write(writing, b"x")
        kept.turn()
        rests.append(kept.rest())
        now += TURN_EVERY
    os.close(writing)

    assert rests == pytest.approx([0, TURN_EVERY] * 3)
