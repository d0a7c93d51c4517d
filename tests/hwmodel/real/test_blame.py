"""Who keeps the lock of a file: found by what the host shows of a thread that waits, and nobody else."""

import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from hwmodel.real import blame

ME = os.getpid()


def found(monkeypatch: pytest.MonkeyPatch, *words: int, of: int = ME, uid: int = -1) -> list[object]:
    """Return who is blamed for a file when every thread is in such a call; the bodies are *of* and *uid*."""
    reading, writing = os.pipe()
    status = os.fstat(writing)
    told: list[object] = []
    monkeypatch.setattr(blame, "_FIRST", (18,))
    monkeypatch.setattr(blame, "_THIRD", (275,))
    call = [writing if word < 0 else word for word in words]
    monkeypatch.setattr(blame, "_call", lambda _: [*call, 0, 0, 0] if call else [])
    monkeypatch.setattr(
        os, "listdir", lambda path, known=os.listdir: [str(ME)] if path == "/proc" else known(path)
    )
    bodies = [SimpleNamespace(pid=of, uid=uid), SimpleNamespace(pid=1, uid=-2)]
    try:
        for _ in blame.find(bodies, (status.st_dev, status.st_ino), lambda call: call(), told.append):  # type: ignore[arg-type]
            pass
    finally:
        os.close(reading)
        os.close(writing)
    return [body.pid for body in told]  # type: ignore[attr-defined]


def test_who_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread in pwrite on the file is blamed, and one that splices into it; each program once."""
    assert found(monkeypatch, 18, -1, 0, 0) == [ME]
    assert found(monkeypatch, 275, 0, 0, -1) == [ME]


def test_who_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is blamed who runs, is in another call, or writes to another file."""
    assert found(monkeypatch) == []
    assert found(monkeypatch, 0, -1, 0, 0) == []
    assert found(monkeypatch, 0, 0, 0, -1) == []
    assert found(monkeypatch, 18, 0, 0, -1) == []


def test_a_child_that_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process is its program's by its group or its uid; one that may be anybody's is nobody's."""
    assert found(monkeypatch, 18, -1, 0, 0, of=os.getpgid(0)) == [os.getpgid(0)]
    assert found(monkeypatch, 18, -1, 0, 0, of=2, uid=os.getuid()) == [2]
    assert found(monkeypatch, 18, -1, 0, 0, of=2) == []


def test_what_the_host_shows() -> None:
    """A thread that waits is shown with its call, one that runs is not, and neither is one that is not there."""
    reading, writing = os.pipe()
    waiting = threading.Thread(target=os.read, args=(reading, 1))
    waiting.start()
    try:
        while not (words := blame._call(Path(f"/proc/self/task/{waiting.native_id}"))) or words[1] != reading:
            pass
        status = os.fstat(reading)
        assert blame.own(waiting.native_id or 0) == (status.st_dev, status.st_ino)
        assert blame.own(0) is None
        assert blame.own(threading.get_native_id()) is None
    finally:
        os.write(writing, b"x")
        waiting.join()
        os.close(writing)
        os.close(reading)
