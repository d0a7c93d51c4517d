"""The ledger of `system` tests, and the seed: shown on a small suite that a pytest of its own runs."""

import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).with_name("conftest.py")
SUITE = """
    import os, subprocess, sys, pytest

    kept = []

    def start():
        return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)

    @pytest.mark.system
    def test_tidy():
        with start() as child:
            child.communicate(b"x")

    @pytest.mark.system
    def test_descriptor():
        kept.append(os.open("/", os.O_RDONLY))

    @pytest.mark.system
    def test_child():
        kept.append(start())
        kept[-1].stdin.close()
        kept[-1].stdin = None
        kept.append(subprocess.Popen(["sleep", "60"]))

    def test_unmarked():
        kept.append(os.open("/", os.O_RDONLY))

    def test_seed(seed):
        assert seed != 7
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("suite")
    impatient = CONFTEST.read_text(encoding="utf-8").replace("SETTLE_SECONDS = 3.0", "SETTLE_SECONDS = 0.1")
    (folder / "conftest.py").write_text(impatient, encoding="utf-8")
    (folder / "test_suite.py").write_text("if True:" + SUITE, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = system\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rA", "--seed=7"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout


@pytest.mark.slow
@pytest.mark.parametrize("test", ["test_tidy", "test_unmarked"])
def test_who_gives_everything_back_passes(output: str, test: str) -> None:
    """A test that is tidy, or that is not marked, passes."""
    assert f"PASSED test_suite.py::{test}" in output
    assert f"ERROR test_suite.py::{test}" not in output


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "ERROR test_suite.py::test_descriptor - Failed: the test did not give back",
        "left open: /\n",
        "ERROR test_suite.py::test_child - Failed: the test did not give back",
        "process left behind: alive",
        "sleep 60\n",
        "repeat with: pytest --seed=7 'test_suite.py::test_seed'",
    ],
)
def test_what_is_left_behind_is_named(output: str, line: str) -> None:
    """Descriptors, processes and the seed of a failure stand in the report."""
    assert line in output
