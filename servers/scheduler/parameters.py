"""What is said to a policy of one family: bounded, for a program may say it of itself."""

from collections.abc import Mapping

import msgspec

from libexo.sched import Parameter
from servers.scheduler.settings import ALL_PARAMETERS, MAX_PARAMETERS, PolicyRefused, Said


def changed(
    all_said: Mapping[int, Said], family: int, parameters: Mapping[str, Parameter], *, declared: bool
) -> dict[int, Said]:
    """Return *all_said* with *parameters* of *family* besides: '' forgets one. Raises PolicyRefused: too much."""
    before = all_said.get(family, Said())
    known = before.declared if declared else before.parameters
    kept = {key: value for key, value in {**known, **parameters}.items() if value != ""}
    said = Said(before.parameters, kept) if declared else Said(kept, before.declared)
    if (size := len(msgspec.msgpack.encode(kept))) > MAX_PARAMETERS:
        raise PolicyRefused(f"parameters of one program take {MAX_PARAMETERS} bytes at most, not {size}")
    result = {**all_said, family: said}
    if not (said.parameters or said.declared):
        del result[family]
    if (size := len(msgspec.msgpack.encode(result))) > ALL_PARAMETERS:
        raise PolicyRefused(f"parameters of all programs take {ALL_PARAMETERS} bytes at most, not {size}")
    return result
