"""Frequencies of cores, from /proc/cpuinfo."""

import pytest

from hwmodel.real import frequencies
from hwmodel.real.frequencies import parse

X86 = "processor\t: 0\ncpu MHz\t\t: 2596.122\ncache size\t: 1024 KB\n\nprocessor\t: 3\ncpu MHz\t\t: 800.000\n"
ARM = "processor\t: 0\nBogoMIPS\t: 38.40\nFeatures\t: fp asimd\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (X86, {0: 2_596_122, 3: 800_000}),
        (ARM, {}),
        ("", {}),
        ("cpu MHz : 100.0\n", {}),
        ("processor : 1\ncpu MHz : unknown\n", {1: 0}),
        ("processor : 1\ncpu MHz : 1\n", {1: 1000}),
        ("processor : 1\ncpu MHz : 1.5\n", {1: 1500}),
        ("processor : x\ncpu MHz : 1.5\n", {}),
    ],
)
def test_lines_of_cpuinfo(text: str, expected: dict[int, int]) -> None:
    """Frequencies are read in kHz, by core; what is none is 0."""
    assert parse(text) == expected


def test_cores_the_host_says_nothing_of() -> None:
    """A core without a line has no frequency."""
    assert frequencies.frequencies([1 << 20]) == [0]


def test_a_host_without_cpuinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file is missing, no core has a frequency."""
    monkeypatch.setattr(frequencies, "CPUINFO", "/nonexistent")

    assert frequencies.frequencies([0, 1]) == [0, 0]
