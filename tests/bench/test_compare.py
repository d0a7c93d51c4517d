"""Comparing two files of results: what is read, what is judged, what is said."""

import random
from pathlib import Path

import msgspec
import pytest

from bench import changes, cli
from bench.changes import Change, Runs, Verdict
from bench.errors import BenchError
from bench.facts import Facts
from bench.figures import Ratio, change
from bench.harness import Measure, Result, run_together
from bench.report import line, slope_line

FACTS = Facts(
    2, "processor", "6.1", "3.11", "27", "4.3", "abc", (), {"pynng": "0.9"}, "2026-11-22T12:00:00", 0.5
)


class Given:
    """A subject whose rounds are given, each a block of samples alike; to warm up, the first is run twice."""

    def __init__(self, name: str, rounds: list[int]) -> None:
        self.name = name
        self._rounds = [rounds[0], *rounds]

    def sample(self, count: int) -> list[int]:
        """Take no time."""
        return [self._rounds.pop(0)] * count


def noisy(seed: int, around: float, rounds: int = 20) -> list[int]:
    draw = random.Random(seed)
    return [int(draw.gauss(around, around / 50)) for _ in range(rounds)]


def result(ours: list[int], theirs: list[int] | None, key: str = "stub") -> Result:
    references = [] if theirs is None else [Given("theirs", theirs)]
    measure = Measure(key, "what it does", Given("ours", ours), references, block=5)
    return run_together([measure], len(ours))[0]


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{each}\n" for each in lines), encoding="utf-8")
    return path


def told(ours: list[int], theirs: list[int] | None, key: str = "stub", facts: Facts = FACTS) -> str:
    return line(result(ours, theirs, key), facts)


def compared(tmp_path: Path, old: list[str], new: list[str], least: float = 5, runs: int = 3) -> list[Change]:
    """Compare so many runs that are the same."""
    return changes.changes(*both(tmp_path, old * runs, new * runs), least)


def both(tmp_path: Path, old: list[str], new: list[str]) -> tuple[Runs, Runs]:
    before, after = written(tmp_path / "old", *old), written(tmp_path / "new", *new)
    return changes.read(before), changes.read(after)


# ---------------------------------------------------------------------------------------------------- verdicts


@pytest.mark.parametrize(
    ("now", "verdict"),
    [(1300, Verdict.SLOWER), (770, Verdict.FASTER), (1003, Verdict.SAME)],
)
def test_a_change_is_told_from_noise(tmp_path: Path, now: int, verdict: Verdict) -> None:
    """A third more or less is seen through noise of two per cent, beside a steady reference; 0.3 % is not."""
    (found,) = compared(tmp_path, [told(noisy(1, 1000), noisy(2, 500))], [told(noisy(3, now), noisy(4, 500))])

    assert found.verdict == verdict
    assert found.ratio is not None
    assert found.ratio.low <= now / 1000 * 1.02
    assert found.ratio.high >= now / 1000 * 0.98
    assert found.reference == "theirs"


def test_a_slower_host_makes_nothing_slower(tmp_path: Path) -> None:
    """Where the reference takes half as long again, so does everything: the drift taken out, nothing is left."""
    (found,) = compared(
        tmp_path, [told(noisy(1, 1000), noisy(2, 500))], [told(noisy(3, 1500), noisy(4, 750))]
    )

    assert found.verdict == Verdict.SAME
    assert found.ratio is not None
    assert found.ratio.low > 1.4
    assert found.steady is not None
    assert found.steady.value == pytest.approx(1, rel=0.05)


def test_a_slower_reference_alone_makes_nothing_faster(tmp_path: Path) -> None:
    """Another version of a reference moves one of the two ratios only."""
    (found,) = compared(tmp_path, [told([1000] * 20, [500] * 20)], [told([1000] * 20, [900] * 20)])

    assert found.verdict == Verdict.SAME


def test_without_a_common_reference_the_subject_speaks_alone(tmp_path: Path) -> None:
    """There is no ratio with the drift taken out, and the verdict does without."""
    (found,) = compared(tmp_path, [told(noisy(1, 1000), None)], [told(noisy(2, 2000), noisy(3, 500))])

    assert (found.verdict, found.steady, found.reference) == (Verdict.SLOWER, None, "")


def test_a_small_change_is_none_however_sure(tmp_path: Path) -> None:
    """Four per cent without any noise are a change only to one who asks for less than that."""
    old, new = [told([1000] * 20, [500] * 20)], [told([1040] * 20, [500] * 20)]

    assert compared(tmp_path, old, new)[0].verdict == Verdict.SAME
    assert compared(tmp_path, old, new, least=3)[0].verdict == Verdict.SLOWER


