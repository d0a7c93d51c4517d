"""Frequencies of the host's cores, from its /proc/cpuinfo."""

from collections.abc import Sequence

CPUINFO = "/proc/cpuinfo"
_KHZ = 1000


def frequencies(cores: Sequence[int]) -> list[int]:
    """Return the frequency of each of *cores* now, in kHz; 0: the host names none, as on most ARM."""
    try:
        with open(CPUINFO, encoding="utf-8", errors="replace") as file:
            known = parse(file.read())
    except OSError:
        known = {}
    return [known.get(core, 0) for core in cores]


def parse(text: str) -> dict[int, int]:
    """Return the kHz of each core for which *text*, a /proc/cpuinfo, has a line ``cpu MHz``."""
    known: dict[int, int] = {}
    core = -1
    for line in text.splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor" and value.isdecimal():
            core = int(value)
        elif key == "cpu MHz" and core >= 0:
            known[core] = _khz(value)
    return known


def _khz(megahertz: str) -> int:
    """Return a frequency such as ``2596.122`` in kHz; 0 if it is not one."""
    whole, _, fraction = megahertz.partition(".")
    if not whole.isdecimal() or (fraction and not fraction.isdecimal()):
        return 0
    return int(whole) * _KHZ + int(fraction[:3].ljust(3, "0"))
