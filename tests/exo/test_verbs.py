"""The smaller verbs: kill, logs, doctor, bench, completion, serve; and what up says when a boot fails."""

import os
import shutil
import subprocess
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exo import doctor, launcher, up
from exo.__main__ import main
from exo.completion import SHELLS, options_of
from exo.kill import number
from exo.location import locate
from exo.system import Trouble
from exo.verbs import VERBS
from tests.exo.conftest import Pages

Said = pytest.CaptureFixture[str]


@pytest.mark.parametrize(("text", "signal"), [("9", 9), ("KILL", 9), ("SIGTERM", 15), ("int", 2)])
def test_signals_are_called_as_in_a_shell(text: str, signal: int) -> None:
    """By number, by name, with or without SIG."""
    assert number(text) == signal


@pytest.mark.parametrize("text", ["0", "65", "NOPE", "-9", ""])
def test_what_is_no_signal_is_refused(text: str) -> None:
    """Before anybody is sent anything."""
    with pytest.raises(ArgumentTypeError, match="kill -l"):
        number(text)


def test_kill_asks_the_process_server(run: Path, operator: Callable[..., Any]) -> None:
    """A request a name; --end is for good."""
    heard = operator({"packets": [{"ok": {"grace": 5}}, {"ended": {}}]})

    assert main(["--run", str(run), "kill", "--end", "web"]) == 0
    assert heard.requests == [{"op": "end", "name": "web"}]


def test_kill_ends_families(run: Path, operator: Callable[..., Any], capsys: Said) -> None:
    """A request a name, with the grace if one is given; the ended programs are printed."""
    heard = operator({"packets": [{"ok": {"grace": 0, "names": ["bomb", "bomb-2"]}}, {"ended": {}}]})
    assert main(["--run", str(run), "kill", "--family", "--grace", "0", "bomb"]) == 0
    assert heard.requests == [{"op": "end_family", "name": "bomb", "grace": 0.0}]
    assert capsys.readouterr().out == "ends bomb, bomb-2\n"

    operator({"error": "memory is a server of the topology"})
    assert main(["--run", str(run), "kill", "--family", "memory"]) == 1
    assert capsys.readouterr().err == "exo: memory is a server of the topology\n"


@pytest.mark.parametrize("other", [["-s", "TERM"], ["--end"]])
def test_families_are_ended_one_way(run: Path, other: list[str]) -> None:
    """With --end no signal can be chosen."""
    try:
        status = main(["--run", str(run), "kill", "--family", *other, "bomb"])
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2


