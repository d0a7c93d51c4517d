"""Confinement on the real host: each layer alone, failing closed, death with the parent, and memory."""

import ctypes
import fcntl
import mmap
import os
import select
import signal
import socket
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pyseccomp
import pytest

from libexo.launch import confine
from libexo.launch.confine import credentials, landlock, seccomp
from libexo.launch.confine.forked import ChildError, in_child
from tests.system.confined import (
    OTHER,
    PROGRAM,
    UID,
    background,
    confined,
    directory,
    extent,
    foreign,
    held,
    outcome,
    outcomes,
    put_on,
    status,
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give each environment a uid"),
    # pytest's watchdog is a thread; the children forked here never meet it.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


# ------------------------------------------------------------------------------------------- layer by layer


def test_uid_alone() -> None:
    """One identity is left, no group and no capability, even where a securebit would keep them."""

    def work() -> str:
        credentials.prctl(28, 1 << 2)  # PR_SET_SECUREBITS: keep capabilities when the ids change
        credentials.become(UID, OTHER)
        credentials.drop_capabilities()
        return " ".join([*status("Uid", "Gid", "Groups", "CapPrm", "CapEff"), outcome(lambda: os.setuid(0))])

    ids = [str(UID)] * 4 + [str(OTHER)] * 4

    assert in_child(work).split() == [*ids, "0" * 16, "0" * 16, "EPERM"]


@pytest.mark.parametrize(("uid", "gid"), [(0, 5), (5, 0), (-1, 5)])
def test_no_environment_is_root(uid: int, gid: int) -> None:
    """Root, and the -1 that means "leave as it is", are refused as an environment's ids."""
    with pytest.raises(ValueError, match="above 0"):
        credentials.become(uid, gid)


def test_no_new_privs_and_dumpable_alone() -> None:
    """Each of the two attributes is set on the process."""

    def work() -> str:
        credentials.renounce_privileges()
        credentials.forbid_dumps()
        return f"{status('NoNewPrivs')[0]} {foreign('prctl', 3)}"  # PR_GET_DUMPABLE

    assert in_child(work) == "1 0"


def test_landlock_alone() -> None:
    """Even root reads system files only, writes only where told, and executes nothing."""
    with directory() as place, closing(landlock.make_ruleset(confine.Policy(writable=(place,)))) as ruleset:

        def work() -> str:
            credentials.renounce_privileges()
            landlock.restrict(ruleset)
            return outcomes(
                system=lambda: Path("/etc/passwd").read_text(),
                proc=lambda: Path("/proc/self/maps").read_text(),
                null=lambda: Path("/dev/null").write_text("x"),
                given=lambda: (place / "file").write_text("x"),
                above=lambda: list(place.parent.iterdir()),
                system_write=lambda: Path("/etc/passwd").open("a").close(),
                proc_write=lambda: Path("/proc/self/oom_score_adj").write_text("0"),
                execute=lambda: os.execv("/bin/true", ["true"]),
            )

        said = in_child(work)

    allowed, refused = ("system", "proc", "null", "given"), ("above", "system_write", "proc_write", "execute")
    assert said.split() == [f"{name}=done" for name in allowed] + [f"{name}=EACCES" for name in refused]


def test_seccomp_alone() -> None:
    """Even root changes no root directory, opens no network, makes no process and raises no limit."""

    def work() -> str:
        credentials.renounce_privileges()
        seccomp.load(seccomp.compile_filter("program"))
        return outcomes(
            root=lambda: os.chroot("/"),
            network=socket.socket,
            process=os.fork,
            limit=lambda: foreign("setrlimit", 7, (ctypes.c_ulong * 2)(9, 9)),
        )

    assert in_child(work) == "root=EPERM network=EPERM process=EPERM limit=EPERM"


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="i386 calls exist on x86_64")
def test_a_call_of_another_architecture_kills() -> None:
    """`int 0x80` with i386's number of getpid ends the program: the filter knows no such numbers."""

    def work() -> str:
        with mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC) as page:
            page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
            start = ctypes.addressof(ctypes.c_char.from_buffer(page))
            return str(ctypes.CFUNCTYPE(ctypes.c_int)(start)())

    assert in_child(work).isdigit()
    with pytest.raises(ChildError, match="killed by SIGSYS"):
        confined(work)


