"""Arguments and environ that come as a file."""

import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exo import arguments as ours
from exo.arguments import Given, is_name
from exo.system import Trouble
from kernel.abi.nursery import Launch
from kernel.abi.program import Program, ProgramKind, Role
from libexo.launch.arguments import complete, parse

RAW = st.binary(max_size=40).filter(lambda raw: b"\0" not in raw)
NAMES = RAW.filter(lambda raw: raw and b"=" not in raw)
UNTEXT = b"\xff\xfe"


def launch(kind: ProgramKind, argv: tuple[str, ...]) -> Launch:
    return Launch(1, "x", Program(int(kind), argv), 0, "/run/x", -1, False, ())


def test_the_number_is_the_abis() -> None:
    """It is written down again where importing it would take too long."""
    assert ours.ARGUMENTS == Role.ARGUMENTS


@given(st.lists(RAW, min_size=1, max_size=5), st.dictionaries(NAMES, RAW, max_size=5))
def test_any_bytes_arrive(argv: list[bytes], environ: dict[bytes, bytes]) -> None:
    """With the request if they are text, else as a file; the program finds what the shell handed over."""
    argv = [b"prog.py", *argv]
    variables = [(os.fsdecode(name), os.fsdecode(value)) for name, value in environ.items()]
    given_ = Given(list(map(os.fsdecode, argv)), variables)
    if not given_.descriptors:
        assert ours.is_text("".join([*given_.argv, *map("".join, given_.environ)]))
        assert (given_.argv, given_.environ) == (list(map(os.fsdecode, argv)), variables)
        return
    found = complete(launch(ProgramKind.PYTHON, ("prog.py",)), {Role.ARGUMENTS: given_.descriptor})
    given_.close()

    assert [os.fsencode(word) for word in found.program.argv] == argv
    assert {os.fsencode(k): os.fsencode(v) for k, v in found.program.environ} == environ


@pytest.mark.parametrize(("size", "as_file"), [(100, False), (100_000, True)])
def test_what_is_long_goes_as_a_file(size: int, *, as_file: bool) -> None:
    """A hundred kilobytes of environ are nothing unusual, and do not fit in a packet."""
    given_ = Given(["a"], [("A", "x" * size)])
    found = bool(given_.descriptors), given_.roles
    given_.close()

    assert found == (as_file, [Role.ARGUMENTS] * as_file)


def test_more_than_the_host_gives_is_refused() -> None:
    """With both figures."""
    with pytest.raises(Trouble, match=r"have 3000\d\d\d bytes, at most 2097152"):
        Given(["a", "x" * 3_000_000], [])


@given(st.binary(max_size=60))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    """By a ValueError."""
    with suppress(ValueError):
        argv, environ = parse(data)

        assert argv
        assert all(name for name, _ in environ)


def test_an_executable_is_the_one_that_was_asked_for() -> None:
    """That name decided what may be read."""
    given_ = Given(["/bin/other", os.fsdecode(UNTEXT)], [])
    with pytest.raises(ValueError, match="calls the program '/bin/other'"):
        complete(launch(ProgramKind.FOREIGN, ("/bin/sh",)), {Role.ARGUMENTS: given_.descriptor})
    given_.close()


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("web", True),
        ("a b", True),
        ("é" * 15, True),
        ("é" * 16, False),
        ("", False),
        (" a", False),
        ("a\nb", False),
    ],
)
def test_a_name(name: str, *, good: bool) -> None:
    """As the kernel has it."""
    assert is_name(name) is good
    assert not is_name(os.fsdecode(UNTEXT))
