"""Scripts come from a seed, are printed as code, and shrink to what matters."""

from libexo.transport.faulty import Odds
from tests.model import script as scripts
from tests.model.script import ANY, NIL, Abort, Ipc, Kill, Operation, Script, Taste, generate
from tests.model.shrinking import candidates, shrink

ALL = Taste(redirection=1.0, odds=Odds(delay=0.1))


def test_one_seed_one_script() -> None:
    """The same seed draws the same script, another seed another."""
    assert generate(7) == generate(7)
    assert len({generate(seed) for seed in range(10)}) == 10


def test_every_kind_of_operation_is_drawn() -> None:
    """Some scripts together hold every kind of operation, specifier and time-out."""
    drawn = [op for seed in range(99) for ops in generate(seed, taste=ALL).threads for op in ops]
    calls = [op for op in drawn if isinstance(op, Ipc)]

    assert {type(op) for op in drawn} == {Ipc, Abort, Kill, scripts.End, scripts.Redirect}
    assert {NIL, ANY, scripts.LOCAL} <= {op.sender for op in calls}
    assert {0, scripts.NEVER} <= {op.send for op in calls} & {op.receive for op in calls}
    assert {scripts.LAST, scripts.INTENDED, NIL} <= {op.to for op in calls}
    assert {len(generate(seed).environments) for seed in range(60)} >= {2, 8}


def test_no_two_messages_have_one_name() -> None:
    """Each message of a script has a payload of its own."""
    payloads = [op.payload for ops in generate(3).threads for op in ops if isinstance(op, Ipc) and op.payload]

    assert len(payloads) == len(set(payloads)) > 20


def test_printed_code_is_the_script() -> None:
    """The output of `code`, pasted into a test, makes the same script again."""
    script = generate(5, taste=ALL)

    assert eval(script.code(), vars(scripts) | {"Odds": Odds}) == script  # noqa: S307 - our own text


def operations(script: Script) -> list[Operation]:
    return [operation for thread in script.threads for operation in thread]


def test_shrinks_to_what_fails() -> None:
    """Of a long script only the two operations that make it fail are left, made as simple as can be."""

    def fails(script: Script) -> bool:
        kinds = [type(operation) for operation in operations(script)]
        return Abort in kinds and Kill in kinds

    found = next(script for script in map(generate, range(100)) if fails(script))
    small = shrink(found, fails)

    assert sorted(type(operation).__name__ for operation in operations(small)) == ["Abort", "Kill"]


def test_candidates_are_simpler() -> None:
    """No candidate has more operations, and none is the script itself: shrinking ends."""
    script = generate(11, taste=ALL)
    smaller = list(candidates(script))

    assert script not in smaller
    assert all(candidate.steps <= script.steps for candidate in smaller)
