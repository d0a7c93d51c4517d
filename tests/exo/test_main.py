"""The command line: verbs, help, and errors in one line."""

from pathlib import Path

import pytest

from exo.__main__ import main
from exo.verbs import VERBS, load, parser
from libexo.errors import ExoError


def test_the_overview_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """Without arguments, as with --help, one sees all there is."""
    assert main([]) == 0
    shown = capsys.readouterr().out

    assert main(["--help"]) == 0
    assert capsys.readouterr().out == shown
    assert all(f"\n  {verb} " in shown for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_teaches(verb: str) -> None:
    """Its help has a description, examples that call it, and a word on each option."""
    text = parser(verb).format_help()

    assert f"exo {verb}" in load(verb).EXAMPLES or verb in ("completion", "down")
    assert load(verb).EXAMPLES in text
    assert len(load(verb).__doc__ or "") > 60
    assert all(action.help for action in parser(verb)._actions if action.option_strings)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["runn"], "did you mean 'run'"),
        (["--run"], "--run needs a directory"),
        (["up", "-d", "--profile"], "leave out -d"),
    ],
)
def test_a_wrong_call_ends_with_2_and_a_hint(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line on standard error says what was wrong."""
    assert main(words) == 2

    said = capsys.readouterr().err
    assert said.startswith("exo: ")
    assert hint in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["ping"],
        ["ping", "memory"],
        ["status"],
        ["mem", "--json"],
        ["sched"],
        ["cpu"],
        ["cpu", "off", "1"],
        ["trace"],
        ["top"],
        ["logs"],
        ["down"],
        ["kill", "x"],
        ["run", "/bin/true"],
        ["serve", "a:B"],
        ["serve", "memory"],
    ],
)
def test_without_a_system_every_verb_says_how_to_start_one(
    words: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, and no traceback."""
    elsewhere = run / "nowhere"

    if words[0] == "serve" and ":" not in words[1]:
        pytest.importorskip("zmq")
    assert main(["--run", str(elsewhere), *words]) == 1

    assert capsys.readouterr().err == (
        f"exo: no system runs at {elsewhere}: start one with 'exo up -d', or name another with --run or EXO_RUN\n"
    )


def test_the_run_directory_can_stand_before_and_behind_the_verb(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one behind is nearer, so it wins."""
    main([f"--run={run}/a", "ps"])
    main(["--run", f"{run}/a", "ps", "--run", f"{run}/b"])

    first, second = capsys.readouterr().err.splitlines()
    assert f"{run}/a:" in first
    assert f"{run}/b:" in second


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (ExoError("the kernel is gone"), 1, "exo: the kernel is gone\n"),
        (
            FileNotFoundError(2, "No such file or directory", "x.toml"),
            1,
            "exo: No such file or directory: x.toml\n",
        ),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_what_goes_wrong_is_told_in_a_line(
    error: BaseException,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Errors a person can act on are no traceback."""

    def fail(_options: object) -> int:
        raise error

    monkeypatch.setattr("exo.ps.main", fail)

    assert main(["ps"]) == status
    assert capsys.readouterr().err == said


def test_our_own_mistakes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug keeps its traceback."""
    monkeypatch.setattr("exo.ps.main", lambda _options: 1 // 0)

    with pytest.raises(ZeroDivisionError):
        main(["ps"])


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    """Where the package is installed, --version prints it."""
    metadata = pytest.importorskip("importlib.metadata")
    try:
        version = metadata.version("exokernel")
    except metadata.PackageNotFoundError:
        pytest.skip("not installed here")

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"exo {version}\n"