@pytest.mark.parametrize(
    ("runs", "rounds", "verdict"), [(2, 20, Verdict.FEW), (3, 1, Verdict.FEW), (3, 2, Verdict.SLOWER)]
)
def test_few_runs_or_rounds_tell_nothing(tmp_path: Path, runs: int, rounds: int, verdict: Verdict) -> None:
    """Two runs, or three rounds, are no evidence however far apart they lie; the ratio is still there."""
    old, new = [told([1000] * rounds, [500] * rounds)], [told([3000] * rounds, [500] * rounds)]

    (found,) = compared(tmp_path, old, new, runs=runs)

    assert found.verdict == verdict
    assert found.ratio == Ratio(3, 3, 3)


def test_runs_that_differ_leave_doubt(tmp_path: Path) -> None:
    """Runs are each steady in themselves, and differ more among themselves than the two files do."""
    old = [told([around] * 20, [500] * 20) for around in (1000, 1300, 1150)]
    new = [told([around] * 20, [500] * 20) for around in (1250, 1310, 1040)]

    (found,) = compared(tmp_path, old, new, runs=1)

    assert found.verdict == Verdict.SAME
    assert found.old is not None
    assert (found.old.runs, found.old.rounds, found.old.n) == (3, 60, 300)


def test_a_measure_of_one_file_is_named(tmp_path: Path) -> None:
    """It is neither slower nor faster, and the other measures are judged."""
    ours, theirs = noisy(1, 1000), noisy(2, 500)
    found = compared(
        tmp_path,
        [told(ours, theirs), told(ours, theirs, "gone")],
        [told(ours, theirs, "come"), told(ours, theirs)],
    )

    assert {each.measure: each.verdict for each in found} == {
        "stub": Verdict.SAME, "gone": Verdict.OLD_ONLY, "come": Verdict.NEW_ONLY
    }  # fmt: skip


def test_one_ratio_is_not_enough() -> None:
    """All ratios must say it, beyond the least change, with their whole intervals."""
    slower, unsure, same = Ratio(1.3, 1.2, 1.4), Ratio(1.3, 0.9, 1.4), Ratio(1.01, 1.005, 1.02)

    assert changes.verdict([slower, slower], 5) == Verdict.SLOWER
    assert {changes.verdict([slower, other], 5) for other in (unsure, same)} == {Verdict.SAME}


def test_neighbouring_rounds_that_are_alike_leave_more_doubt() -> None:
    """Rounds that are slow for one half of the run say less about another run than the same ones mixed."""
    mixed, halves, other = [100, 200] * 10, [100] * 10 + [200] * 10, [[150] * 20]
    narrow, wide = change(other, [mixed]), change(other, [halves])

    assert narrow.value == wide.value
    assert wide.high - wide.low > narrow.high - narrow.low


def test_of_runs_of_one_truth_few_are_told_apart() -> None:
    """Of forty pairs with the same mean the interval leaves 1 out about as seldom as 95 % promises."""
    pairs = [change([noisy(seed, 1000)], [noisy(seed + 500, 1000)]) for seed in range(40)]

    assert sum(not ratio.low <= 1 <= ratio.high for ratio in pairs) <= 8


# ----------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "there is no measure in it"),
        (b"\n\n", "there is no measure in it"),
        (b"2 CPUs (processor), Linux 6.1\n", "line 1: not as"),
        (b'{"measure": "stub"}\n', "line 1: not as .*missing required field"),
        (b"\xff\xfe\n", "line 1: not as"),
        (b"[" * 100_000, "line 1: not as"),
        (told([10] * 6, [5] * 6).replace("[10.0,", "[0.0,", 1).encode(), "line 1: not as .*> 0"),
        (told([10] * 6, [5] * 6).replace("[10.0,", "[1e999,", 1).encode(), "line 1: not as"),
        (told([10] * 6, [5] * 6).replace("[5.0,", "[", 1).encode(), "line 1: theirs has"),
    ],
    ids=["empty", "blank", "text", "other JSON", "binary", "deep", "zero", "infinite", "a round short"],
)
def test_what_is_no_file_of_results_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    """The error names the file, the line, and what is wrong with it."""
    (tmp_path / "file").write_bytes(content)

    with pytest.raises(BenchError, match=f"{tmp_path}/file.*{says}"):
        changes.read(tmp_path / "file")


