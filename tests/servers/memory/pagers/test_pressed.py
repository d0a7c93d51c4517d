"""Frames asked back from a program whose memory is swapped: its pager goes on, whatever is taken."""

from libexo import pressure, vm
from libexo.environment import Environment
from servers.memory.api import Memory, Pressed
from tests.servers.memory.pagers.swapping import FRAMES, Paper, content, swapping, use, used
from tests.servers.memory.presses import press


def test_a_swapped_object_is_taken() -> None:
    """The frames of swapped memory count to its program and go like others; others' swapped memory is served on."""

    def user(env: Environment) -> None:
        paper = Paper(env)
        for page in range(20):
            paper.write(page, page)
        env.thread.sleep(5)

    def other(env: Environment) -> bool:
        paper = Paper(env)
        for page in range(20):
            paper.write(page, page + 100)
        return all(paper.read(page) == content(page + 100) for page in range(20))

    with swapping() as system:
        use(system, user)
        system.pass_time(0.5)
        free = system.kernel.frames.free

        assert press(system, "user", 0, 0.2) == Pressed(0, 0, FRAMES)
        assert system.kernel.frames.free == free + FRAMES
        assert used(system, other, "other") is True


def test_swapped_memory_is_spared() -> None:
    """A program that spares its swapped memory keeps it, with what is in it, and loses a plain extent."""

    def user(env: Environment) -> bool:
        paper, plain = Paper(env), Memory.connect(env).allocate(4)
        vm.map(env, plain)[:1] = b"x"
        pressure.Rules(env).set(first=[plain], spared=[paper.extent])
        for page in range(20):
            paper.write(page, page)
        env.thread.sleep(2)
        lost = pressure.repossessed(env) == [plain.handle]
        return lost and all(paper.read(page) == content(page) for page in range(20))

    with swapping() as system:
        task = use(system, user)
        system.pass_time(0.5)

        assert press(system, "user", FRAMES + 1, 0.2) == Pressed(FRAMES + 1, 0, 4)
        system.run(task)
        assert task.result is True
