"""Files of the host, mapped by programs: those of the directories that they were given, and no others."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.command import Command, place

pytest.importorskip("numpy")
pytestmark = [
    pytest.mark.system,
    pytest.mark.beside,
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
]

PROGRAM = """
import errno, os, sys
import libexo, numpy
from libexo import vm
env = libexo.attach()
array = numpy.frombuffer(vm.map_file(env, "data"), "u8")
print(len(array), int(array.sum()), array.flags.writeable, len(vm.map_file(env, "nothing")))
for other in sys.argv[1:]:
    try:
        vm.map_file(env, other)
        print("mapped")
    except OSError as error:
        print(errno.errorcode[error.errno])
"""


@pytest.fixture
def command() -> Iterator[Command]:
    with place(Command) as made:
        made.up()
        yield made


def test_a_file_of_ones_directory(command: Command) -> None:
    """What lies where its operator stands is mapped, to be read; what lies elsewhere is not, by a link either."""
    words = range(10_000)
    (command.folder / "data").write_bytes(b"".join(word.to_bytes(8, "little") for word in words))
    (command.folder / "nothing").touch()
    outside = command.folder.parent / "outside"
    outside.write_text("for all to read")
    (command.folder / "link").symlink_to(outside)
    secret = command.run / "operator"
    done = command.exo("run", "--", command.write("user.py", PROGRAM), outside, "link", secret, "none", ".")

    first, *refused = done.stdout.splitlines()
    assert first == f"10000 {sum(words)} False 0"
    assert refused == ["EACCES", "EACCES", "EACCES", "ENOENT", "ENODEV"]


WRITER = """
import errno, os, sys
import libexo
from libexo import vm
env = libexo.attach()

def tried(path):
    try:
        return vm.map_file(env, path, writable=True)
    except OSError as error:
        return errno.errorcode[error.errno]

view = tried("given/data")
view[4090:4100] = b"0123456789"
vm.sync(env, view, 4090, 10)
vm.sync(env, view)
view[8192:8193] = b"x"  # left to the host
other = vm.map_file(env, "given/data")
print(bytes(other[4090:4100]), other.readonly, bytes(other[8192:8193]))
print(*[tried(path) for path in sys.argv[1:]])
for offset, size in ((-1, 2), (0, len(view) + 1), (len(view) + 1, 0)):
    try:
        vm.sync(env, view, offset, size)
    except ValueError as error:
        print(error)
vm.unmap(env, view)
"""


def open_to_all(path: Path, size: int) -> Path:
    path.write_bytes(bytes(size))
    path.chmod(0o666)
    return path


def test_a_file_of_a_directory_given_for_writing(command: Command) -> None:
    """Stores are in the file at once, and on the device when asked; what was not given cannot be written by a map.

    Not a file whose mode forbids it, nor one of a directory that is only read, nor by a link out of it.
    """
    given = command.folder / "given"
    given.mkdir()
    data, outside = open_to_all(given / "data", 10_000), open_to_all(command.folder / "outside", 10_000)
    (given / "locked").write_bytes(bytes(100))
    (given / "locked").chmod(0o444)
    (given / "link").symlink_to(outside)
    with (given / "holes").open("wb") as file:
        file.truncate(1 << 20)
    (given / "holes").chmod(0o666)
    program = command.write("user.py", WRITER)
    names = ["outside", "given/locked", "given/link", "given/holes", "given/none", "given"]
    done = command.exo("run", "--write", "given", "--", program, *names)

    assert done.stdout.splitlines() == [
        "b'0123456789' True b'x'",
        "EACCES EACCES EACCES ENOSPC ENOENT EISDIR",
        "2 bytes from -1 of a view of 10000",
        "10001 bytes from 0 of a view of 10000",
        "-1 bytes from 10001 of a view of 10000",
    ]
    found = data.read_bytes()
    assert (found[4090:4100], found[8192:8193], outside.read_bytes()) == (b"0123456789", b"x", bytes(10_000))
    refused = command.exo("run", "--", command.write("refused.py", WRITER), status=1)
    assert "AttributeError" in refused.stderr or "TypeError" in refused.stderr  # of the text EACCES


CUT = """
import sys
import libexo
from libexo import vm
env = libexo.attach()
view = vm.map_file(env, "given/data", writable=True)
view[8000:8001] = b"x"
print("cut it", flush=True)
sys.stdin.read()
vm.sync(env, view, 0, 4096)
print("told", flush=True)
view[8000:8001] = b"y"
"""


def test_a_file_that_is_cut_meanwhile(command: Command) -> None:
    """A store behind its new end ends the program that stores, by SIGBUS, and nobody else."""
    given = command.folder / "given"
    given.mkdir()
    data = open_to_all(given / "data", 10_000)
    before = command.listed()
    words = command.words("run", "--write", "given", "--", command.write("cut.py", CUT))
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=command.environ, cwd=command.folder, **streams) as user:  # type: ignore[call-overload]
        assert user.stdout.readline() == "cut it\n"
        os.truncate(data, 4096)
        rest, _ = user.communicate("")

    assert (rest, user.returncode, data.read_bytes()) == ("told\n", 128 + 7, bytes(4096))
    after = command.listed()
    assert {name: row["thread"] for name, row in after.items()} == {n: r["thread"] for n, r in before.items()}


FULL = """
import errno
import libexo
from libexo import vm
env = libexo.attach()
def grow():
    with open("given/small/more", "wb") as file:
        file.write(bytes(1 << 20))

for write in (grow, lambda: vm.map_file(env, "given/small/holes", writable=True)):
    try:
        write()
        print("done")
    except OSError as error:
        print(errno.errorcode[error.errno])
view = vm.map_file(env, "given/small/data", writable=True)
view[:] = b"x" * len(view)
vm.sync(env, view)
print("stored")
"""


def test_a_file_system_that_is_full(command: Command) -> None:
    """Who maps what has no room is told so by an error, before any store; what has its room can be stored to."""
    small = command.folder / "given" / "small"
    small.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=777", "tmpfs", small], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("the host lets us mount nothing")
    try:
        data = open_to_all(small / "data", 32 << 10)
        with (small / "holes").open("wb") as file:
            file.truncate(1 << 20)
        (small / "holes").chmod(0o666)
        done = command.exo("run", "--write", "given", "--", command.write("full.py", FULL))
        assert done.stdout.split() == ["ENOSPC", "ENOSPC", "stored"]
        assert data.read_bytes() == b"x" * (32 << 10)
    finally:
        subprocess.run(["umount", small], check=True)


def test_what_cannot_be_given(command: Command) -> None:
    """A directory that is none is refused by name."""
    program = command.write("user.py", WRITER)
    done = command.exo("run", "--write", "nowhere", "--", program, status=127)
    assert done.stderr == "exo: --write nowhere: No such file or directory: name a directory\n"
