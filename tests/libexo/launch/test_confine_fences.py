"""Fences of a host's layers: the table of docs/design.md."""

import pytest

from libexo.launch.confine.fences import list_fences

TABLE = [  # own uid, Landlock ABI, own network namespace: what is open
    (True, 9, True, ""),
    (True, 7, True, "sockets by path"),
    (True, 7, False, "abstract names, sockets by path"),
    (True, 5, True, "sockets by path"),
    (True, 5, False, "abstract sockets, abstract names, sockets by path"),
    (False, 9, False, "shared memory, abstract names"),
    (False, 6, False, "shared memory, abstract names, sockets by path"),
    (False, 5, False, "your processes, shared memory, abstract sockets, abstract names, sockets by path"),
]


@pytest.mark.parametrize(("own_uid", "abi", "own_network", "expected"), TABLE)
def test_what_is_open(*, own_uid: bool, abi: int, own_network: bool, expected: str) -> None:
    """By root or not, and by what the host's Landlock knows; each with what to do about it."""
    fences = list_fences(own_uid=own_uid, abi=abi, own_network=own_network)
    opened = [fence for fence in fences if not fence.holds]

    assert ", ".join(fence.name for fence in opened) == expected
    assert all(fence.remedy for fence in opened)


def test_without_a_uid_and_without_landlock_nothing_holds() -> None:
    """Then programs are operators, and the line about the secret says so."""
    fences = list_fences(own_uid=False, abi=0, own_network=False)

    assert not any(fence.holds for fence in fences)
    assert fences[0].detail == "programs are operators"
