"""Frames asked back from a program whose memory is swapped: its pager goes on, whatever is taken."""

from contextlib import suppress

from kernel.abi.limits import FRAME_SIZE
from libexo import pressure, vm
from libexo.environment import Environment
from libexo.errors import IpcError
from libexo.ipc.message import MapItem, Message
from servers.memory.api import Memory, Pressed
from tests.servers.memory.pagers.swapping import FRAMES, Paper, content, swapping, use, used
from tests.servers.memory.presses import extents, press


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


def test_shared_memory_counts_to_whom_it_was_made_for() -> None:
    """Swapped memory that two families have counts to the one it was made for: the other keeps its own, and it."""

    def maker(env: Environment) -> None:
        paper = Paper(env)
        paper.write(3, 7)
        env.thread.call(
            env.lookup("sharer"), Message(items=(MapItem(paper.extent.handle, paper.extent.rights),))
        )
        idle(env, 60)

    def sharer(env: Environment) -> None:
        extents(env, 4)
        sender, message = env.thread.wait()
        [item] = message.items
        assert isinstance(item, MapItem)
        view = vm.map(env, item)
        env.thread.reply(sender, Message())
        idle(env, 5)
        vm.touch(env, view, 3 * FRAME_SIZE, FRAME_SIZE)
        found.append(bytes(view[3 * FRAME_SIZE :][:FRAME_SIZE]) == content(7))

    def idle(env: Environment, seconds: float) -> None:
        with suppress(IpcError):
            env.thread.wait(timeout=seconds)

    found: list[bool] = []
    with swapping() as system:
        second = use(system, sharer, "sharer")
        system.pass_time(0.2)
        use(system, maker, "maker")
        system.pass_time(0.2)

        assert press(system, "sharer", 4) == Pressed(4, 0, 0)
        assert press(system, "sharer", 3) == Pressed(0, 0, 4)
        system.run(second)
        assert found == [True]
        assert press(system, "maker", FRAMES - 1) == Pressed(0, 0, FRAMES)
