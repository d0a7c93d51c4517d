"""What the tests' own process may do on this host."""

from pathlib import Path

_CAP_SYS_NICE = 23


def may_place_others() -> bool:
    """Say whether it may choose the cores of another user's process: not in a container without CAP_SYS_NICE."""
    status = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line
    )
    return bool(int(status["CapEff"], 16) >> _CAP_SYS_NICE & 1)
