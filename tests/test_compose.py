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

from kernel.abi.topology import ServerConfig, Topology, load

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SERVERS = {name: service for name, service in SERVICES.items() if name != "kernel"}
CONFIG = "/opt/exokernel/docker/system.toml"
KERNEL_CAPABILITIES = ("KILL", "SETUID", "SETGID")
FORBIDDEN = ("privileged", "ipc", "userns_mode", "cgroup_parent", "volumes_from", "ports", "env_file")
FIRST_PROGRAM_UID = 200_000


def topology() -> Topology:
    return load(ROOT / "docker" / "system.toml")


def comment_of(line_start: str) -> str:
    """Return the comment on the one line of the file that begins so."""
    lines = (ROOT / "docker-compose.yml").read_text(encoding="utf-8").splitlines()
    (line,) = [line for line in lines if line.strip().startswith(line_start)]
    return line.partition("#")[2].strip()


# ------------------------------------------------------------------------------------ the topology


def test_every_server_is_a_service() -> None:
    """Services and servers have the same names; the kernel is the one service besides."""
    assert SERVERS.keys() == topology().server.keys()


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
    """No two servers share a uid, and none has one that the kernel gives to programs."""
    uids = [server.uid for server in topology().server.values() if server.uid is not None]

    assert len(set(uids)) == len(topology().server)
    assert all(0 < uid < FIRST_PROGRAM_UID for uid in uids)


def test_topology_is_that_of_system_toml() -> None:
    """But for how servers are started and as whom, containers run the system everybody runs."""

    def embedded(server: ServerConfig) -> ServerConfig:
        return msgspec.structs.replace(server, start="boot", uid=None)

    plain, contained = load(ROOT / "system.toml"), topology()

    assert {name: embedded(server) for name, server in contained.server.items()} == plain.server
    assert all(server.start == "attach" for server in contained.server.values())
    assert msgspec.structs.replace(contained, server={}) == msgspec.structs.replace(plain, server={})


def test_kernel_boots_that_topology_in_the_volume() -> None:
    """The kernel makes its run directory where the servers have the volume mounted, and they read only."""
    command = SERVICES["kernel"]["command"]

    assert command[command.index("--config") + 1] == CONFIG
    assert SERVICES["kernel"]["volumes"] == [f"run:{command[command.index('--run') + 1]}"]
    assert all(service["volumes"] == ["run:/run/exo:ro"] for service in SERVERS.values())
    assert COMPOSE["volumes"] == {"run": {}}


@pytest.mark.parametrize("name", SERVERS)
def test_server_is_in_sight_of_the_kernel(name: str) -> None:
    """The kernel can name a server's process, and is there before it."""
    assert SERVERS[name]["pid"] == "service:kernel"
    assert SERVERS[name]["depends_on"] == {"kernel": {"condition": "service_healthy"}}


# ------------------------------------------------------------------------------------- what is asked of the host


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_locked_up(name: str) -> None:
    """Every container gives all capabilities up, cannot gain any, writes to no file system, has no network."""
    service = SERVICES[name]

    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["read_only"] is True
    assert service["network_mode"] == "none"


@pytest.mark.parametrize("name", SERVICES)
def test_service_takes_nothing_from_the_host(name: str) -> None:
    """No container is privileged, sees the host's namespaces, mounts its files, or opens a port."""
    service = SERVICES[name]
    named = [volume.partition(":")[0] for volume in service["volumes"]]

    assert not [key for key in FORBIDDEN if key in service]
    assert service.get("pid") in (None, "service:kernel")
    assert set(named) <= COMPOSE["volumes"].keys()


def test_only_the_kernel_keeps_capabilities() -> None:
    """They are three, and the file gives the reason for each."""
    assert SERVICES["kernel"]["cap_add"] == list(KERNEL_CAPABILITIES)
    assert not [name for name, service in SERVERS.items() if "cap_add" in service]
    assert all(comment_of(f"- {capability}") for capability in KERNEL_CAPABILITIES)


@pytest.mark.parametrize("name", SERVERS)
def test_server_is_an_ordinary_user(name: str) -> None:
    """Only the kernel is root, for it gives uids away."""
    assert SERVICES["kernel"]["user"] == "0:0"
    assert not SERVERS[name]["user"].startswith("0")


def test_older_compose_reads_it() -> None:
    """docker-compose, where it is installed, finds the file valid."""
    program = shutil.which("docker-compose")
    if program is None:
        pytest.skip("docker-compose is not installed")

    subprocess.run([program, "config", "--quiet"], cwd=ROOT, check=True)


# ------------------------------------------------------------------------------------------------- the image


def test_image_is_pinned() -> None:
    """The image comes from Debian alone, and takes libraries by hash, as wheels."""
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    bases = [line.split()[1] for line in text.splitlines() if line.startswith("FROM")]

    assert bases == ["debian:bookworm-slim"] * 2
    assert "--require-hashes" in text
    assert "--only-binary :all:" in text


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
