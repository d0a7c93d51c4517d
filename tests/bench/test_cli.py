"""The command, on a system of its own."""

from pathlib import Path

import msgspec
import pytest

from bench import cli


@pytest.mark.parametrize(
    "argv",
    [
        ["nonsense"],
        ["ipc", "--only", "nonsense"],
        ["pingpong", "--only", "stub"],
        ["pingpong", "--step", "0"],
        ["ipc", "--rounds", "0"],
        ["ipc", "--cores", "x"],
        ["rings", "--only", "dealer"],
        ["bulk", "--only", "call"],
        ["rings", "--transport", "pigeon"],
    ],
)
def test_a_wrong_command_line_is_refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with status 2 and names what it did not understand."""
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)

    assert ended.value.code == 2
    assert argv[-1] in capsys.readouterr().err


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
def test_every_measure_runs_on_a_system_it_boots(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One round of each gives a line of JSON with its references; afterwards nothing is left of the system."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")

    assert cli.main(["ipc", "--rounds", "1", "--json"]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    measures = ["stub", "transports", "words", "null", "bind", "memory", "spawn"]
    assert [line["measure"] for line in told] == measures
    assert all(line["references"] and line["subject"]["n"] > 0 for line in told)
