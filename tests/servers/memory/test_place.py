"""Memory of a colour: where its frames lie is the caller's choice, and whether it may have them is not."""

import pytest

from libexo import vm
from libexo.environment import Environment
from libexo.errors import RemoteError
from servers.memory.api import Memory
from tests.servers.memory.stage import ask
from tests.servers.rig import servers


def test_colours() -> None:
    """Each extent begins with a frame of the colour asked for, is the caller's to map, and no other's."""

    def program(env: Environment) -> list[int]:
        memory = Memory.connect(env)
        made = [memory.place(3, 8, colour) for colour in (5, 5, 0, 7)] + [memory.place(16, 16)]
        for extent in made:
            vm.map(env, extent)[:] = bytes([1]) * extent.size
        frames = [frame for each in made for frame in range(each.first, each.first + each.pages)]
        assert len(set(frames)) == len(frames) == 28
        return [each.first % 8 for each in made]

    with servers() as system:
        assert ask(system, program) == [5, 5, 0, 7, 0]


def test_refusals() -> None:
    """A colour there is not, a run that is nowhere, and more than the caller may have are refused by name."""

    def program(env: Environment) -> None:
        memory = Memory.connect(env)
        for arguments, why in (
            ((1, 4, 4), "MemoryRefused: colour 4 of 4: name one from 0 to 3"),
            (
                (100, 256, 200),
                "OutOfMemory: 100 frames in a row, from 200 above a multiple of 256: none are free",
            ),
            ((140, 1, 0), "QuotaExceeded: 0 of 128 frames in use"),
        ):
            with pytest.raises(RemoteError, match=why):
                memory.place(*arguments)

    with servers() as system:
        ask(system, program)
