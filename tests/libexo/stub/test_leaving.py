"""Calls to a server that ends itself, or is not there: which thread is asked, and what it is told."""

import pytest

import libexo
from libexo.errors import NoPartner, NotFound, RemoteError
from libexo.stub import Interface, operation, serve
from libexo.testing import simulated


class Leaver(Interface, label=0x71, name="leaver"):
    """A server that ends itself in an operation."""

    @operation(1)
    def leave(self) -> None: ...

    @operation(2, repeatable=True)
    def get(self) -> int:
        raise NotImplementedError

    @operation(3)
    def once(self) -> int:
        raise NotImplementedError


class LeaverServer(Leaver):
    """Serves it."""

    def leave(self) -> None:
        self.environment.thread.sleep(2)
        raise SystemExit(3)

    def get(self) -> int:
        return 7

    once = get


def leaver(env: libexo.Environment) -> None:
    serve(LeaverServer(), environment=env)


def test_a_program_that_found_itself_is_told_that_nobody_serves() -> None:
    """A program may have the name of the server it looks for: then it is the only one of that name."""
    with simulated() as system:
        system.spawn(lambda env: Leaver.connect(env).get(), "leaver")
        words = "nobody serves 'leaver': .* is this program itself. .*'exo serve --name leaver module:Class'"
        with pytest.raises(NotFound, match=words):
            system.run()


@pytest.mark.parametrize("seed", range(10))
def test_who_did_not_end_a_server_is_not_blamed(seed: int) -> None:
    """Requests not begun when a call ended the server go to its successor: waiting ones, and that caller's next."""

    def leave(env: libexo.Environment) -> int:
        stub = Leaver.connect(env)
        with pytest.raises(RemoteError, match="SystemExit: 3"):
            stub.leave()
        return stub.get()

    def wait(env: libexo.Environment) -> int:
        env.thread.sleep(1)
        return Leaver.connect(env).once()

    with simulated(seed=seed) as system:
        watcher = system.spawn(lambda env: env.thread.sleep(60), "watcher")
        server = system.spawn(leaver, "leaver", holds=("ram",), keeps=True)
        system.give(watcher, server.environment)
        clients = [system.spawn(work) for work in (leave, wait)]
        system.run(server, errors=False)
        system.kernel.environments.succeed(server.environment, server.body.program)
        system.run(*clients)
        assert [client.result for client in clients] == [7, 7]


def test_what_a_server_that_leaves_may_have_begun_is_not_repeated() -> None:
    """The next call of the client that ended it, if not repeatable, fails: it may have been done."""

    def leave(env: libexo.Environment) -> str:
        stub = Leaver.connect(env)
        with pytest.raises(RemoteError, match="SystemExit: 3"):
            stub.leave()
        with pytest.raises(
            NoPartner, match="ending already, by an earlier call; whether it was done is not known"
        ):
            stub.once()
        return "told"

    class Slow(LeaverServer):
        """Takes its time to be gone."""

    def slow(env: libexo.Environment) -> None:
        try:
            serve(Slow(), environment=env)
        finally:
            env.thread.sleep(1)

    with simulated() as system:
        server = system.spawn(slow, "leaver")
        client = system.spawn(leave)
        system.run(server, errors=False)
        system.run(client)
        assert client.result == "told"
