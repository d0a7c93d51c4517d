"""Attacks on tables that all share: what a program hoards until its budget ends, and others have meanwhile."""

from tests.system.attacks import Attack

HOARDS = (
    Attack(
        "many_names", "publishes as many names as it may, and once more; others still can",
        "process = Processes.connect(env)\n"
        "def registered(name):\n"
        "    try: process.register(name)\n"
        "    except RemoteError as error: return error.kind\n"
        "    return 'done'\n"
        "said = [registered(f'name-{n}') for n in range(40)]\n"
        "print(said.count('done'), said[-1], vault.secret())",
        "16 NameTaken b'secret'",
    ),
    Attack(
        "many_waits", "waits for the same end again and again, and takes no answer",
        "from libexo.errors import IpcTimeout\n"
        "process, quick = Processes.connect(env), Processes.connect(env, timeout=0.02)\n"
        "child = process.spawn(ProgramSpec(3, ('/bin/sleep', '1000'), budget={'waits': 0}))\n"
        "waits = lambda: env.kip.budget(env.number)[9]\n"
        "def waited(by):\n"
        "    try: by.wait(child)\n"
        "    except IpcTimeout as late: return late.phase.name  # SEND: it was withdrawn, and nobody holds it\n"
        "    except RemoteError as error: return error.kind\n"
        "said = []\n"
        "while said[-1:] != ['TooManyWaits'] and waits().used < waits().limit: said.append(waited(quick))\n"
        "said += [waited(process)]  # all are used: the answer comes, however late\n"
        "full = said.count('RECEIVE') >= waits().used == waits().limit\n"
        "process.kill(child); print(said[-1], full,"
        " {*said} == {'RECEIVE', 'TooManyWaits'} | {*said} & {'SEND'}, vault.secret())",
        "TooManyWaits True True b'secret'",
    ),
    Attack(
        "many_deadlines", "asks its memory back by thousands of deadlines that never come",
        "extent = memory.allocate(1)\n"
        "parts = [env.sys.derive(extent.handle, 4) for _ in range(100)]\n"
        "batch = [traps.Revoke(part, 4_000_000_000) for part in parts]\n"
        "refused = [r for some in (batch[:50], batch[50:]) for r in env.sys.batch(some)[0]"
        " if isinstance(r, TrapRefused)]\n"
        "print(len(refused), refused[0].refusal.name, vault.secret())",
        "36 OVER_BUDGET b'secret'",
    ),
    Attack(
        "offers_to_itself", "offers what it holds without end, and takes nothing",
        "extent = memory.allocate(1); me = env.thread.id\n"
        "made = [env.sys.transfer(extent.handle, me, 4) for _ in range(500)]\n"
        "print(env.kip.budget(env.number)[10].used, vault.secret())",
        "64 b'secret'",
    ),
)  # fmt: skip