@pytest.mark.parametrize(
    ("patience", "words"),
    [(-1.0, "web has not ended -1 s after its grace of 0 s"), (10.0, "the process server ended meanwhile")],
)
def test_kill_says_that_one_has_not_ended(
    patience: float,
    words: str,
    run: Path,
    operator: Callable[..., Any],
    capsys: Said,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not wait for ever, and not for a process server that is gone."""
    monkeypatch.setattr("exo.kill.PATIENCE", patience)
    operator({"ok": {"grace": 0}}, *([{}] if patience < 0 else []))

    assert main(["--run", str(run), "kill", "--end", "web"]) == 1
    assert words in capsys.readouterr().err


def test_kill_tells_whom_it_did_not_find(
    run: Path, pages: Pages, operator: Callable[..., Any], capsys: Said
) -> None:
    """Neither the process server nor the kernel's table knows the name."""
    pages.publish()
    operator({"error": "nobody is called 'web'"})

    assert main(["--run", str(run), "kill", "web"]) == 1
    assert capsys.readouterr().err == "exo: nobody is called 'web'\n"


def test_serve_starts_a_class_beside_the_plans(
    run: Path, operator: Callable[..., Any], capsys: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Detached, with our directory to find its module in. That it is waited for, system tests show."""
    monkeypatch.setattr("exo.serve.wait_until_it_serves", lambda *_: None)
    heard = operator({"ok": {"thread": 1, "name": "counter"}})

    assert (
        main(["--run", str(run), "serve", "counter:Server", "--name", "counter", "--restart", "always"]) == 0
    )

    request = heard.requests[0]
    assert capsys.readouterr().out == "counter\n"
    assert (request["kind"], request["argv"], request["share"], request["detach"]) == (
        2,
        ["counter:Server"],
        1,
        True,
    )
    assert (request["name"], request["restart"], request["roles"]) == ("counter", "always", [3, 5])
    assert heard.descriptors == [[str(Path.cwd())] * 2]


def test_serve_knows_the_servers_of_the_topology(run: Path, pages: Pages, capsys: Said) -> None:
    """A name that is none is answered with those there are."""
    pages.publish()

    assert main(["--run", str(run), "serve", "nosuch"]) == 1
    assert "only memory, process, scheduler; or give module:Class" in capsys.readouterr().err


def test_a_server_is_found_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FILE.py:Class is a class of that file, wherever it is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for file in ("notes.py", "sub/notes.py"):
        (tmp_path / file).touch()

    assert locate("a.notes:Notes") == (".", "a.notes:Notes")
    assert locate("notes.py:Notes") == (".", "notes:Notes")
    assert locate("sub/notes.py:Notes") == ("sub", "notes:Notes")
    assert locate(f"{tmp_path}/sub/notes.py:Notes") == (f"{tmp_path}/sub", "notes:Notes")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "notes.py",
            "name the class that serves, 'exo serve notes.py:NotesServer'; its classes are Notes, NotesServer",
        ),
        ("notes", "name the class that serves, 'exo serve notes:NotesServer'"),
        (
            "no.py",
            "has no server 'no.py', only memory, process, scheduler; or give module:Class, or FILE.py:Class",
        ),
        ("no.py:Notes", "there is no Python file no.py; write module:Class, or FILE.py:Class"),
        ("/no/notes:Notes", "there is no Python file /no/notes; write module:Class, or FILE.py:Class"),
        ("a.b.py:Notes", "a module has no dot in its name: call a.b.py otherwise"),
        ("notes.py:", "'notes.py:' names no class: write module:Class, or FILE.py:Class"),
        (":Notes", "':Notes' names no class"),
        ("notes:Not es", "'notes:Not es' names no class"),
    ],
)
def test_what_to_type_is_said(
    words: str,
    said: str,
    run: Path,
    pages: Pages,
    capsys: Said,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where something names no class of a file that is there."""
    pages.publish()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.py").write_text("class Notes: ...\nclass NotesServer(Notes): ...\n", encoding="utf-8")
    (tmp_path / "a.b.py").touch()

    assert main(["--run", str(run), "serve", words]) == 1
    assert said in capsys.readouterr().err


def test_run_without_a_program(run: Path, capsys: Said) -> None:
    """Arguments are not missed, and an empty name is told as that."""
    with pytest.raises(SystemExit) as ended:
        main(["--run", str(run), "run"])

    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("the following arguments are required: PROGRAM\n")


def test_run_with_an_empty_name(run: Path, operator: Callable[..., Any], capsys: Said) -> None:
    """As a shell does: nothing was found."""
    operator()

    assert main(["--run", str(run), "run", ""]) == 127
    assert (
        capsys.readouterr().err == "exo: the program's name is empty: write 'exo run -- PROGRAM [ARG]...'\n"
    )


@pytest.fixture
def logs(run: Path) -> Path:
    """Three logs."""
    for name, text in (("memory", "a\nb\nc\n"), ("web", "x\n"), ("quiet", "")):
        (run / "log" / f"{name}.log").write_text(text)
    return run


def test_logs_shows_who_wrote_what(logs: Path, capsys: Said) -> None:
    """The last lines of each."""
    assert main(["--run", str(logs), "logs", "-n", "2"]) == 0
    assert capsys.readouterr().out == "    memory | b\n    memory | c\n       web | x\n"


def test_logs_of_one_are_as_written(logs: Path, capsys: Said) -> None:
    """Nothing is put in front."""
    assert main(["--run", str(logs), "logs", "memory"]) == 0
    assert capsys.readouterr().out == "a\nb\nc\n"


def test_logs_tells_which_there_are(logs: Path, capsys: Said) -> None:
    """For a name that has none."""
    assert main(["--run", str(logs), "logs", "wbe"]) == 1
    assert "there are: memory, quiet, web" in capsys.readouterr().err


def test_the_kernels_log_outlives_a_crash(run: Path, capsys: Said) -> None:
    """It stands beside the run directory, which is gone then."""
    shutil.rmtree(run)
    run.with_suffix(".log").write_text("panic: it was me\n")

    assert main(["--run", str(run), "logs", "kernel"]) == 0
    assert capsys.readouterr().out == "panic: it was me\n"


CHECKS = [
    doctor.Check("Linux", "host", required=True, available=True, detail="6.1", remedy=""),
    doctor.Check(
        "uid", "protection", required=True, available=False, detail="not root", remedy="run as root"
    ),
    doctor.Check("TAP", "feature", required=False, available=False, detail="no tun", remedy="load tun"),
]


def test_doctor_says_how_to_get_the_missing() -> None:
    """And how to do without, where only protections are missing."""
    text = doctor.text(CHECKS)

    assert "protection  uid    MISSING  not root" in text
    assert "feature     TAP    no       no tun" in text
    assert "to get the missing:\n  uid  run as root\n  TAP  load tun\n" in text
    assert text.endswith("'exo up --degraded' boots without the missing protections")
    assert doctor.text(CHECKS[:1]).endswith("every protection is there")


@pytest.mark.parametrize(("available", "status"), [(True, 0), (False, 1)])
def test_doctor_fails_for_what_is_needed_only(
    *, available: bool, status: int, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    """A missing feature is no failure."""
    needed = doctor.Check("uid", "protection", required=True, available=available, detail="", remedy="")
    monkeypatch.setattr(doctor, "protections", lambda: [needed])
    monkeypatch.setattr(doctor, "features", lambda: [CHECKS[2]])

    assert main(["doctor", "--json"]) == status
    assert '"remedy": "load tun"' in capsys.readouterr().out


def test_bench_without_the_benchmarks_says_where_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    """They are not part of an installed package."""
    monkeypatch.setattr("exo.bench.find_spec", lambda _name: None)

    assert main(["bench", "ipc", "--json"]) == 1
    assert "make bench" in capsys.readouterr().err


@pytest.mark.parametrize("shell", SHELLS)
def test_a_completion_knows_every_verb_and_option(shell: str, capsys: Said) -> None:
    """It is made from the parsers."""
    assert main(["completion", shell]) == 0
    text = capsys.readouterr().out

    words = [word.lstrip("-") for verb in VERBS for option in options_of(verb) for word in option.words]
    assert all(word in text for word in (*VERBS, *words))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("exo sta", ["status"]),
        ("exo run --na", ["--name"]),
        ("exo serve --rest", ["--restart"]),
        ("exo completion f", ["fish"]),
        ("exo sched w", ["why"]),
        ("exo sched why wo", ["worker"]),
        ("exo sched why worker --si", ["--since"]),
    ],
)
def test_bash_completes(typed: str, offered: list[str]) -> None:
    """In a real bash."""
    words = typed.split()
    script = (
        "exo() { echo web worker; }\n"
        f"{SHELLS['bash']()}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; _exo; echo ${{COMPREPLY[@]}}"
    )
    found = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)

    assert found.stdout.split() == offered


