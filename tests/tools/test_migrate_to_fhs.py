import os
import subprocess
from pathlib import Path

import pytest

from tools.create_inventory import ROOT

pytestmark = pytest.mark.system


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A file system as before the merge: /bin and /lib of its own, something in /usr/bin, no /libexec."""
    for name in ("bin/sh", "lib/x/libc.so", "sbin/init", "usr/bin/env"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "lib" / "libc.so").symlink_to("x/libc.so")
    return tmp_path


def migrate(root: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(ROOT / "tools" / "migrate_to_fhs.sh"), *options]
    environment = {**os.environ, "FHS_ROOT": str(root)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def tree(root: Path) -> dict[str, str]:
    """Every path below *root*, with what it holds or leads to."""
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*")}
    links = {name: f"-> {path.readlink()}" for name, path in paths.items() if path.is_symlink()}
    files = {name: path.read_text(encoding="utf-8") for name, path in paths.items() if path.is_file()}
    return dict.fromkeys(paths, "") | files | links


def test_everything_moves_below_usr(root: Path) -> None:
    """Contents are merged into usr, links are left behind, and what is not there is not made."""
    done = migrate(root, "--force")

    assert done.stdout.splitlines()[-1] == "migration to the FHS complete"
    assert {name: what for name, what in tree(root).items() if what} == {
        "bin": "-> usr/bin",
        "lib": "-> usr/lib",
        "sbin": "-> usr/sbin",
        "usr/bin/env": "usr/bin/env",
        "usr/bin/sh": "bin/sh",
        "usr/lib/libc.so": "-> x/libc.so",
        "usr/lib/x/libc.so": "lib/x/libc.so",
        "usr/sbin/init": "sbin/init",
    }


def test_a_second_run_changes_nothing(root: Path) -> None:
    """The migration is idempotent."""
    migrate(root, "--force")
    before = tree(root)

    assert migrate(root, "--force").returncode == 0
    assert tree(root) == before


def test_a_dry_run_changes_nothing(root: Path) -> None:
    """--dry-run names every step and leaves the file system as it is: the fault of the original tool."""
    before = tree(root)
    done = migrate(root, "--dry-run", "--force")

    assert done.stdout.count("would: put_link") == 3
    assert tree(root) == before


@pytest.mark.parametrize("options", [[], ["--dry-run"], ["--force", "--wet"]], ids=" ".join)
def test_refusals_change_nothing(root: Path, options: list[str]) -> None:
    """Outside a chroot --force is needed, and an unknown option is no reason to begin."""
    before = tree(root)
    done = migrate(root, *options)

    assert (done.returncode, done.stdout) == (1, "")
    assert "migrate_to_fhs:" in done.stderr
    assert tree(root) == before


def test_files_that_differ_are_not_overwritten(root: Path) -> None:
    """A name in both places with different contents stops the migration, and is told."""
    (root / "bin" / "env").write_text("another", encoding="utf-8")
    before = tree(root)
    done = migrate(root, "--force")

    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("/usr/bin/env")
    assert tree(root) == before


def test_an_interrupted_run_is_finished(root: Path) -> None:
    """The next run clears away the remains of one that was cut short."""
    migrate(root, "--force")
    (root / "lib.fhs-old").mkdir()

    assert migrate(root, "--force").returncode == 0
    assert not (root / "lib.fhs-old").exists()
