"""Files of the host, mapped by programs: those of the directories that they were given, and no others."""

import os
from collections.abc import Iterator

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
