"""docker-compose.yml says what docker/system.toml says, and asks for no more of the host than it must."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kernel.abi.topology import AttachConfig, ServerConfig, Topology, load

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TOOLS = ("shell", "tests")
SERVERS = {name: service for name, service in SERVICES.items() if name not in ("kernel", *TOOLS)}
EXTRA: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.counter.yml").read_text(encoding="utf-8"))
COUNTER: dict[str, Any] = EXTRA["services"]["counter"]
PAGED: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.paged.yml").read_text(encoding="utf-8"))
LOCKED_UP = {name: service for name, service in SERVICES.items() if name != "tests"} | {"counter": COUNTER}
ATTACHED = {name: service for name, service in LOCKED_UP.items() if name != "kernel"}
CONFIG = "/opt/exokernel/docker/system.toml"
KERNEL_CAPABILITIES = ("KILL", "SETUID", "SETGID")
TEST_CAPABILITIES = (*KERNEL_CAPABILITIES, "SETPCAP", "SYS_PTRACE", "DAC_OVERRIDE")
FORBIDDEN = ("privileged", "ipc", "userns_mode", "cgroup_parent", "volumes_from", "ports", "env_file")
FIRST_PROGRAM_UID = 200_000


def topology() -> Topology:
    return load(ROOT / "docker" / "system.toml")


def comments_of(line_start: str) -> list[str]:
    """Return the comment on each line of the file that begins so."""
    lines = (ROOT / "docker-compose.yml").read_text(encoding="utf-8").splitlines()
    return [line.partition("#")[2].strip() for line in lines if line.strip().startswith(line_start)]


# ------------------------------------------------------------------------------------ the topology


def test_every_server_is_a_service() -> None:
    """Services and servers have the same names; besides there are the kernel and the tools."""
    assert SERVERS.keys() == topology().server.keys()


def test_up_starts_no_tool() -> None:
    """The shell and the tests are there when asked for, and everything else is there always."""
    assert {name for name, service in SERVICES.items() if service.get("profiles") == ["tools"]} == set(TOOLS)
    assert not [name for name in ("kernel", *SERVERS) if "profiles" in SERVICES[name]]


@pytest.mark.parametrize("name", [*SERVERS, "counter"])
def test_health_is_an_answer(name: str) -> None:
    """A server is healthy when it answers a message, and not when its process or its socket is there."""
    test = ATTACHED[name]["healthcheck"]["test"]

    assert test[:3] == ["CMD", "exo", "ping"]
    assert test[-1] == name


def test_the_shell_is_an_operators() -> None:
    """Its uid may command the system; it waits until there is one, and every server answers."""
    shell = SERVICES["shell"]

    assert int(shell["user"].partition(":")[0]) in topology().attach.operators
    assert shell["depends_on"] == {name: {"condition": "service_healthy"} for name in ("kernel", *SERVERS)}
    assert (ROOT / "docker" / Path(shell["command"][-1]).name).is_file()


def test_a_service_of_ones_own_is_a_member() -> None:
    """The example attaches as a uid that may, and that may not command."""
    uid = int(COUNTER["user"].partition(":")[0])

    assert uid in topology().attach.members
    assert uid not in topology().attach.operators
    assert COUNTER["command"][:3] == ["exo", "serve", "--here"]


@pytest.mark.parametrize("name", SERVERS)
def test_service_runs_its_server(name: str) -> None:
    """A service attaches the server it is named after, by the topology the kernel has."""
    assert SERVERS[name]["command"] == ["exo", "serve", "--config", CONFIG, name]


@pytest.mark.parametrize("name", SERVERS)
def test_user_is_the_uid_the_kernel_expects(name: str) -> None:
    """A service runs as the uid of its server, which the kernel asks the host for."""
    server = topology().server[name]

    assert SERVERS[name]["user"] == f"{server.uid}:{server.uid}"
    assert server.uid == 10_000 + server.thread


def test_uids_are_nobody_elses() -> None:
    """No two of those who attach share a uid, and none has one that the kernel gives to programs."""
    servers = [server.uid for server in topology().server.values() if server.uid is not None]
    uids = [*servers, *topology().attach.operators, *topology().attach.members]

    assert len(servers) == len(topology().server)
    assert len(set(uids)) == len(uids)
    assert all(0 < uid < FIRST_PROGRAM_UID for uid in uids)


def test_topology_is_that_of_system_toml() -> None:
    """But for how servers are started and as whom, containers run the system everybody runs."""

    def embedded(server: ServerConfig) -> ServerConfig:
        return msgspec.structs.replace(server, start="boot", uid=None)

    plain, contained = load(ROOT / "system.toml"), topology()

    assert {name: embedded(server) for name, server in contained.server.items()} == plain.server
    assert all(server.start == "attach" for server in contained.server.values())
    bare = {"server": {}, "attach": AttachConfig()}
    assert msgspec.structs.replace(contained, **bare) == msgspec.structs.replace(plain, **bare)


def test_kernel_boots_that_topology_in_the_volume() -> None:
    """The kernel makes its run directory where the servers have the volume mounted, and they read only."""
    command = SERVICES["kernel"]["command"]

    assert command[command.index("--config") + 1] == CONFIG
    assert SERVICES["kernel"]["volumes"] == [f"run:{command[command.index('--run') + 1]}"]
    assert all(service["volumes"] == ["run:/run/exo:ro"] for service in ATTACHED.values())
    assert COMPOSE["volumes"] == {"run": {}}


@pytest.mark.parametrize("name", ATTACHED)
def test_server_is_in_sight_of_the_kernel(name: str) -> None:
    """The kernel can name a server's process, and is there before it."""
    assert ATTACHED[name]["pid"] == "service:kernel"
    assert ATTACHED[name]["depends_on"]["kernel"] == {"condition": "service_healthy"}


