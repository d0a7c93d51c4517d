"""The means of an ordinary user of this host, for tests that are root."""

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.privileges import may_give_files
from tests.system.booted import ROOT, System, boot

NOBODY = 65534
TOPOLOGY = (ROOT / "system.toml").read_text().replace("may_lack = []", 'may_lack = ["uid"]')
TRIAL = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import exo, zmq, landlockpy'], check=True)"


def as_user(uid: int = NOBODY) -> list[str]:
    """Return what to put before a command so that *uid* does it."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def python() -> list[str]:
    """Return how *NOBODY* calls a Python that can import what we can; skips the test where there is none.

    Ours may stand below root's home. The system's own, of the same version, can then use our libraries.
    """
    libraries = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    system = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for words in ([sys.executable], ["env", f"PYTHONPATH={libraries}", system]):
        # By way of itself: setpriv executes with rights that what it executes has not.
        tried = [*as_user(), *words, "-c", TRIAL]
        if subprocess.run(tried, cwd=ROOT, capture_output=True, check=False).returncode == 0:
            return words
    pytest.skip("no other uid can call a Python that finds our libraries")


@contextmanager
def booted_by_a_user() -> Iterator[System]:
    """Give a system that an ordinary user booted, with one uid for all."""
    if not may_give_files():
        pytest.skip("needs CAP_CHOWN, to give the user a directory")
    assert "uid" in TOPOLOGY
    with boot(TOPOLOGY, as_user(), NOBODY, python()) as system:
        yield system
