"""The ways of others: each that is installed runs here, and each that is not says how to get it."""

from pathlib import Path

import msgspec
import pytest

from bench import cli, plot, report, sizes, transports
from bench.facts import Facts, gather
from bench.harness import Measure, Result, run
from bench.transports import WAYS, Way
from bench.worker import SIZES, round_trip, sized

FACTS = Facts(2, "processor", "6.1", "3.11", "27", "4.3", "abc", ())
ABSENT = Way("telepathy", "telepathy", package="no_such_package", distribution="no-such-package")


class Steady:
    """A subject whose samples all last as long."""

    def __init__(self, name: str, lasts: int) -> None:
        self.name = name
        self._lasts = lasts

    def sample(self, count: int) -> list[int]:
        """Take no time."""
        return [self._lasts] * count


def measured(others: int, size: int = 64) -> Result:
    references = [Steady(f"other {number}", 1000 * (number + 1)) for number in range(others)]
    return run(Measure("sizes", "there and back", Steady("ours", 40 * size), references, block=10), rounds=3)


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
@pytest.mark.parametrize("key", WAYS)
def test_a_way_carries_bytes_there_and_back(key: str) -> None:
    """The smallest and the largest payload it is for return as they were, and each sample takes time."""
    way = WAYS[key]
    if not way.installed:
        pytest.skip(transports.missing([way])[0])

    with transports.running([way]) as (other,):
        for size in (SIZES[0], way.most):
            samples = other.subject(size).sample(3)
            assert len(samples) == 3
            assert min(samples) > 0


def test_a_way_that_is_not_installed_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """It is no failure: a line says what to do, beside the results and not among them."""
    with transports.running([ABSENT]) as others:
        assert others == []
    transports.tell_missing([WAYS["dealer"], ABSENT])

    told = capsys.readouterr()
    assert told.err == "telepathy is left out: not installed: pip install no-such-package\n"
    assert told.out == ""


def test_what_comes_back_otherwise_is_not_measured() -> None:
    """A way that loses a byte is no way."""
    with pytest.raises(RuntimeError, match="64 bytes came back otherwise"):
        round_trip(lambda payload: payload[1:], 64)

    assert len(round_trip(lambda payload: payload, 64)(5)) == 5


def test_larger_payloads_are_sampled_less() -> None:
    """A round never has fewer than the least, nor more than the most, and no size has more than a smaller one."""
    blocks = [sizes.block(size) for size in SIZES]

    assert blocks == sorted(blocks, reverse=True)
    assert (blocks[0], blocks[-1]) == (sizes.MOST, sizes.LEAST)


@pytest.mark.parametrize(("size", "name"), [(64, "64 B"), (1 << 10, "1 KiB"), (1 << 20, "1 MiB")])
def test_a_size_has_a_name(size: int, name: str) -> None:
    """Bytes up to a KiB, then the unit that fits."""
    assert report.show_size(size) == name
    assert sized(size) == f"bytes-{size}"


def test_the_facts_name_the_libraries_that_are_installed() -> None:
    """The facts list what figures depend on, with the time and the load, and only what is installed."""
    facts = gather()

    assert facts.libraries["msgspec"] == msgspec.__version__
    assert {way.distribution for way in WAYS.values() if way.installed} - {""} <= set(facts.libraries)
    assert facts.when.endswith("+00:00")
    assert facts.load >= 0


@pytest.mark.slow
def test_the_pictures_name_every_party(tmp_path: Path) -> None:
    """One party or ten, sizes of which a party has some only: each is in the legend, and the axes have units."""
    pytest.importorskip("matplotlib")
    points = {64: measured(9), 1 << 20: measured(3, 1 << 20)}

    plot.sizes(points, str(FACTS), tmp_path / "sizes.svg")
    plot.distributions([measured(9), measured(1), measured(0)], str(FACTS), tmp_path / "all.svg")
    plot.distributions([measured(9)], str(FACTS), tmp_path / "one.png")

    for name, words in (("sizes", ("payload (logarithmic)", "1 MiB")), ("all", ("time of one, µs",))):
        drawn = (tmp_path / f"{name}.svg").read_text(encoding="utf-8")
        assert all(f"other {number}" in drawn for number in range(9))
        assert all(word in drawn for word in words)
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.system
@pytest.mark.beside
@pytest.mark.slow
def test_sizes_run_on_a_system_they_boot(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each size is a line with its references, of which one does not carry the larger ones."""
    monkeypatch.setenv("EXO_RUN", f"{tmp_path}/nobody")

    assert cli.main(["sizes", "--rounds", "1", "--only", "dealer,packets", "--json"]) == 0

    told = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["size"] for line in told] == list(SIZES)
    assert [len(line["references"]) for line in told] == [2 if size <= 4096 else 1 for size in SIZES]
