"""Families: a program with all its descendants, as the kernel shows them."""

from kernel.abi import traps
from kernel.abi.ids import thread_id
from tests.kernel.puppets import theatre
from tests.kernel.test_budget import PROGRAM, Crowd


def test_a_family_is_one_party() -> None:
    """Receivers are told which senders are one program and its descendants, also when some of them ended."""
    with theatre() as stage:
        crowd = Crowd(stage)
        shell, stranger = crowd.begin("shell"), crowd.begin("stranger")
        parent = crowd.begin("parent", shell, DESCRIPTORS=400)
        child = crowd.begin("child", parent, DESCRIPTORS=200)
        receiver = stage.puppet("receiver")
        crowd.end(parent)
        crowd.end(shell)
        for sender in (child, stranger):
            sender.connect(sender.sys.bind(receiver.thread)[0].address)
        last = crowd.begin("grandchild", child)
        last.connect(last.sys.bind(receiver.thread)[0].address)
        arrived, _ = receiver.sys.incoming()
        of_child, of_stranger, of_last = (each.who.family for each in arrived)

        assert of_child == of_last != of_stranger


def test_who_is_of_one_family() -> None:
    """The kernel tells all descents, through dead parents, spaces too; a server's child is a family's first."""
    with theatre() as stage:
        crowd = Crowd(stage)
        server = stage.of(stage.kernel.environments.create("server", PROGRAM, [], number=120))
        first = crowd.begin("first", keeps=True)
        child = crowd.begin("child", first)
        grandchild = crowd.begin("grandchild", child)
        others = [crowd.begin("other"), crowd.begin("hired", server)]
        crowd.end(child)
        stage.kill(first)
        heir, space = stage.heir(first), thread_id(2000)
        crowd.root.sys.thread_control(traps.ThreadControl(space, space, crowd.root.thread))
        late = crowd.begin("late", grandchild)
        rows = {row.name: row for row in crowd.root.env.kip.environments()}

        assert {rows[name].family for name in ("grandchild", "late")} == {rows[heir.name].family}
        assert len({row.family for row in rows.values() if row.family}) == 4  # root is a program here, too
        assert rows["server"].family == 0
        assert rows["space-2000"].family == rows["root"].family
        assert {row.name for row in rows.values() if row.is_first} == {
            "first", "root", *(each.name for each in others)
        }  # fmt: skip
        assert late.environment.budget.family == heir.environment.budget.family