def test_all_together() -> None:
    """A confined program has no capabilities, no_new_privs, and the filter."""
    fields = ("Uid", "CapEff", "CapInh", "NoNewPrivs", "Seccomp_filters")
    (filters,) = status("Seccomp_filters")  # in a container there is one already
    said = confined(lambda: "|".join(status(*fields)))

    assert said == f"{UID} {UID} {UID} {UID}|{'0' * 16}|{'0' * 16}|1|{int(filters) + 1}"


# ------------------------------------------------------------------------------------------- failing closed


LACKING = {  # layer: the system call by which the host is asked for it, and the argument which says so
    "uid": ("setresuid", ()),
    "no_new_privs": ("prctl", (38,)),
    "dumpable": ("prctl", (4,)),
    "landlock": ("landlock_create_ruleset", ()),
    "seccomp": ("prctl", (22,)),
}


def take_away(layer: str) -> None:
    """Make this process's host one which has no such call, as an old kernel or a container profile does."""
    name, option = LACKING[layer]
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    rules.set_attr(pyseccomp.Attr.CTL_NNP, 0)
    compares = [pyseccomp.Arg(0, pyseccomp.EQ, value) for value in option]
    rules.add_rule(pyseccomp.ERRNO(38), name, *compares)
    rules.load()


@pytest.mark.parametrize("layer", confine.LAYERS)
def test_a_missing_layer_is_an_error(layer: confine.LayerName) -> None:
    """Where the host lacks a layer, preparing fails and names it, the reason and the remedy."""

    def work() -> str:
        take_away(layer)
        try:
            confine.prepare(PROGRAM)
        except confine.ConfinementError as error:
            return f"{error.layer}|{error}"
        return "prepared"

    name, text = in_child(work).split("|")

    assert name == layer
    assert "Function not implemented" in text
    assert f"list '{layer}' in may_lack" in text


@pytest.mark.parametrize("layer", ["uid", "dumpable", "landlock", "seccomp"])
def test_may_lack(layer: confine.LayerName) -> None:
    """A layer that the policy may lack is gone without, and the others are put on."""

    def work() -> str:
        take_away(layer)
        with closing(confine.prepare(confine.Policy(may_lack=(layer,)))) as prepared:
            put_on(prepared)
            return " ".join([*sorted(prepared.layers), *status("NoNewPrivs", "CapEff")])

    assert in_child(work).split() == [*sorted(set(confine.LAYERS) - {layer}), "1", "0" * 16]


def test_may_lack_does_not_take_away() -> None:
    """A layer that the host has is put on although the policy may lack it."""
    policy = confine.Policy(may_lack=confine.LAYERS)

    assert confined(lambda: "|".join(status("Uid", "Seccomp")), policy) == f"{UID} {UID} {UID} {UID}|2"


def test_an_ordinary_user_lacks_the_uid_layer() -> None:
    """A user who is not root is told to be, or goes on with the other layers under the own uid."""

    def work() -> str:
        credentials.become(OTHER, OTHER)
        with pytest.raises(confine.ConfinementError) as error:
            confine.prepare(PROGRAM)
        with closing(confine.prepare(confine.Policy(may_lack={"uid"}))) as prepared:
            put_on(prepared)
            return "|".join([error.value.remedy, *status("Uid", "Seccomp"), outcome(os.fork)])

    assert in_child(work) == (
        f"run as root (in a container: with SETUID and SETGID)|{OTHER} {OTHER} {OTHER} {OTHER}|2|EPERM"
    )


def test_a_step_that_fails_names_its_layer() -> None:
    """An error of the host's while a layer is put on is a ConfinementError of that layer."""
    with closing(confine.prepare(PROGRAM)) as prepared:

        def work() -> str:
            take_away("landlock")
            take_away("seccomp")
            put_on(prepared)
            return "confined"

        with pytest.raises(ChildError, match=r"no confinement by seccomp: .*Function not implemented"):
            in_child(work)


