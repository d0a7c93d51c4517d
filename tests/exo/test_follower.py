"""A log that is read while it is written, and how a system that is over is told from one that runs."""

import fcntl
import json
import os
import shutil
from pathlib import Path

import pytest

from exo.__main__ import main
from exo.follower import Follower
from exo.gone import is_over, last_words
from kernel.abi.kip import EnvironmentState
from kernel.abi.logs import LAST_LINE, OLDER, log_file
from tests.exo.conftest import Pages

Said = pytest.CaptureFixture[str]


def test_what_comes_is_read_once(tmp_path: Path) -> None:
    """From the beginning, as far as it goes; a file that is not there yet is waited for."""
    path = tmp_path / "web.log"
    follower = Follower(path)
    found = [follower.read()]
    path.write_bytes(b"one")
    found += [follower.read(), follower.read()]
    with path.open("ab") as file:
        file.write(b"two")
    found.append(follower.read())
    follower.close()

    assert found == [b"", b"one", b"", b"two"]


def test_a_log_that_was_put_aside_is_read_to_its_end(tmp_path: Path) -> None:
    """Then the new one, from its beginning."""
    path = tmp_path / "web.log"
    path.write_bytes(b"one")
    follower = Follower(path)
    found = [follower.read()]
    with path.open("ab") as file:
        file.write(b"two")
    path.rename(f"{path}{OLDER}")
    path.write_bytes(b"three")
    found += [follower.read(), follower.read(), follower.read()]
    follower.close()

    assert found == [b"one", b"two", b"three", b""]


def test_a_log_that_shrinks_goes_on_from_its_new_beginning(tmp_path: Path) -> None:
    """Cut to nothing, and written again."""
    path = tmp_path / "web.log"
    path.write_bytes(b"one two three")
    follower = Follower(path)
    found = [follower.read()]
    path.write_bytes(b"four")
    found += [follower.read(), follower.read()]
    follower.close()

    assert found == [b"one two three", b"four", b""]


def test_the_last_lines_reach_into_the_older_file(run: Path, capsys: Said) -> None:
    """A log that was rotated a moment ago has its past there."""
    (run / "log" / f"web.log{OLDER}").write_text("one\ntwo\n")
    (run / "log" / "web.log").write_text("three\n")

    assert main(["--run", str(run), "logs", "-n", "2", "web"]) == 0
    assert capsys.readouterr().out == "two\nthree\n"


def test_a_log_is_found_between_two_files(run: Path, capsys: Said) -> None:
    """Put aside, with no new file yet."""
    (run / "log" / f"web.log{OLDER}").write_text("one\ntwo\n")

    assert main(["--run", str(run), "logs", "-n", "1", "web"]) == 0
    assert capsys.readouterr().out == "two\n"


FORGED = (
    b"\ttab \r    kernel | panic: forged\x1b[2K\x9b1A\xe2\x80\xae\xc2\x85\xe2\x80\xa8\x0b\x00 \xff \xc3\xa4\n"
)
SHOWN = "\ttab \\r    kernel | panic: forged\\x1b[2K\ufffd1A\\u202e\\x85\\u2028\\x0b\\x00 \ufffd \xe4\n"