# ---------------------------------------------------------------------------------------------------- booting


def test_a_second_system_is_refused(run: Path, capsys: Said) -> None:
    """While the first one's kernel lives; its remains are no obstacle."""
    (run / "lock").write_text(f"exokernel {os.getpid()}\n")
    assert main(["--run", str(run), "up", "-d"]) == 1
    assert f"runs at {run} already (process {os.getpid()}): 'exo down' ends it" in capsys.readouterr().err

    (run / "lock").write_text("exokernel 999999999\n")
    launcher.refuse_second(str(run))


def test_a_wrong_topology_is_told_before_anything_is_started(run: Path, capsys: Said) -> None:
    """With the file and the place."""
    config = run / "bad.toml"
    config.write_text("[machine]\nmemory = 1\n")

    assert main(["--run", str(run), "up", "-d", "--config", str(config)]) == 1
    assert capsys.readouterr().err == f"exo: {config}: Expected `str`, got `int` - at `$.machine.memory`\n"


def test_the_last_words_of_a_kernel_are_shown() -> None:
    """And what may help, when it was the confinement."""
    log = (
        "".join(f"line {n}\n" for n in range(20))
        + "exo: no confinement by uid: ..., or list 'uid' in may_lack\n"
    )

    text = str(launcher.failure("the system did not boot", log))

    assert "line 12" not in text
    assert "    line 13\n" in text
    assert text.endswith("'exo up --degraded' goes without it")


def test_the_log_is_a_file_of_ours(run: Path) -> None:
    """In a directory anybody may write to, a link laid out for us is not followed."""
    run.with_suffix(".log").symlink_to(run / "victim")

    with pytest.raises(Trouble, match="cannot write"):
        launcher.open_log(str(run))
    assert not (run / "victim").exists()


def test_the_profile_shows_what_took_how_long() -> None:
    """Each phase since the one before."""
    text = up.profile([("imports", 2_500_000), ("machine", 4_000_000)], 1_000_000)

    assert text.splitlines()[1:] == ["imports       1.5      1.5", "machine       3.0      1.5"]
