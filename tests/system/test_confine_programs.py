"""Programs and foreign executables under confinement: what goes on working, and what does not."""

import ctypes
import dataclasses
import os
import socket
import threading
from contextlib import closing

import pytest
import zmq

from libexo.launch import confine
from libexo.launch.confine.forked import ChildError
from tests.system.confined import (
    FOREIGN,
    OTHER,
    UID,
    background,
    confined,
    directory,
    held,
    outcomes,
    put_on_first,
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
    # pytest's watchdog is a thread; the children forked here never meet it.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def test_threads_and_callbacks() -> None:
    """A confined program makes threads, and C calls back into it."""

    def work() -> str:
        seen: list[int] = []
        function = ctypes.CFUNCTYPE(None, ctypes.c_int)(seen.append)
        thread = threading.Thread(target=function, args=(5,))
        thread.start()
        thread.join()
        return str(seen)

    assert confined(work) == "[5]"


def test_a_program_is_one_process() -> None:
    """A program cannot fork, spawn, execute or leave its process group, nor open a network socket."""
    said = confined(
        lambda: outcomes(
            fork=os.fork,
            spawn=lambda: os.posix_spawn("/bin/true", ["true"], {}),
            execute=lambda: os.execv("/bin/true", ["true"]),
            session=os.setsid,
            group=lambda: os.setpgid(0, 0),
            inet=socket.socket,
            inet6=lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
            netlink=lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
        )
    )

    assert {word.split("=")[1] for word in said.split()} == {"EPERM"}


def test_zeromq() -> None:
    """A confined ROUTER adopts a listening socket it inherited, and a confined DEALER talks to it by name."""
    with directory() as place, socket.socket(socket.AF_UNIX) as listener:
        path = place / "1"
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen()
        policy = confine.Policy(connectable=(place,))

        def serve() -> str:
            with zmq.Context() as context, context.socket(zmq.ROUTER) as router:
                router.setsockopt(zmq.USE_FD, listener.fileno())
                router.bind(f"ipc://{path}")
                router.send_multipart(router.recv_multipart())
                return router.recv().hex()

        def ask() -> str:
            with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
                dealer.connect(f"ipc://{path}")
                dealer.send(b"hello")
                return dealer.recv().decode()

        with closing(confine.prepare(policy)) as prepared, background(put_on_first(prepared, serve)):
            assert confined(ask, policy, OTHER) == "hello"


# ------------------------------------------------------------------------------------------ foreign programs


def run_foreign(*command: str) -> str:
    """Return what a foreign program prints, executed confined."""
    reading, writing = os.pipe()

    def work() -> str:
        os.dup2(writing, 1)
        confine.execute(command[0], command, {"PATH": "/usr/bin:/bin"})

    with held(reading):
        with held(writing):
            confined(work, FOREIGN)
        return os.read(reading, 4096).decode()


def test_a_foreign_program_runs() -> None:
    """An executable of the host runs under its uid, forks and makes pipes, and keeps what holds it."""
    script = "echo a | cat; grep -E '^(Uid|NoNewPrivs|Seccomp):' /proc/self/status | tr -s '\\t\\n' ' '"

    assert (
        run_foreign("/bin/sh", "-c", script) == f"a\nUid: {UID} {UID} {UID} {UID} NoNewPrivs: 1 Seccomp: 2 "
    )


def test_a_foreign_program_stays_in_its_group() -> None:
    """No child of a foreign program leaves the process group by which all of them are stopped."""
    assert "setsid: setsid failed" in run_foreign("/bin/sh", "-c", "setsid true 2>&1; true")


@pytest.mark.parametrize("started", ["executable", "script"])
def test_a_closed_directory_is_named(started: str) -> None:
    """An executable, or a script's interpreter, out of the uid's reach is an error naming the directory."""
    with directory(0o700) as private, directory() as place:
        hidden = private / "program"
        hidden.write_text("#!/bin/sh\n")
        script = place / "script"
        script.write_text(f"#!{hidden}\n")
        for file in (hidden, script):
            file.chmod(0o755)
        policy = dataclasses.replace(FOREIGN, readable=(place,))
        target = str(script if started == "script" else hidden)

        with pytest.raises(ChildError, match=f"{private} is closed to uid {UID} .mode 700., and {hidden} is"):
            confined(lambda: confine.execute(target, [target], {}), policy)


def test_a_file_outside_the_policy() -> None:
    """An executable the uid could run, in a directory the policy does not give, is an error that says so."""
    with directory() as place:
        program = place / "program"
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)

        with pytest.raises(ChildError, match="outside the directories this environment may execute from"):
            confined(lambda: confine.execute(str(program), ["program"], {}), FOREIGN)


def test_a_missing_executable() -> None:
    """A missing program is named."""
    with pytest.raises(ChildError, match="no /no/such/program"):
        confined(lambda: confine.execute("/no/such/program", ["program"], {}), FOREIGN)
