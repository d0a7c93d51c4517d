"""The operators' console, from the operator's side."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo.console import Console, encode
from exo.system import Trouble

WORDS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(WORDS | st.integers() | st.booleans(), st.lists)


@given(st.dictionaries(WORDS, VALUES))
def test_what_is_sent_is_json(value: dict[str, Any]) -> None:
    """Any request reads back as it was."""
    assert json.loads(encode(value)) == value


def test_a_request_carries_its_descriptors(run: Path, operator: Callable[..., Any]) -> None:
    """They arrive as open files, with the request they belong to."""
    heard = operator({"ok": {"thread": 1}})
    with (run / "file").open("w") as file:
        console = Console(str(run))
        answer = console.ask("run", [file.fileno()], roles=[1], name='q"\\\n')
        console.close()

    assert answer == {"thread": 1}
    assert heard.requests == [{"op": "run", "roles": [1], "name": 'q"\\\n'}]
    assert heard.descriptors == [[str(run / "file")]]


def test_a_refusal_is_told(run: Path, operator: Callable[..., Any]) -> None:
    """With the server's own words."""
    operator({"error": "nobody is called 'x'"})
    console = Console(str(run))

    with pytest.raises(Trouble, match="nobody is called 'x'"):
        console.ask("kill", name="x", signal=9)
    console.close()


def test_a_server_that_hangs_up_is_told(run: Path, operator: Callable[..., Any]) -> None:
    """A wait for an answer does not last for ever."""
    operator()
    console = Console(str(run))

    with pytest.raises(Trouble, match="process server is gone"):
        console.ask("kill", name="x", signal=9)
    console.close()


def test_a_system_whose_process_server_is_away_is_called_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be on its way back; after a while one gives up, and says where to look."""
    (run / "kip").touch()
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)

    with pytest.raises(Trouble, match="exo logs process"):
        Console(str(run))

    assert sum(waited) == pytest.approx(5.0)


def test_a_path_too_long_is_told() -> None:
    """The host's limit on sockets is no traceback."""
    with pytest.raises(Trouble, match="cannot reach the system"):
        Console("/tmp/" + "x" * 200)