# ------------------------------------------------------------------------------------- what is asked of the host


@pytest.mark.parametrize("name", [*LOCKED_UP, "tests"])
def test_service_is_locked_up(name: str) -> None:
    """Every container gives all capabilities up, cannot gain any, has no network; all but one write nowhere."""
    service = LOCKED_UP.get(name) or SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is (name != "tests")
    assert service["network_mode"] == "none"


@pytest.mark.parametrize("name", [*LOCKED_UP, "tests"])
def test_service_takes_nothing_from_the_host(name: str) -> None:
    """No container is privileged, sees the host's namespaces, mounts its files, or opens a port."""
    service = LOCKED_UP.get(name) or SERVICES[name]
    named = [volume.partition(":")[0] for volume in service.get("volumes", [])]

    assert not [key for key in FORBIDDEN if key in service]
    assert service.get("pid") in (None, "service:kernel")
    assert set(named) <= COMPOSE["volumes"].keys()


@pytest.mark.parametrize("name", [*SERVERS, "counter"])
def test_a_server_comes_before_programs(name: str) -> None:
    """A server of the topology has four times the share of a busy core that all programs have together."""
    container = 1024  # of which the file says nothing

    assert ATTACHED[name].get("cpu_shares", container) == (4 * container if name in SERVERS else container)
    assert "cpu_shares" not in SERVICES["kernel"]


def test_only_the_kernel_keeps_capabilities() -> None:
    """They are three, and what the tests have besides is named; the file gives the reason for each."""
    assert SERVICES["kernel"]["cap_add"] == list(KERNEL_CAPABILITIES)
    assert SERVICES["tests"]["cap_add"] == list(TEST_CAPABILITIES)
    assert not [name for name, service in ATTACHED.items() if "cap_add" in service]
    assert all(all(comments_of(f"- {capability}")) for capability in TEST_CAPABILITIES)


def test_paged_programs_need_a_device() -> None:
    """What they need of the host is in a file of its own, for the kernel's container alone."""
    assert PAGED["services"] == {"kernel": {"devices": ["/dev/userfaultfd"], "cap_add": ["SYS_NICE"]}}
    assert not [name for name, service in SERVICES.items() if "devices" in service]


@pytest.mark.parametrize("name", ATTACHED)
def test_server_is_an_ordinary_user(name: str) -> None:
    """Of the system only the kernel is root, for it gives uids away."""
    assert SERVICES["kernel"]["user"] == "0:0"
    assert not ATTACHED[name]["user"].startswith("0")


@pytest.mark.parametrize(
    "files",
    [
        [],
        ["-f", "docker-compose.yml", "-f", "docker-compose.counter.yml"],
        ["-f", "docker-compose.yml", "-f", "docker-compose.paged.yml"],
    ],
)
def test_older_compose_reads_it(files: list[str]) -> None:
    """docker-compose, where it is installed, finds the file valid, and with the example beside it."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")

    subprocess.run([program, *files, "config", "--quiet"], cwd=ROOT, check=True)


# ------------------------------------------------------------------------------------------------- the image


def test_image_is_pinned() -> None:
    """The image comes from Debian alone, and takes libraries by hash, as wheels."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    stages = [line.split()[1::2] for line in text.splitlines() if line.startswith("FROM")]

    assert {base for base, _ in stages} - {name for _, name in stages} == {"debian:bookworm-slim"}
    assert text.count("--require-hashes") == text.count("--only-binary :all:") == text.count("/bin/pip ") == 2


@pytest.mark.parametrize("service", SERVICES.values(), ids=SERVICES)
def test_image_is_a_stage_of_the_dockerfile(service: dict[str, Any]) -> None:
    """Every container runs the same image, but for the tests, which run that with their tools."""
    target = service["build"]["target"]

    assert service["image"] == {"system": "exokernel", "tests": "exokernel-tests"}[target]
    assert f"AS {target}\n" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_image_has_the_libraries_that_running_needs() -> None:
    """Of the lock the image takes the run-time dependencies with what they need, and no tool."""
    script = runpy.run_path(str(ROOT / "docker" / "select_lock.py"))
    project, lock = ((ROOT / name).read_text("utf-8") for name in ("pyproject.toml", "requirements.lock"))
    selected = script["select"](project, lock)

    names = [line.partition("==")[0] for line in selected.splitlines() if "==" in line and line[0].isalpha()]
    assert {"landlockpy", "msgspec", "psutil", "pyseccomp", "pyzmq", "uvloop"} <= set(names)
    assert not {"pytest", "mypy", "ruff", "matplotlib"} & set(names)
    assert selected.count("--hash=sha256:") >= len(names)


def test_missing_library_is_named() -> None:
    """A dependency the lock lacks stops the build, and is named."""
    script = ROOT / "docker" / "select_lock.py"
    command = [sys.executable, str(script), str(ROOT / "pyproject.toml"), "/dev/null"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "uvloop: not in the lock: run tools/lock.sh" in done.stderr
