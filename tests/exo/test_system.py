"""Which system is meant."""

from pathlib import Path

import pytest

import libexo
from exo.system import log_path, no_system, run_directory


@pytest.mark.parametrize(
    "variables",
    [{"EXO_RUN": "/a/b"}, {"XDG_RUNTIME_DIR": "/run/user/7"}, {}, {"EXO_RUN": "", "XDG_RUNTIME_DIR": ""}],
)
@pytest.mark.parametrize("uid", [0, 1000])
def test_it_is_the_one_libexo_attaches_to(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], uid: int
) -> None:
    """The light copy of the rule gives what the library's gives."""
    for name in ("EXO_RUN", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("os.getuid", lambda: uid)

    assert Path(run_directory()) == libexo.run_directory()


def test_the_option_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """--run wins over EXO_RUN, and is made absolute."""
    monkeypatch.setenv("EXO_RUN", "/a")
    monkeypatch.chdir("/tmp")

    assert run_directory("x/../b") == "/tmp/b"


def test_the_error_says_what_to_do() -> None:
    """Without a system the error says how to start one."""
    assert "exo up -d" in str(no_system("/a"))
    assert log_path("/a/run") == "/a/run.log"
