"""The names of the Pistachio fork: IPC with a status. Its memory protocol is tested with the memory server."""

import pytest

from kernel.abi.ids import thread_id
from kernel.abi.messages import IpcCode
from libexo import l4
from libexo.environment import Environment
from libexo.l4.exo import exo_call, exo_ipc_status, exo_receive, exo_reply, exo_send
from libexo.l4.space.space import space_of
from libexo.testing import simulated


def test_the_numbers_of_the_statuses() -> None:
    """Each status is the code of the X.2 error word, and 0 is success."""
    names = "Ok SendTimeout NoPartner Cancelled MsgOverflow XferTimeoutCurrent XferTimeoutPartner Aborted"

    assert [status.name for status in exo_ipc_status] == names.split()
    assert [int(status) for status in exo_ipc_status][1:] == [int(code) for code in IpcCode]


def test_a_conversation() -> None:
    """Call, receive, send and reply move messages as Ipc does, and say that they did."""

    def server(env: Environment) -> list[exo_ipc_status]:
        client = env.lookup("client", 1)
        found = [exo_receive(client)]
        l4.LoadMRs(0, (l4.MsgTag.of(u=1), l4.StoreMR(1) + 1))
        found.append(exo_reply(client))
        found.append(exo_receive(client))
        return found

    def client(env: Environment) -> tuple[list[exo_ipc_status], int]:
        to = env.lookup("server", 1)
        l4.LoadMRs(0, (l4.MsgTag.of(u=1), 41))
        status = exo_call(to)
        answer = l4.StoreMR(1)
        return [status, exo_send(to)], answer

    with simulated() as system:
        tasks = system.spawn(server, "server"), system.spawn(client, "client")
        system.run(*tasks)

        assert tasks[0].result == [exo_ipc_status.Ok] * 3
        assert tasks[1].result == ([exo_ipc_status.Ok] * 2, 42)


@pytest.mark.parametrize("operation", [exo_call, exo_send, exo_reply, exo_receive])
def test_no_partner(operation: object) -> None:
    """A thread that does not exist is NoPartner, whichever phase finds out."""
    assert callable(operation)

    def client(_env: Environment) -> object:
        l4.LoadMR(0, l4.MsgTag.of())
        return operation(thread_id(1234))

    with simulated() as system:
        task = system.spawn(client, "client")
        system.run(task)

        assert task.result is exo_ipc_status.NoPartner


def test_nobody_ready() -> None:
    """A reply to a thread that does not wait is SendTimeout; a message that is cut is MsgOverflow."""

    def busy(env: Environment) -> None:
        env.thread.sleep(0.5)
        l4.Wait()

    def client(env: Environment) -> list[exo_ipc_status]:
        to = env.lookup("busy", 1)
        l4.LoadMR(0, l4.MsgTag.of())
        found = [exo_reply(to)]
        text = space_of(env).buffer(b"x")
        l4.LoadMRs(0, (l4.MsgTag.of(t=2), *l4.StringItem(1, text).words))
        return [*found, exo_send(to)]

    with simulated() as system:
        _, task = system.spawn(busy, "busy"), system.spawn(client, "client")
        system.run(task)

        assert task.result == [exo_ipc_status.SendTimeout, exo_ipc_status.MsgOverflow]
