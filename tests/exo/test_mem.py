"""The memory of one program, and pictures of it, for a system laid out by the test."""

import json
import mmap
import os
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from exo import holdings, uninvited
from exo.__main__ import main
from kernel.abi.ids import thread_id
from kernel.abi.kip import EnvironmentState
from tests.exo.conftest import Pages

Print = Callable[..., str]
ALL, READ, BOTH = 31, 4, 6
PAGER, USER, ODD = 1, 2, 3
_SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def printed(run: Path, pages: Pages, capsys: pytest.CaptureFixture[str]) -> Print:
    """The output of a command line, for a pager, its user, and one with an odd name."""
    for number, name in ((PAGER, "pager"), (USER, "user"), (ODD, "a<b & 'c'")):
        pages.environment(number, name, thread=thread_id(200 + number), frames=number)
    pages.extent(10, 4, PAGER, (PAGER, ALL), (USER, BOTH), pages=64, resident=3, pager=PAGER)
    pages.extent(14, 2, USER, (USER, ALL))
    pages.extent(300, 1, ODD, (ODD, ALL), (USER, READ), (PAGER, READ))
    pages.publish()

    def call(*words: str) -> str:
        assert main(["--run", str(run), *words]) == 0
        return capsys.readouterr().out

    return call


def test_each_extent_of_a_program(printed: Print) -> None:
    """Where, how large, what the program may, who else holds it; below a paged one, what is there."""
    assert printed("mem", "user").splitlines() == [
        "user has 2 frames, 8 KiB; holds 3 extents",
        "",
        "FRAMES  MEMORY  MAY    ALSO HELD BY",
        "  10+4  16 KiB  rw---  pager rwxct",
        "  3 of 64 pages in 4 frames, paged by pager",
        "  14+2   8 KiB  rwxct  -",
        " 300+1   4 KiB  r----  a<b & 'c' rwxct, pager r--…",
    ]


def test_the_same_as_json(printed: Print) -> None:
    """Its keys are stable; where it is mapped is null if that may not be known."""
    found = json.loads(printed("mem", "user", "--json"))

    assert (found["name"], found["frames"], len(found["extents"])) == ("user", 2, 3)
    assert found["extents"][0] == {
        "first": 10,
        "frames": 4,
        "user": "pager",
        "holders": [{"name": "pager", "rights": "rwxct"}, {"name": "user", "rights": "rw---"}],
        "more": 0,
        "paged": {"pages": 64, "resident": 3, "pager": "pager"},
        "mapped": None,
    }
    assert [each["first"] for each in json.loads(printed("mem", "--json"))["extents"]] == [10, 14, 300]


def test_paged_objects_are_told(printed: Print) -> None:
    """Beside the table of all users."""
    assert "object 10: 3 of 64 pages in 4 frames, paged by pager\n" in printed("mem")


def test_it_fits_a_terminal(printed: Print, pages: Pages) -> None:
    """80 columns, with long names, large numbers and many holders."""
    for number in range(10, 30):
        pages.environment(number, f"a program with a long name, {number}", frames=1 << 18)
    holders = [(number, ALL) for number in range(10, 30)]
    pages.extent(500, 500, 10, *holders, pages=1 << 18, resident=1 << 18, pager=11)
    pages.publish()

    for words in (("mem",), ("mem", "a program with a long name, 10")):
        assert max(map(len, printed(*words).splitlines())) <= 80


def test_nobody_of_that_name(run: Path, printed: Print, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and who could be meant."""
    assert main(["--run", str(run), "mem", "nobody"]) == 1
    assert capsys.readouterr().err == "exo: no environment is called nobody: 'exo ps' lists them\n"


def test_the_living_before_the_dead(run: Path, pages: Pages, printed: Print) -> None:
    """Of two of one name, the one that lives is meant."""
    pages.environment(40, "web", EnvironmentState.DEAD, thread=thread_id(300))
    pages.environment(41, "web", thread=thread_id(301), frames=7)
    pages.publish()

    assert printed("mem", "web").startswith("web has 7 frames")


@pytest.mark.parametrize("words", [("mem",), ("mem", "user"), ("mem", "pager"), ("mem", "a<b & 'c'")])
def test_pictures_are_well_formed(printed: Print, words: tuple[str, ...]) -> None:
    """XML that parses, with nothing outside its page, and colours for light and dark paper."""
    picture = ET.fromstring(printed(*words, "--svg"))  # noqa: S314 - it is our own

    assert picture.tag == f"{_SVG}svg"
    _, _, width, height = map(float, picture.attrib["viewBox"].split())
    for rect in picture.iter(f"{_SVG}rect"):
        box = [float(rect.attrib.get(key, 0)) for key in ("x", "y", "width", "height")]
        assert min(box) >= 0
        assert box[0] + box[2] <= width
        assert box[1] + box[3] <= height
    assert all(0 < float(text.attrib["y"]) < height for text in picture.iter(f"{_SVG}text"))
    style = picture.findtext(f"{_SVG}style") or ""
    assert "prefers-color-scheme: dark" in style
    used = {each.attrib["class"] for each in picture.iter() if "class" in each.attrib}
    assert used <= set(re.findall(r"\.([a-z]+) {", style.partition("@media")[2]))


def test_a_picture_names_everybody(printed: Print) -> None:
    """No colour without its name."""
    texts = " ".join(text.text or "" for text in ET.fromstring(printed("mem", "--svg")).iter(f"{_SVG}text"))  # noqa: S314

    assert all(name in texts for name in ("pager, 16 KiB", "user, 8 KiB", "a<b & 'c', 4 KiB"))


@pytest.mark.system
def test_mappings_are_found_in_the_process() -> None:
    """By the name of the memory file, which a piece of an extent has too: address, size, offset, rights."""
    number, piece = os.memfd_create("exo-7+2"), os.memfd_create("exo-7+2@16")
    os.ftruncate(number, 8192)
    os.ftruncate(piece, 4096)
    with (
        mmap.mmap(number, 8192) as one,
        mmap.mmap(number, 4096, prot=mmap.PROT_READ, offset=4096),
        mmap.mmap(piece, 4096),
    ):
        os.close(number)
        os.close(piece)
        found = holdings.mappings(os.getpid()) or {}
        one[0] = 1

    places = {(place.size, place.offset, place.rights) for place in found[7, 2]}
    assert places == {(8192, 0, "rw"), (4096, 4096, "r-"), (4096, 65536, "rw")}
    assert holdings.mappings(0) is None


@pytest.mark.system
def test_pages_beyond_the_frames() -> None:
    """The pieces of an object, and copies of them, are one object's memory, whose pages beyond its frames count."""
    numbers = [os.memfd_create(name) for name in ("exo-7+3", "exo-7+3@4", "exo-7+3@4", "exo-2+2")]
    for number, pages in zip(numbers, (2, 2, 1, 2), strict=True):
        os.pwrite(number, bytes(4096 * pages), 0)
    more = list(uninvited._more(Path("/proc/self/fd")))
    for number in numbers:
        os.close(number)

    assert more == [1]
