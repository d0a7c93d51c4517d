"""Say which protections and features this host gives, and how to get those that are missing.

Protections are tried out, each in a process forked for it: what keeps one environment out of every other.
Without one of them the system refuses to boot, unless told to go without: 'exo up --degraded', or may_lack in
system.toml. Fences are their consequences: what programs cannot reach of yours and of the host's. Features
marked "no" cost speed or comfort only. Below paged memory is what it is made of on this host.
"""

import ctypes
import os
import platform
import resource
import struct
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from exo import view
from exo.system import run_directory
from exo.uninvited import surplus

ARGUMENTS = "[--json]"
EXAMPLES = """\
  exo doctor
  exo doctor --json | jq '.[] | select(.available | not) | .name'"""

LINUX = (5, 14)
DESCRIPTORS = 4096
"""Enough for some 500 environments."""
SOCKET_PATH = 107 - len("/ipc/") - 22
"""The longest path of a run directory, in bytes."""
SWITCHES = struct.pack("<IIQQQQQ64x", 1, 112, 9, 0, 0, 0, 1 << 26)
"""Attributes of a perf event that counts nothing, and records switches: linux/perf_event.h."""
PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
PAGING = "paging"
"""The group of what paged memory is made of: to get it is to get paged memory."""


@dataclass(frozen=True)
class Check:
    """One property of the host."""

    name: str
    group: str
    required: bool
    available: bool
    detail: str
    remedy: str


def configure(parser: ArgumentParser) -> None:
    """Add the options of `doctor`."""
    view.add_json(parser)


def main(options: Namespace) -> int:
    """Print the table; return 1 when something required is missing."""
    run = run_directory(options.run)
    checks = [*host(run), *protections(), *features(), *paged(), system(run)]
    if options.json:
        view.print_json([asdict(check) for check in checks])
    else:
        print(text(checks))
    return int(any(check.required and not check.available for check in checks))


def text(checks: list[Check]) -> str:
    """Return the table, and the remedies below it."""
    rows = [(check.group, check.name, _mark(check), check.detail) for check in checks]
    lines = [view.table(("", "WHAT", "HERE", ""), rows)]
    missing = [check for check in checks if not check.available and check.group != PAGING]
    if missing:
        width = max(len(check.name) for check in missing)
        lines += [
            "",
            "to get the missing:",
            *(f"  {check.name:{width}}  {check.remedy}" for check in missing),
        ]
    needed = [check for check in missing if check.required]
    if not needed:
        open_ = any(check.group == "fence" for check in missing)
        rest = "docs/design.md says what an open fence lets through" if open_ else "the rest is comfort"
        lines += ["", f"every protection is there; {rest}" if missing else "every protection is there"]
    elif all(check.group == "protection" for check in needed):
        lines += ["", "'exo up --degraded' boots without the missing protections"]
    return "\n".join(lines)


def _mark(check: Check) -> str:
    if check.available:
        return "yes"
    return "MISSING" if check.required else "no"


# --------------------------------------------------------------------------------------------------- checks


def host(run: str) -> list[Check]:
    """Return the requirements of everything."""
    release = platform.release()
    version = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdecimal())
    place = _first_there(run)
    return [
        _need("Linux", version >= LINUX, release, "boot Linux 5.14 or newer"),
        _need("memory files", *_try(_memory_file), "boot a kernel with CONFIG_MEMFD_CREATE"),
        _need("process descriptors", *_try(_process), "use a container profile that passes pidfd_open"),
        _need("ZeroMQ", *_try(_zeromq), "pip install pyzmq"),
        _need(
            "run directory",
            os.access(place, os.W_OK) and len(os.fsencode(run)) <= SOCKET_PATH,
            run,
            f"set EXO_RUN to a path below {SOCKET_PATH} bytes that you may write to",
        ),
    ]


def protections() -> list[Check]:
    """Return the layers of confinement, each tried out, and their consequences."""
    from libexo.launch.confine import fences, probe

    layers = probe()
    tried = [
        Check(layer.name, "protection", True, layer.available, layer.detail, layer.remedy) for layer in layers
    ]
    follow = [
        Check(fence.name, "fence", False, fence.holds, fence.detail, fence.remedy) for fence in fences(layers)
    ]
    return [*tried, *follow]


