"""The text of a program whose file was replaced since it was started."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kernel.abi.program import Role
from libexo.launch.source import could_read, renew


@pytest.fixture
def roles(tmp_path: Path) -> Iterator[dict[int, int]]:
    """The descriptors of a program `web.py` in an empty folder."""
    (tmp_path / "web.py").write_text("old", encoding="ascii")
    found: dict[int, int] = {
        Role.SOURCE: os.open(tmp_path / "web.py", os.O_RDONLY),
        Role.IMPORTS: os.open(tmp_path, os.O_RDONLY),
    }
    yield found
    for number in found.values():
        os.close(number)


def text(roles: dict[int, int], path: str = "web.py") -> tuple[str, str]:
    """The text to run, and the program's message about it."""
    found, note = renew(roles, path)
    number = found[Role.SOURCE]
    data = os.pread(number, 99, 0).decode()
    if number != roles[Role.SOURCE]:
        os.close(number)
    return data, note


def replace(folder: Path, mode: int = 0o644) -> None:
    (folder / "new").write_text("new", encoding="ascii")
    (folder / "new").chmod(mode)
    (folder / "new").rename(folder / "web.py")


def test_the_file_is_looked_up_again(roles: dict[int, int], tmp_path: Path) -> None:
    """In the directory that came along, whatever the path says before the name."""
    before = text(roles)
    replace(tmp_path)

    assert (before, text(roles), text(roles, "/elsewhere/web.py")) == (("old", ""), ("new", ""), ("new", ""))


def test_what_is_gone_runs_on(roles: dict[int, int], tmp_path: Path) -> None:
    """There is only the old text then."""
    (tmp_path / "web.py").unlink()

    assert text(roles) == ("old", "")


def test_a_link_is_not_followed(roles: dict[int, int], tmp_path: Path) -> None:
    """It could lead to what the asker may not read."""
    (tmp_path / "new").symlink_to("/etc/hostname")
    (tmp_path / "new").rename(tmp_path / "web.py")

    assert text(roles) == ("old", "")


def test_what_the_asker_could_not_read_is_not_read(roles: dict[int, int], tmp_path: Path) -> None:
    """The old text runs, and the program is told."""
    replace(tmp_path, 0o000)

    data, note = text(roles)
    assert data == "old"
    assert note == "web.py was replaced by a file of another owner or mode: this is still the old one"


@pytest.mark.parametrize(
    ("old", "new", "may"),
    [
        ((0o100600, 7, 7), (0o100600, 7, 7), True),
        ((0o100600, 7, 7), (0o100600, 8, 7), False),
        ((0o100640, 7, 7), (0o100600, 7, 7), False),
        ((0o100640, 7, 7), (0o100644, 0, 0), True),
        ((0o100644, 7, 7), (0o100640, 7, 7), False),
        ((0o100600, 7, 7), (0o010600, 7, 7), False),
    ],
)
def test_who_could_read(old: tuple[int, int, int], new: tuple[int, int, int], *, may: bool) -> None:
    """Mode, owner and group decide; a pipe is no text."""

    def status(mode: int, uid: int, gid: int) -> os.stat_result:
        return os.stat_result((mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))

    assert could_read(status(*old), status(*new)) is may
