"""Owners of names, and successors that run other programs."""

from kernel.abi import traps
from kernel.abi.budget import Item
from kernel.abi.errors import Refusal
from kernel.abi.limits import MAX_ENVIRONMENTS, MAX_NAMES
from kernel.abi.program import Program, Role
from tests.kernel.puppets import Puppet, refusal, theatre
from tests.kernel.test_environments import child, create, creator, newest


def test_no_room_for_names() -> None:
    """Names beside their own leave room for those of environments, which are still created."""
    with theatre() as stage:
        root = creator(stage)
        room = MAX_NAMES - MAX_ENVIRONMENTS
        for first in range(0, room, Item.NAMES.server):
            some = stage.puppet(f"some-{first}")
            for n in range(first, min(first + Item.NAMES.server, room)):
                root.sys.name_publish(root.handles[0], f"n{n}", some.thread)

        assert refusal(root.sys.name_publish, root.handles[0], "more", root.thread) == Refusal.TABLE_FULL
        assert child(stage, root)[0].alive


def test_a_successor_with_other_descriptors() -> None:
    """Descriptors that come for a successor take the place of what it would have, and one can go back."""
    with theatre() as stage:
        root = creator(stage)
        first, second = Role.STDOUT, Role.STDERR

        def start(role: Role | None, succeeds: int = 0, back: int = 0) -> tuple[Puppet, int]:
            program = Program(1, ("child",), (), (role,) if role is not None else ())
            given = [stage.machine.file("text")] if role is not None else []
            trap = traps.EnvironmentCreate(
                root.handles[0], "child", program, keeps=True, succeeds=succeeds, back=back
            )
            made = root.sys.environment_create(trap, given)
            return stage.of(newest(stage)), made.environment

        made, handle = start(first)
        seen, kept = [made.environment.starts.last.roles], [made.environment.starts.held]
        for role, back in ((second, 0), (None, 0), (first, 0), (None, 1), (None, 2), (None, 1)):
            stage.kill(made)
            made, handle = start(role, succeeds=handle, back=back)
            seen.append(made.environment.starts.last.roles)
            kept.append(made.environment.starts.held)

        assert [roles[0] for roles in seen] == [first, second, second, first, second, first, second]
        assert kept == [1, 2, 2, 3, 2, 3, 2]
        assert made.environment.budget.used[Item.DESCRIPTORS] == 2


def test_names_of_servers() -> None:
    """A name of the topology is no program's, whether its server runs or not: not to start, not to publish."""
    with theatre() as stage:
        stage.kernel.environments.names.servers = frozenset({"mail"})
        root = creator(stage)
        made, _ = child(stage, root)

        assert refusal(create, root, "mail") == Refusal.NAME_TAKEN
        assert refusal(root.sys.name_publish, root.handles[0], "mail", made.thread) == Refusal.NAME_TAKEN


def test_a_name_that_awaits_a_successor() -> None:
    """While a program that is to be started again is not back, its name is nobody's to publish."""
    with theatre() as stage:
        root = creator(stage)
        made, _ = child(stage, root, keeps=True)
        stage.kill(made)

        assert refusal(root.sys.name_publish, root.handles[0], "child", root.thread) == Refusal.NAME_TAKEN
        assert stage.heir(made).alive
