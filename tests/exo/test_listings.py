"""The output of ps, status, mem, sched and top for a system laid out by the test."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exo.__main__ import main
from kernel.abi.budget import Item
from kernel.abi.ids import FIRST_PROGRAM, thread_id
from kernel.abi.kip import Counter, EnvironmentState, Head
from tests.exo.conftest import Pages

Print = Callable[..., str]


@pytest.fixture
def printed(run: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> Print:
    """The output of a command line, for a system with two servers and two programs."""
    for number, name in enumerate(("memory", "process")):
        pages.environment(number, name, traps=10 + number)
    pages.environment(
        2, "burn", EnvironmentState.RUNNING, cpu=0, thread=160 << 32 | 1, consumed=3_000_000, frames=16
    )
    pages.environment(3, "gone", EnvironmentState.DEAD, thread=161 << 32 | 1, fault=4)
    pages.frames(0, 16, 2)
    pages.frames(900, 1, 0)
    pages.head(Head.FREE_FRAMES, 1007)
    pages.head(Head.COUNTERS + Counter.TRAPS, 21)
    pages.head(Head.LONGEST_TURN, 1_500_000)
    pages.head(Head.LONGEST_TURN_TRAP, 0x42)
    pages.plan(1, 2, (2, 30_000), (0, 10_000))
    pages.publish()

    def call(*words: str) -> str:
        assert main(["--run", str(run), *words]) == 0
        return capsys.readouterr().out

    return call


def test_ps_lists_them_by_thread(printed: Print) -> None:
    """A row each, and the fault of one that had one below."""
    lines = printed("ps").splitlines()

    assert lines[0].split()[:5] == ["NAME", "THREAD", "PID", "UID", "STATE"]
    assert [line.split()[0] for line in lines[1:5]] == ["memory", "process", "burn", "gone"]
    assert lines[3].split()[:8] == ["burn", "160.1", "0", "1002", "running", "3.00", "ms", "64"]
    assert lines[5] == "gone was ended by the kernel: the caller does not read its replies"


def test_ps_gives_names_for_completion(printed: Print) -> None:
    """One a line."""
    assert printed("ps", "--names") == "memory\nprocess\nburn\ngone\n"


def test_ps_shows_budgets(printed: Print, pages: Pages) -> None:
    """Tables that fit a terminal: what is used, and how much may be; the same numbers as JSON."""
    pages.budget(2, {Item.HANDLES: (7, 1024), Item.KEPT: (2048, 1 << 20), Item.DESCRIPTORS: (9, 65536)})
    pages.publish()
    lines = printed("ps", "--budget").splitlines()
    found = json.loads(printed("ps", "--budget", "--json"))

    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line] == 3 * ["NAME", "memory", "process", "burn", "gone"]
    assert lines[3].split()[:3] == ["burn", "7/1024", "9/64k"]
    assert lines[9].split()[:2] == ["burn", "2048/1024k"]
    assert list(found[2]["budget"]) == [item.name.lower() for item in Item]
    assert found[2]["budget"]["kept"] == {"used": 2048, "limit": 1 << 20}


@pytest.fixture
def related(pages: Pages) -> None:
    """A program with a child, and two whose parent has ended; numbers of families are those of their first."""
    first, orphans = 9 << 12 | 162, 8 << 12 | 170
    for number, name, of, at in ((4, "late", orphans, 40), (5, "old", orphans, 30), (6, "child", first, 20)):
        pages.environment(
            number, name, thread=thread_id(FIRST_PROGRAM + number), started=at, family=of, frames=2
        )
    pages.environment(7, "parent", thread=thread_id(162, 3), started=50, family=first, frames=3)
    pages.frames(100, 4, 6)
    pages.frames(104, 4, 7)


def test_ps_shows_families(printed: Print, related: None, pages: Pages) -> None:
    """Each below its first: the first started, or its successor, or the oldest of the orphans."""
    pages.publish()
    lines = printed("ps", "--families").splitlines()
    found = {each["name"]: each["family"] for each in json.loads(printed("ps", "--json"))}

    names = [line[:8].rstrip() for line in lines[1:]]
    assert names[names.index("parent") :][:2] == ["parent", "  child"]
    assert names[names.index("old") :][:2] == ["old", "  late"]
    assert found["memory"] is None
    assert [found[name] for name in ("parent", "child", "old", "late")] == ["parent", "parent", "old", "old"]


def test_memory_of_families(printed: Print, related: None, pages: Pages) -> None:
    """A family's sum is shown in `ps --budget`, and in `mem` if several members have memory."""
    pages.publish()
    lines = printed("ps", "--budget").splitlines()

    assert next(line.split() for line in reversed(lines) if line.startswith("child")) == [
        "child", "8", "KiB", "parent", "20", "KiB",
    ]  # fmt: skip
    assert "parent and its descendants have 32 KiB in all\n" in printed("mem")