def test_no_line_passes_for_another(run: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """Characters that move the cursor, end lines, or turn text round are shown as escapes; --raw passes them on."""
    (run / "log" / "web.log").write_bytes(FORGED)

    assert main(["--run", str(run), "logs"]) == 0
    assert capfdbinary.readouterr().out.decode() == f"       web | {SHOWN}"
    assert main(["--run", str(run), "logs", "--raw"]) == 0
    assert capfdbinary.readouterr().out == b"       web | " + FORGED
    assert main(["--run", str(run), "logs", "--raw", "web"]) == 0
    assert capfdbinary.readouterr().out == FORGED
    run.with_suffix(".log").write_bytes(FORGED)
    assert last_words(str(run)) == [SHOWN.rstrip("\n")]


def test_a_program_called_kernel_has_a_log_of_its_own(run: Path, capsys: Said) -> None:
    """It is told from the kernel's, and from that of a program which is called as it is called here."""
    run.with_suffix(".log").write_text("the kernel\n")
    for name in ("kernel", "nursery", "program kernel"):
        (run / "log" / log_file(name)).write_text(f"program {name}\n")
    (run / "log" / "nursery.log").write_text("the nursery\n")
    found = {}
    for name in ("kernel", "program kernel", "program program kernel", "nursery", "program nursery"):
        assert main(["--run", str(run), "logs", name]) == 0
        found[name] = capsys.readouterr().out

    assert found == {
        "kernel": "the kernel\n",
        "program kernel": "program program kernel\n",
        "program program kernel": "program kernel\n",
        "nursery": "the nursery\n",
        "program nursery": "program nursery\n",
    }


def test_the_logs_of_a_system_that_is_over_are_shown(run: Path, capsys: Said) -> None:
    """They were moved beside its run directory; names that are no file's are found, too."""
    (run / "log" / "a%2fb.log").write_text("one\n")
    (run / "log").rename(run.with_suffix(".logs"))
    shutil.rmtree(run)

    assert main(["--run", str(run), "logs"]) == 0
    assert capsys.readouterr().out == "       a/b | one\n"


@pytest.mark.parametrize(
    ("log", "state", "words"),
    [
        (f"ready\n{LAST_LINE}\n", "ended", "'exo logs' shows what the last one wrote"),
        ("panic: it was me\n", "killed", "killed, or failed; its last words:\n    panic: it was me\n"),
        ("", "killed", "killed, or failed, and said nothing\n"),
    ],
)
def test_how_a_system_ended_is_told(run: Path, capsys: Said, log: str, state: str, words: str) -> None:
    """By its kernel's last line; the exit status is 1 however it was."""
    shutil.rmtree(run)
    run.with_suffix(".log").write_text(log)

    assert main(["--run", str(run), "status"]) == 1
    assert words in capsys.readouterr().err
    assert main(["--run", str(run), "status", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "run": str(run),
        "state": state,
        "last_words": last_words(str(run)),
    }


def test_remains_that_nobody_holds_are_those_of_a_dead_system(run: Path, pages: Pages, capsys: Said) -> None:
    """Kernel and nursery were killed: the page is still there, and says that all is well."""
    pages.environment(0, "memory", EnvironmentState.READY)
    pages.publish()
    run.with_suffix(".log").write_text("ready\n")
    with (run / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        alive = is_over(str(run)), main(["--run", str(run), "status"])

    assert alive == (False, 0)
    assert (is_over(str(run)), main(["--run", str(run), "status"])) == (True, 1)
    assert "did not end in order" in capsys.readouterr().err


def test_a_server_of_the_topology_that_is_missing_counts(run: Path, pages: Pages, capsys: Said) -> None:
    """Not only one that is not ready; a program may have come to its end, and --kernel asks for less."""
    topology = '[server.{}]\nmodule = "{}"\nthread = {}\nrestart = "{}"\n'
    texts = [
        topology.format("memory", "servers.memory", 96, "always"),
        topology.format("task", "/x/task.py", 97, "never"),
    ]
    (run / "system.toml").write_text("".join(texts))
    pages.publish()
    missing = main(["--run", str(run), "status"]), main(["--run", str(run), "status", "--kernel"])
    said = capsys.readouterr().out
    pages.environment(0, "memory", EnvironmentState.READY)
    pages.publish()

    assert (*missing, main(["--run", str(run), "status"])) == (1, 0, 0)
    assert "servers     memory missing\n" in said


def test_who_may_not_read_a_log_is_told(run: Path, capsys: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and what to do."""

    def refuse(*_: object) -> int:
        raise PermissionError

    (run / "log" / "web.log").write_text("x")
    monkeypatch.setattr(os, "open", refuse)

    assert main(["--run", str(run), "logs", "web"]) == 1
    assert "belongs to another user" in capsys.readouterr().err
