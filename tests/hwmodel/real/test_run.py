"""The run directory and the uids: what two systems on one host must not share."""

import contextlib
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwmodel.real import uids
from hwmodel.real.endpoint import listen
from hwmodel.real.run import Run, RunError, check_way
from hwmodel.real.uids import BLOCK, BLOCKS, FIRST_UID, Uids

pytestmark = pytest.mark.system


@pytest.fixture
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="exo-") as folder:
        yield Path(folder) / "run"


def test_it_is_made_with_its_modes_and_removed(place: Path) -> None:
    """Others may pass through it and its ipc, and list neither."""
    run = Run(str(place))

    modes = {name: (place / name).stat().st_mode & 0o777 for name in (".", "ipc", "log")}
    run.close()
    run.close()

    assert modes == {".": 0o711, "ipc": 0o711, "log": 0o755}
    assert not place.exists()


def test_a_living_system_is_left_alone(place: Path) -> None:
    """The second one is refused by name, and the first goes on."""
    first = Run(str(place))

    with pytest.raises(RunError, match=f"process {os.getpid()}"):
        Run(str(place))

    assert (place / "ipc").is_dir()
    first.close()


def test_the_remains_of_a_dead_system_are_cleared(place: Path) -> None:
    """Its sockets and files go, whatever they are called."""
    (place / "ipc").mkdir(parents=True)
    (place / "lock").write_text("exokernel 1\n")
    (place / "kip").write_text("old")
    listen(str(place / "ipc" / "96"), socket.SOCK_STREAM, 1).close()

    run = Run(str(place))

    assert sorted(entry.name for entry in place.iterdir()) == ["ipc", "lock", "log"]
    run.close()


@pytest.mark.parametrize("name", ["precious", "lock"])
def test_a_directory_of_somebody_elses_is_refused(place: Path, name: str) -> None:
    """It is neither used nor emptied, even if a file in it is called lock."""
    place.mkdir()
    (place / name).write_text("not ours")
    (place / "other").write_text("")

    with pytest.raises(RunError, match="neither empty nor a run directory"):
        Run(str(place))

    assert (place / name).read_text() == "not ours"


def test_a_link_is_refused(place: Path) -> None:
    """A user who can make links cannot choose what we empty."""
    target = place.with_name("target")
    target.mkdir()
    place.symlink_to(target)

    with pytest.raises(RunError, match="not a directory"):
        Run(str(place))


def test_a_path_too_long_for_sockets_is_refused_with_the_excess(place: Path) -> None:
    """At boot, and not at the first thread with a long number."""
    with pytest.raises(RunError, match="bytes too long"):
        Run(str(place / ("x" * 100)))


def test_an_empty_directory_is_used(place: Path) -> None:
    """As a container's volume is."""
    place.mkdir()

    Run(str(place)).close()


@pytest.mark.parametrize("claims", ["a directory of root's", "/proc/none"])
def test_two_systems_never_have_the_same_uid(
    claims: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each claims a block, by name where it can lock no file; a uid rests while the others are used."""
    if os.geteuid() != 0:
        pytest.skip("only root has uids to give")
    monkeypatch.setattr(uids, "CLAIMS", claims if claims.startswith("/") else str(tmp_path / "claims"))
    one, other = Uids(), Uids()
    first, second = one.take(), one.take()

    one.put_back(first)
    later = [one.take() for _ in range(BLOCK - 1)]

    assert first != second
    assert first not in later[:-1]
    assert later[-1] == first
    assert abs(other.take() - first) >= BLOCK
    one.close()
    other.close()


def test_names_that_programs_bind_keep_no_system_from_its_uids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if others have bound the abstract names of all blocks, the next system claims one by its file."""
    if os.geteuid() != 0:
        pytest.skip("only root has uids to give")
    monkeypatch.setattr(uids, "CLAIMS", str(tmp_path / "claims"))
    with contextlib.ExitStack() as bound:
        for block in range(BLOCKS):
            squatter = bound.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            with contextlib.suppress(OSError):  # a system that runs here has it
                squatter.bind(f"\0exokernel-uids-{FIRST_UID + block * BLOCK}")
        claimed = Uids()

    assert claimed.take() == FIRST_UID
    claimed.close()


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_directory_of_claims_that_others_may_write_to_is_not_used(
    mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in it is touched: the claim is by name."""
    if os.geteuid() != 0:
        pytest.skip("only root has uids to give")
    monkeypatch.setattr(uids, "CLAIMS", str(tmp_path))
    tmp_path.chmod(mode)
    claimed = Uids()
    claimed.close()

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "grace"), [("1.5\n", 1.5), ("0", 0.0), ("", None), ("soon", None), ("-1", None), ("inf", None)]
)
def test_whoever_asks_for_the_end_may_say_the_grace(place: Path, text: str, grace: float | None) -> None:
    """In a file of the run directory; what is no number of seconds says nothing."""
    run = Run(str(place))
    before = run.grace()
    (place / "grace").write_text(text)
    said = run.grace()
    run.close()

    assert (before, said) == (None, grace)


def test_its_logs_are_kept_until_the_next_system(place: Path) -> None:
    """Beside it; then they go, and nothing else of it is left."""
    first = Run(str(place))
    (place / "log" / "web.log").write_text("one")
    first.close()
    kept = [path.name for path in place.with_suffix(".logs").iterdir()]
    second = Run(str(place))
    between = place.with_suffix(".logs").exists()
    second.close()

    assert (kept, between, place.exists()) == (["web.log"], False, False)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives programs uids of their own")
def test_programs_can_pass_through(tmp_path: Path) -> None:
    """A run directory that programs could not reach is refused, by the directory that shuts them out."""
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    with pytest.raises(RunError, match=re.escape(f"chmod o+x {shut}")):
        check_way(str(shut / "run"))
    check_way("/run/exo")
