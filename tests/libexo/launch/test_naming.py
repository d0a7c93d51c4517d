"""Modules that are imported through a descriptor have their real names in tracebacks."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys, traceback, warnings
from libexo.launch.naming import import_from
here = f"/proc/self/fd/{{os.open({place!r}, os.O_PATH)}}"
import_from(here)
import package.inner, package
print(package.inner.__file__.removeprefix(here), package.__path__[0].removeprefix(here))
for fail in (package.inner.fail, package.inner.Thing().fail):
    try:
        fail()
    except ValueError as error:
        print("".join(traceback.format_exception(error)))
"""
INNER = """
def fail():
    return [raise_it() for _ in range(1)]

def raise_it():
    raise ValueError("as asked")

class Thing:
    fail = lambda self: fail()
"""


def test_tracebacks_name_the_real_file(tmp_path: Path) -> None:
    """With their lines, freshly compiled or not; data beside the file is found through the descriptor still."""
    inner = tmp_path / "package" / "inner.py"
    inner.parent.mkdir()
    inner.with_name("__init__.py").touch()
    inner.write_text(INNER, encoding="utf-8")
    words = [sys.executable, "-c", SCRIPT.format(place=str(tmp_path))]
    first, second = (subprocess.run(words, capture_output=True, text=True, check=True) for _ in range(2))

    assert first.stdout == second.stdout
    assert first.stdout.startswith("/package/inner.py /package\n")
    assert first.stdout.count(f'File "{inner}", line 6, in raise_it\n    raise ValueError("as asked")') == 2
    assert f'File "{inner}", line 9, in <lambda>' in first.stdout
    assert "/proc/self/fd" not in first.stdout
