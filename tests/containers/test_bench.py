"""The cost of containers: a typed call between two of them, beside one between two processes of the host."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from bench.harness import Measure, Sampled, Worker
from bench.harness import run as measure
from bench.report import table
from tests.containers.engine import RESTRICTED, ROOT, Deployment, run
from tests.system.booted import PATIENCE, System, boot, wait_until

pytestmark = [pytest.mark.containers, pytest.mark.slow]

ROUNDS, BLOCK = 30, 200
CALLED, CALLER = 10_302, 10_303
VERSION = "import platform; print(platform.python_version())"


def interpreter(version: str) -> str:
    """Return the host's Python that is the image's, or else the one of the tests."""
    same = [
        path
        for path in (sys.executable, "/usr/bin/python3")
        if Path(path).exists() and run([path, "-c", VERSION]).stdout == version
    ]
    return same[0] if same else sys.executable


@contextmanager
def worker(command: Sequence[str], environ: dict[str, str]) -> Iterator[Worker]:
    """A process that measures, in a session of its own, as containers have."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, cwd=ROOT, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with closing(Worker(process.stdin, process.stdout, process.pid, process.terminate)) as made:
            yield made


@contextmanager
def on_the_host(system: System, python: str) -> Iterator[Worker]:
    """Two processes that attach to a system of the host."""
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT}:{libraries}",
        "EXO_RUN": str(system.run_directory),
        "EXO_NAME": "echo",
        "BENCH_ECHO": "echo",
    }
    with subprocess.Popen(
        [python, "-m", "bench.programs.echo"], env=environ, cwd=ROOT, start_new_session=True
    ) as server:
        try:
            assert wait_until(lambda: "echo" in system.kip.names())
            with worker([python, "-m", "bench.programs.caller"], environ) as made:
                yield made
        finally:
            server.terminate()
            server.wait(PATIENCE)


@contextmanager
def in_containers(deployment: Deployment) -> Iterator[Worker]:
    """Two containers that attach to the deployment."""
    deployment.member("echo", CALLED, "env", "EXO_NAME=echo", "python", "-m", "bench.programs.echo")
    assert wait_until(lambda: deployment.exo("ping", "echo", check=False).returncode == 0)
    command = [
        "docker",
        "run",
        "--rm",
        "-i",
        "--name",
        deployment.named("caller"),
        f"--user={CALLER}:{CALLER}",
    ]
    command += [*RESTRICTED, f"--pid=container:{deployment.service('kernel')}"]
    command += [f"--volume={deployment.project}_run:/run/exo:ro", "--env=BENCH_ECHO=echo", "exokernel"]
    with worker([*command, "python", "-m", "bench.programs.caller"], dict(os.environ)) as made:
        yield made


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to boot a system on the host")
def test_what_containers_cost(deployment: Deployment, capsys: pytest.CaptureFixture[str]) -> None:
    """Both are measured in turns in one run, and the ratio is printed; it is not judged, for hosts differ."""
    version = deployment.inside(deployment.service("kernel"), "python", "-c", VERSION).stdout
    python = interpreter(version)
    with boot() as system, ExitStack() as stack:
        host = Sampled("two processes of the host", stack.enter_context(on_the_host(system, python)), "stub")
        inside = Sampled("two containers", stack.enter_context(in_containers(deployment)), "stub")
        result = measure(
            Measure("containers", "64-byte call through typed stubs", inside, [host], BLOCK), ROUNDS
        )

    with capsys.disabled():
        print(f"\n{table(result)}\n  Python of the host: {python}")  # noqa: T201 - the figures are the point
    assert result.figures.n == ROUNDS * BLOCK