@pytest.mark.parametrize(("name", "says"), [("nothing", "No such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, says: str) -> None:
    """The host's reason is given."""
    with pytest.raises(BenchError, match=says):
        changes.read(tmp_path / name)


def test_points_of_a_sweep_are_measures_of_their_own(tmp_path: Path) -> None:
    """They differ in what was varied; the line of what a word more costs is none."""
    points = {words: result([100 + words] * 6, [50] * 6) for words in (0, 7)}
    lines = [line(each, FACTS, words=words) for words, each in points.items()]
    lines += [line(points[0], FACTS, size=64), slope_line("sweep", points, FACTS)]

    runs = changes.read(written(tmp_path / "file", *lines))

    assert [(key.words, key.size) for key in runs] == [(0, None), (7, None), (None, 64)]


def test_hosts_that_differ_are_told(tmp_path: Path) -> None:
    """The kernel and a library differ; another commit, another hour and another load are the same host."""
    other = msgspec.structs.replace(
        FACTS, kernel="6.2", libraries={"pynng": "0.10"}, commit="def", when="later", load=3.0
    )
    old, new = both(tmp_path, [told([10] * 6, None)], [told([10] * 6, None, facts=other)])

    assert changes.differences(old, new) == {"kernel": ("6.1", "6.2"), "pynng": ("0.9", "0.10")}
    assert changes.differences(old, old) == {}


# -------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def slower(tmp_path: Path) -> list[str]:
    """Return the arguments that compare a file with one in which something is slower, on another kernel."""
    other = msgspec.structs.replace(FACTS, kernel="6.2", commit="def")
    old = written(tmp_path / "old.jsonl", *[told(noisy(1, 10_000), noisy(2, 5000))] * 3)
    new = written(tmp_path / "new.jsonl", *[told(noisy(3, 20_000), noisy(4, 5000), facts=other)] * 3)
    return ["compare", str(old), str(new)]


def test_the_table_shows_both_and_the_verdict(slower: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Commits, hosts that differ, times in microseconds, ratio and verdict."""
    assert cli.main(slower) == 0

    said = capsys.readouterr().out
    assert "commit abc" in said
    assert "commit def" in said
    assert "not the same host: kernel 6.1 → 6.2" in said
    row = next(each for each in said.splitlines() if each.startswith("stub"))
    assert (row.split()[1][:2], row.split()[2][:2]) in {
        ("10", "20"),
        ("9.", "20"),
        ("10", "19"),
        ("9.", "19"),
    }
    assert row.endswith("slower")


def test_too_few_runs_come_with_what_to_do(slower: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """With one run of a file there is no verdict, so --fail does not fail; it says how to get more."""
    for name in slower[1:]:
        first = Path(name).read_text(encoding="utf-8").splitlines()[0]
        written(Path(name), first)

    assert cli.main([*slower, "--fail"]) == 0

    said = capsys.readouterr().out
    assert "too few runs to tell" in said
    assert "--runs" in said


def test_only_with_fail_is_slower_a_failure(slower: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """The status is 1 with --fail, and 0 when it is the other way round."""
    what, old, new = slower

    assert cli.main([*slower, "--fail"]) == 1
    assert cli.main([what, new, old, "--fail"]) == 0
    assert "1 faster" in capsys.readouterr().out


def test_the_json_has_a_line_for_each_measure(slower: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides, both ratios, the verdict and where the hosts differ."""
    assert cli.main([*slower, "--json"]) == 0

    (change_,) = [msgspec.json.decode(each, type=Change) for each in capsys.readouterr().out.splitlines()]
    assert change_.verdict == Verdict.SLOWER
    assert change_.ratio is not None
    assert change_.ratio.value == pytest.approx(2, rel=0.05)
    assert change_.hosts == {"kernel": ("6.1", "6.2")}


def test_trouble_is_no_verdict(slower: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is none ends with status 2 and a sentence, with --fail too, as diff does."""
    assert cli.main([*slower[:2], "/dev/null", "--fail"]) == 2
    assert "/dev/null: there is no measure in it" in capsys.readouterr().err


@pytest.mark.parametrize("percent", ["x", "-1", "nan", "1e9"])
def test_a_least_change_is_a_percentage(
    slower: list[str], percent: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Anything else is refused before the files are read."""
    with pytest.raises(SystemExit) as ended:
        cli.main([*slower, f"--least={percent}"])

    assert ended.value.code == 2
    assert "per cent" in capsys.readouterr().err