def test_status_has_stable_keys(printed: Print, run: Path) -> None:
    """Scripts rely on them."""
    found = json.loads(printed("status", "--json"))

    assert set(found) == {
        "run",
        "state",
        "pid",
        "uptime_ns",
        "processors",
        "frames",
        "free_frames",
        "pressure",
        "environments",
        "servers",
        "counters",
        "deaths",
        "ended",
        "failing",
        "turns",
    }
    assert found["run"] == str(run)
    assert found["servers"] == {"memory": "ready", "process": "ready"}
    assert found["counters"]["traps"] == 21
    assert (found["turns"]["longest_ns"], found["turns"]["longest_trap"]) == (1_500_000, "Revoke")


def test_status_sums_up(printed: Print) -> None:
    """Servers, living programs, memory."""
    text = printed("status")

    assert (
        "servers     memory ready, process ready\nprograms    1\nmemory      3.93 MiB of 4 MiB free" in text
    )
    assert "busy        at most 1.50 ms at a time, for Revoke\n" in text
    assert "21 traps" in text


def test_status_of_a_system_that_is_not_ready_is_1(
    run: Path, pages: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a script can wait for it."""
    pages.environment(0, "memory", EnvironmentState.STARTING)
    pages.publish()

    assert main(["--run", str(run), "status"]) == 1
    assert "memory starting" in capsys.readouterr().out


def test_a_dead_server_is_no_program(run: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    """A server whose record is kept is listed as dead; the system is not whole then."""
    pages.environment(0, "memory", EnvironmentState.DEAD)
    pages.environment(1, "web", thread=thread_id(FIRST_PROGRAM))
    pages.publish()

    assert main(["--run", str(run), "status"]) == 1
    assert "memory dead\nprograms    1\n" in capsys.readouterr().out


def test_mem_says_who_has_what_and_where(printed: Print) -> None:
    """Most first; a letter in the picture for each stretch of frames."""
    text = printed("mem")

    assert [line.split()[:3] for line in text.splitlines()[1:4]] == [
        ["A", "burn", "16"],
        ["B", "memory", "1"],
        ["·", "free", "1007"],
    ]
    assert text.splitlines()[5:] == [
        "       0  " + "A" * 16 + "·" * 48,
        "          (832 free)",
        "     896  ····B" + "·" * 59,
        "          (64 free)",
        "          a letter is 1 frame, 4 KiB",
    ]
    assert json.loads(printed("mem", "--json")) == {
        "frames": 1024,
        "free_frames": 1007,
        "pressure": None,
        "users": [
            {"name": "burn", "frames": 16, "family": None},
            {"name": "memory", "frames": 1, "family": None},
        ],
        "extents": [],
    }


@pytest.mark.parametrize(
    ("free", "level", "said"),
    [
        (64, "none", ""),
        (63, "low", "pressure low: programs above their share are asked until 512 KiB are free\n"),
        (32, "high", "pressure high: what is free, up to 128 KiB, is for servers\n"),
    ],
)
def test_memory_that_is_short(
    printed: Print, pages: Pages, run: Path, free: int, level: str, said: str
) -> None:
    """`mem` and `status` say how near the end of memory is, by the marks of the topology."""
    text = '[machine]\nmemory = "4 MiB"\n[server.memory]\nmodule = "servers.memory"\nthread = 96\n'
    (run / "system.toml").write_text(f'{text}arguments = ["high=512 KiB"]\n', encoding="utf-8")
    pages.head(Head.FREE_FRAMES, free)
    pages.publish()

    assert [json.loads(printed(verb, "--json"))["pressure"] for verb in ("mem", "status")] == [level] * 2
    for verb in ("mem", "status"):
        shown = printed(verb)
        assert (said in shown, "pressure" in shown) == (True, bool(said))


def test_sched_draws_the_plan(printed: Print) -> None:
    """Lengths as the slices are."""
    text = printed("sched")

    assert text.startswith(
        "fallback: nobody is called 'scheduler': unless another plans, the kernel goes round\n\n"
        "processor 0 (host core 1): burn has it; a round is 40 ms\n|" + "A" * 48 + "|" + "B" * 16 + "|"
    )
    assert "A  burn    30 ms  75.0 %" in text
    assert json.loads(printed("sched", "--json")) == [
        {
            "processor": 0,
            "core": 1,
            "running": "burn",
            "slices": [{"name": "burn", "us": 30000}, {"name": "memory", "us": 10000}],
            "reserved": [],
            "policy": "",
            "fallback": "nobody is called 'scheduler': unless another plans, the kernel goes round",
        }
    ]


def test_an_empty_plan_is_told(run: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to draw."""
    pages.publish()

    assert main(["--run", str(run), "sched"]) == 0
    assert capsys.readouterr().out == "processor 0 (host core 0): nobody has it; the plan is empty\n"


def test_top_prints_once_into_a_pipe(printed: Print) -> None:
    """Without a second look there is no rate."""
    lines = printed("top").splitlines()

    assert lines[0].startswith("up for ")
    assert lines[3].split()[:3] == ["memory", "ready", "-"]


def test_top_shows_what_came_since(printed: Print) -> None:
    """Asked to look twice, it knows rates."""
    lines = printed("top", "--count", "2", "--interval", "0.01").splitlines()

    assert [line.split()[2] for line in lines[-4:]] == ["0.0"] * 4
