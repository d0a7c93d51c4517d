"""The last deaths of servers, and traced or sleeping ones, as status and ps show them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from exo import kill, serve, view
from exo.__main__ import main
from exo.deaths import TAIL, recent
from exo.system import log_path
from kernel.abi.kip import EnvironmentState
from kernel.abi.obituary import Obituary, cause
from servers.process import ending
from tests.exo.conftest import Pages


def obituary(name: str, at: int, asked: int = 0) -> Obituary:
    return Obituary(name=name, thread=at, at_ns=at, cause="SIGKILL", status=-9, next_try=0.0, asked=asked)


@pytest.fixture
def logs(run: Path) -> Path:
    """Logs of the process server and of the kernel, each with deaths between other lines."""
    folder = run / "log"
    folder.mkdir(exist_ok=True)
    deaths = [obituary("memory", at).record for at in range(5)]
    (folder / "process.log").write_text("\n".join([" " * TAIL, *deaths, "obituary {cut", "other"]) + "\n")
    Path(log_path(str(run))).write_text(f"{obituary('process', 3).record}\n")
    return folder


def test_the_last_come_from_all_logs(run: Path, logs: Path) -> None:
    """In the order in which they happened; what is no record is passed over."""
    assert logs.is_dir()
    assert [(each.name, each.at_ns) for each in recent(str(run), 3)] == [
        ("memory", 3),
        ("process", 3),
        ("memory", 4),
    ]


def test_status_shows_them(run: Path, logs: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    """As text and as JSON."""
    assert logs.is_dir()
    pages.publish()
    main(["--run", str(run), "status"])
    assert capsys.readouterr().out.count("died        ") == 3
    main(["--run", str(run), "status", "--json"])

    assert [each["name"] for each in json.loads(capsys.readouterr().out)["deaths"]] == [
        "memory",
        "process",
        "memory",
    ]


def test_status_shows_apart_who_was_asked_to_end(
    run: Path, logs: Path, pages: Pages, capsys: pytest.CaptureFixture[str]
) -> None:
    """They did not die, however many there are."""
    asked = [obituary("web", at, asked=9).record for at in range(100, 110)]
    with (logs / "process.log").open("a") as log:
        log.write("\n".join(asked) + "\n")
    pages.publish()
    main(["--run", str(run), "status"])
    text = capsys.readouterr().out
    main(["--run", str(run), "status", "--json"])
    found = json.loads(capsys.readouterr().out)

    assert (text.count("died        "), text.count("ended       web, ")) == (3, 3)
    assert text.count(" ago, as asked: SIGKILL") == 3
    assert [each["at_ns"] for each in found["ended"]] == [107, 108, 109]
    assert [each["name"] for each in found["deaths"]] == ["memory", "process", "memory"]


def test_nobody_died(run: Path) -> None:
    """Without logs there are none."""
    assert recent(str(run), 3) == []


def test_a_record_is_read_back() -> None:
    """A line of the log with a record is that record again; another is none."""
    made = obituary("memory", 7)

    assert Obituary.read(f"12:00 {made.record}") == made
    assert Obituary.read(made.line) is None
    assert made.line == "memory ended (SIGKILL): restart 1 at once"
    assert obituary("memory", 7, asked=9).line == "memory ended (SIGKILL, as asked): restart 1 at once"


@pytest.mark.parametrize(
    ("status", "fault", "detail", "text"),
    [
        (0, 0, "", "exit status 0"),
        (-11, 0, "", "SIGSEGV"),
        (-63, 0, "", "signal 63"),
        (-9, 16, "why", "it did not answer its heartbeat: why"),
        (-9, 99, "", "fault 99"),
    ],
)
def test_causes(status: int, fault: int, detail: str, text: str) -> None:
    """An end is told by its fault, else by its signal, else by its status."""
    assert cause(status, fault, detail) == text


def test_who_is_traced(pages: Pages, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a debugger has is shown so, whatever the kernel's table says of it."""
    pages.environment(0, "memory")
    pages.publish()
    [row] = view.open_kip(str(run)).environments()
    row = row._replace(pid=os.getpid())
    assert view.state(row) == "ready"
    monkeypatch.setattr(view, "_is_traced", lambda pid: pid == os.getpid())

    assert view.state(row) == "traced"


def test_a_grace_is_passed_on(run: Path, operator: Callable[..., Any]) -> None:
    """The value of --grace goes to the process server, which bounds it."""
    heard = operator({"packets": [{"ok": {"grace": 0.5}}, {"ended": {}}]})

    assert main(["--run", str(run), "kill", "--end", "--grace", "0.5", "web"]) == 0
    assert heard.requests == [{"op": "end", "name": "web", "grace": 0.5}]
    assert kill.MAX_GRACE == ending.MAX_GRACE


@pytest.mark.parametrize("words", [["--grace", "1", "web"], ["--end", "--grace", "-1", "web"]])
def test_graces_that_are_none(run: Path, words: list[str]) -> None:
    """A grace is for --end and --family, and no less than nothing."""
    try:
        status = main(["--run", str(run), "kill", *words])
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2


def test_a_heartbeat_is_asked_for(
    run: Path, operator: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`exo serve --heartbeat --share 2` says so to the process server."""
    monkeypatch.setattr("exo.serve.wait_until_it_serves", lambda *_: None)
    heard = operator({"ok": {"thread": 1, "name": "counter"}})

    assert main(["--run", str(run), "serve", "counter:Server", "--heartbeat", "--share", "2"]) == 0
    [request] = heard.requests
    assert (request["heartbeat"], request["share"], request["grace"]) == (True, 2, 5.0)
    assert request["kind"] == serve.SERVER


SLEEPER = "import threading, sys; {start}print('ready', flush=True); sys.stdin.read()"
BUSY = "threading.Thread(target=lambda: [0 for _ in iter(int, 1)], daemon=True).start(); "
CHILD = "import subprocess; subprocess.Popen([sys.executable, '-c', 'while True: pass']); "


@pytest.mark.parametrize(("start", "shown"), [("", "blocked"), (BUSY, "running"), (CHILD, "running")])
def test_who_has_a_processor_and_sleeps(pages: Pages, run: Path, start: str, shown: str) -> None:
    """The only member of a plan has the processor, and runs if one of its threads does, or of its processes."""
    pages.environment(0, "memory")
    pages.publish()
    [row] = view.open_kip(str(run)).environments()
    program = subprocess.Popen(
        [sys.executable, "-c", SLEEPER.format(start=start)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert program.stdout is not None
    program.stdout.readline()
    row = row._replace(pid=program.pid, state=EnvironmentState.RUNNING)
    found = (view.state(row) for _ in range(10_000))  # it may be on its way into the sleep
    seen = next((state for state in found if state == shown), "other")
    elsewhere = [
        view.state(row._replace(state=state)) for state in (EnvironmentState.READY, EnvironmentState.DEAD)
    ]
    os.killpg(program.pid, signal.SIGKILL)
    program.communicate()

    assert (seen, elsewhere) == (shown, ["ready", "dead"])
    assert view.state(row) == "running"