def test_threads_cannot_be_left_out() -> None:
    """A process with a second thread is not confined, for that thread would go free."""

    def work() -> str:
        release = threading.Event()
        threading.Thread(target=release.wait).start()
        try:
            put_on(prepared)
        finally:
            release.set()
        return "confined"

    with closing(confine.prepare(PROGRAM)) as prepared, pytest.raises(ChildError, match="this one has 2"):
        in_child(work)


@pytest.mark.parametrize("wrong", [{"profile": "server"}, {"may_lack": ("seccom",)}, {"may_lack": "uid"}])
def test_a_policy_with_an_unknown_name(wrong: dict[str, Any]) -> None:
    """A name nobody defined is refused when the policy is written, with the names there are."""
    with pytest.raises(ValueError, match="choose from"):
        confine.Policy(**wrong)


def test_a_place_that_is_not_there() -> None:
    """A directory to be given which does not exist is an error that names it, and leaks nothing."""
    with pytest.raises(FileNotFoundError, match="/no/such/place"):
        confine.prepare(confine.Policy(readable=("/no/such/place",)))


def test_probe_leaves_no_trace() -> None:
    """Asking what the host has changes nothing of the process that asks."""
    fields, threads = ("Uid", "Groups", "CapEff", "NoNewPrivs", "Seccomp_filters"), "/proc/self/task"
    before, then = [*status(*fields), foreign("prctl", 3)], set(os.listdir(threads))  # noqa: PTH208
    layers = confine.probe()

    assert [*status(*fields), foreign("prctl", 3)] == before
    assert set(os.listdir(threads)) <= then  # noqa: PTH208 - one of an earlier test may end meanwhile
    assert [layer.name for layer in layers] == list(confine.LAYERS)
    assert all(layer.available and layer.detail and layer.remedy for layer in layers)


# ------------------------------------------------------------------------------------------ death and memory


def test_death_with_the_parent() -> None:
    """A program is killed when its nursery ends, and cannot call that off."""
    reading, writing = os.pipe()

    def nursery() -> None:
        with closing(confine.prepare(PROGRAM)) as prepared:
            if os.fork() == 0:
                put_on(prepared)
                os.write(writing, f"{os.getpid()} {outcome(lambda: foreign('prctl', 1, 0))}".encode())
            signal.pause()

    with held(reading):
        with held(writing), background(nursery) as parent:
            pid, calling_off = os.read(reading, 100).split()
            program = os.pidfd_open(int(pid))
            os.kill(parent, signal.SIGKILL)
        with held(program):
            assert select.select([program], [], [], 30)[0] == [program]
    assert calling_off == b"EPERM"


def test_a_parent_that_is_gone_already() -> None:
    """A child whose parent ended before it asked for the death signal kills itself."""

    def work() -> str:
        credentials.die_with(os.getpid())
        return "alive"

    with pytest.raises(ChildError, match="killed by SIGKILL"):
        in_child(work)


def test_a_writable_extent_keeps_its_size() -> None:
    """A writer of an extent cannot cut, grow, punch or seal it, nor make memory of its own to share."""
    with extent() as descriptor, mmap.mmap(descriptor, 4096) as memory:

        def work() -> str:
            memory[0] = 7
            return outcomes(
                cut_by_opening=lambda: os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_TRUNC),
                cut=lambda: os.ftruncate(descriptor, 0),
                cut_by_name=lambda: os.truncate(f"/proc/self/fd/{descriptor}", 0),
                grow=lambda: os.posix_fallocate(descriptor, 0, 8192),
                punch=lambda: memory.madvise(mmap.MADV_REMOVE),
                seal=lambda: fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK),
                own=lambda: os.memfd_create("own"),
            )

        said = [word.split("=")[1] for word in confined(work).split()]
        assert (memory[0], os.fstat(descriptor).st_size) == (7, 4096)
    assert said == ["EACCES"] + ["EPERM"] * 6


def test_a_read_only_extent_stays_read_only() -> None:
    """A descriptor opened read-only cannot be opened again for writing; unconfined, root could."""
    with extent() as descriptor, held(os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY)) as reader:

        def reopen() -> str:
            return outcome(lambda: os.open(f"/proc/self/fd/{reader}", os.O_RDWR))

        assert (confined(reopen), in_child(reopen)) == ("EACCES", "done")
