"""`exo press`: what it asks, what it prints, and what is wrong with a command line."""

import json

import pytest

from exo import view
from exo.__main__ import main
from exo.press import ask, found, grace, text
from exo.system import Trouble
from libexo.environment import Environment
from servers.memory.api import Memory, Pressed, Taken
from tests.exo.conftest import Pages
from tests.servers.memory.presses import extents, frames_of, idle, started
from tests.servers.rig import command, servers

Said = pytest.CaptureFixture[str]
PRESSED = Pressed(60, 10, 30, 8, [Taken(100 + at, 3, 40 if not at else -1) for at in range(10)])


def test_it_asks_for_so_many_to_come_back() -> None:
    """As many as were named, of what a press counts; and never more than there are."""

    def server(env: Environment) -> tuple[object, ...]:
        memory, thread = Memory.connect(env), env.lookup("client")
        said: list[object] = [ask(memory, "client", thread, 6, 0.1)]
        for name, pages in (("client", 11), ("other", 1)):
            with pytest.raises(Trouble) as refused:
                ask(memory, name, env.lookup(name), pages, 0.1)
            said.append(str(refused.value))
        return tuple(said)

    def client(env: Environment) -> None:
        extents(env, 4, 4, 4, 4)
        idle(env)

    with servers() as system:
        started(system, client)
        started(system, idle, "other")
        said = command(system, server)
        assert isinstance(said, tuple)
        (had, pressed), more, nothing = said

        assert (had, pressed.frames, pressed.taken, len(pressed.extents)) == (16, 8, 8, 2)
        assert frames_of(system, "client") == 8
        assert more == "client has 8 frames: ask for 8 at most, not for 11"
        assert nothing == "other holds no memory: there is nothing to give back"


def test_a_table() -> None:
    """What was given back, taken, spared, and is left; the last extents by their frames."""
    assert text("worker", 40, 100, PRESSED).splitlines() == [
        "worker: asked for 40 of 100 frames",
        "            FRAMES   MEMORY",
        "given back      10   40 KiB",
        "taken           30  120 KiB",
        "spared           8   32 KiB",
        "has now         60  240 KiB",
        "taken: 102+3, 103+3, 104+3, 105+3, 106+3, 107+3, 108+3, 109+3, and 2 before",
    ]
    assert text("worker", 40, 100, Pressed(60, 40, 0)).splitlines()[-1].split()[:3] == ["has", "now", "60"]


def test_its_json_is_stable(capsys: Said) -> None:
    """Numbers of frames; an extent whose contents were saved names the place."""
    view.print_json(found("worker", 40, 0.5, 100, PRESSED))
    said = json.loads(capsys.readouterr().out)

    assert said["extents"][0] == {"first": 100, "frames": 3, "saved_at": 40}
    assert said["extents"][1] == {"first": 101, "frames": 3, "saved_at": None}
    assert {key: value for key, value in said.items() if key != "extents"} == {
        "name": "worker", "asked": 40, "within": 0.5, "had": 100, "has": 60, "given": 10, "taken": 30, "spared": 8,
    }  # fmt: skip


@pytest.mark.parametrize(
    "words", [["x", "0"], ["x", "-3"], ["x", "many"], ["x"], ["x", "1", "--within", "61"]]
)
def test_wrong_calls(words: list[str], capsys: Said) -> None:
    """A number that is none, or too large, is a wrong call, and nobody is asked."""
    with pytest.raises(SystemExit) as ended:
        main(["press", *words])

    assert ended.value.code == 2
    assert "exo press: error: " in capsys.readouterr().err


def test_seconds() -> None:
    """From none to a minute."""
    assert [grace(each) for each in ("0", "0.5", "60")] == [0.0, 0.5, 60.0]


def test_an_unknown_name(run: "object", pages: Pages, capsys: Said) -> None:
    """Is told before anything is attached."""
    pages.publish()

    assert main(["--run", str(run), "press", "nobody", "1"]) == 1
    assert capsys.readouterr().err == "exo: no environment is called nobody: 'exo ps' lists them\n"
