"""Show how much of the system's memory each environment has, and where.

A family is a program that an operator started, with all its descendants. If several members have memory, the
family's sum is shown: they share one quota.

The picture has one letter for each stretch of frames: its user's, ``·`` if free, ``+`` if
several share a stretch.
"""

from argparse import ArgumentParser, Namespace
from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING

from exo import view

if TYPE_CHECKING:
    from libexo.kip import Kip

ARGUMENTS = "[--json]"
EXAMPLES = """\
  exo mem
  exo mem --json | jq '.users[0].name'   who has most"""

COLUMNS, LINES = 64, 8


def configure(parser: ArgumentParser) -> None:
    """Add the options of `mem`."""
    view.add_json(parser)


def main(options: Namespace) -> int:
    """Print it."""
    kip = view.open_kip(options.run)
    found = gather(kip)
    if options.json:
        view.print_json({key: found[key] for key in ("frames", "free_frames", "users")})
    else:
        print(text(kip, found))
    return 0


def gather(kip: "Kip") -> view.Json:
    """Return the frames of each user, by the kernel's table of frames; most first."""
    owners = list(kip.frame_users())
    counts = Counter(owners)
    names = {row.number: row.name for row in kip.environments()}
    free = counts.pop(0, 0)
    of = view.of_family(kip.environments())
    users = [
        {"name": names.get(number - 1, f"#{number - 1}"), "frames": n, "family": of.get(number - 1)}
        for number, n in counts.most_common()
    ]
    return {
        "frames": len(owners),
        "free_frames": free,
        "users": users,
        "order": [n for n, _ in counts.most_common()],
    }


def text(kip: "Kip", found: view.Json) -> str:
    """Return the table and the picture."""
    total, free, users, order = found["frames"], found["free_frames"], found["users"], found["order"]
    assert isinstance(total, int)
    assert isinstance(free, int)
    assert isinstance(users, list)
    assert isinstance(order, list)
    letters = dict(zip(order, chain(view.LETTERS, "?" * len(order)), strict=False))
    rows = [
        (
            letters[number],
            user["name"],
            user["frames"],
            view.size(user["frames"]),
            view.bar(user["frames"] / total),
        )
        for number, user in zip(order, users, strict=True)
    ]
    rows.append(("·", "free", free, view.size(free), view.bar(free / total)))
    return "\n".join(
        [
            view.table(("", "NAME", "FRAMES", "MEMORY", ""), rows, ("FRAMES", "MEMORY")),
            *families(users),
            "",
            picture(kip, letters),
        ]
    )


def families(users: list[view.Json]) -> list[str]:
    """Return a line for each family with several users of memory."""
    have: dict[object, list[int]] = {}
    for user in users:
        frames = user["frames"]
        assert isinstance(frames, int)
        if user["family"]:
            have.setdefault(user["family"], []).append(frames)
    found = [(name, each) for name, each in have.items() if len(each) > 1]
    return [f"{name} and its descendants have {view.size(sum(each))} in all" for name, each in found]


def picture(kip: "Kip", letters: dict[int, str]) -> str:
    """Return the frames as lines of letters."""
    owners = kip.frame_users()
    cell = max(1, -(-len(owners) // (COLUMNS * LINES)))
    cells = [set(owners[at : at + cell]) - {0} for at in range(0, len(owners), cell)]
    drawn = "".join(
        "·" if not here else letters.get(min(here), "?") if len(here) == 1 else "+" for here in cells
    )
    lines = [f"{at * cell:>8}  {drawn[at : at + COLUMNS]}" for at in range(0, len(drawn), COLUMNS)]
    return "\n".join([*lines, f"{'':8}  a letter is {cell} frames, {view.size(cell)}"])