def features() -> list[Check]:
    """Return features that make things faster, or possible that few need."""
    cores = len(os.sched_getaffinity(0))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = hard if hard != resource.RLIM_INFINITY else max(soft, DESCRIPTORS)
    return [
        _feature("two cores", cores >= 2, f"{cores} to use", "give it two: servers run beside the plans"),  # noqa: PLR2004
        _feature(
            "descriptors", limit >= DESCRIPTORS, f"up to {limit}", "raise 'ulimit -Hn' for many environments"
        ),
        _feature(
            "record of switches",
            *_try(_switches),
            "sleep and waking are noticed later without it; be root, or have CAP_PERFMON",
        ),
        _feature(
            "cgroup v2",
            *_try(_cgroup),
            "mount cgroup2 at /sys/fs/cgroup, writable: systemd-run --user --scope does",
        ),
        _feature("TAP devices", *_try(_tap), "load the module tun, and give access to /dev/net/tun"),
    ]


def system(run: str) -> Check:
    """Return what can be said of the system that runs there, if one does."""
    there, detail = _try(partial(surplus, run))
    return Check(
        "memory", "system", False, there, detail, "have their pagers sweep, or end those who map them"
    )


def _need(name: str, available: bool, detail: str, remedy: str) -> Check:  # noqa: FBT001 - a row of a table
    return Check(name, "host", required=True, available=available, detail=detail, remedy=remedy)


def _feature(name: str, available: bool, detail: str, remedy: str) -> Check:  # noqa: FBT001 - a row of a table
    return Check(name, "feature", required=False, available=available, detail=detail, remedy=remedy)


def _try(check: Callable[[], str]) -> tuple[bool, str]:
    """Return whether *check* went well, and its text."""
    try:
        return True, check()
    except (OSError, ImportError) as error:
        return False, getattr(error, "strerror", None) or str(error)


def _first_there(run: str) -> Path:
    """Return the deepest existing directory on the way to *run*."""
    path = Path(run)
    while not path.exists():
        path = path.parent
    return path


def _memory_file() -> str:
    os.close(os.memfd_create("exo-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    return "memfd_create, with seals"


def _process() -> str:
    os.close(os.pidfd_open(os.getpid()))
    return "pidfd_open"


def _zeromq() -> str:
    import zmq

    return f"pyzmq {zmq.__version__}, libzmq {zmq.zmq_version()}"


def paged() -> list[Check]:
    """Return what programs are paged with, and first whether they can be."""
    from exo.paging import given

    found = given()
    lacks = [each for each in found if each.needed and not each.there]
    why = lacks[0].detail if lacks else "programs can be started by 'exo run --paged'"
    remedy = "boot Linux 6.6 or newer; in a container, pass the system call, or give it /dev/userfaultfd"
    checks = [Check("paged memory", "feature", False, not lacks, why, remedy)]
    for each in found:
        way = f"from Linux {each.linux} on" + ("; in a container, as paged memory" if each.needed else "")
        checks.append(Check(each.name, PAGING, False, each.there, each.detail, way))
    return checks


def _switches() -> str:
    core, everybody, alone = min(os.sched_getaffinity(0)), -1, -1
    number = PERF_EVENT_OPEN.get(platform.machine(), -1)
    os.close(_call(number, SWITCHES, everybody, core, alone, 0))
    return "sleep and waking are noticed within 2 ms, and charged exactly"


def _cgroup() -> str:
    root = Path("/sys/fs/cgroup")
    controllers = (root / "cgroup.controllers").read_text(encoding="ascii").split()
    if not os.access(root, os.W_OK):
        raise PermissionError(0, "mounted, not writable")
    return " ".join(controllers) or "no controllers"


def _tap() -> str:
    os.close(os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC))
    return "/dev/net/tun"


def _call(number: int, *arguments: int | bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(
        ctypes.c_long(number), *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments)
    )
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
