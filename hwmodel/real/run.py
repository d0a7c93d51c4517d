"""The run directory: a system's sockets, published pages and logs, and its owner.

It has one owner at a time, the holder of a lock on its `lock` file. Kernel and nursery share that lock, so
the directory stays taken until the last of them is gone. The content of the file marks the directory as ours
to empty, and names its maker.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import time

from kernel.abi.logs import FOLDER, KEPT
from kernel.abi.operators import OPERATOR_FILE, SECRET_BYTES

LOCK = "lock"
MARK = "exokernel "
"""First bytes of the lock file of a run directory; the kernel's process id follows."""
SECRET_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
MAX_PATH = 107
"""Bytes of the path of a Unix socket (sys/un.h has 108, the last one zero)."""
LONGEST = "/ipc/" + "x" * 22
PATIENCE = 5.0
"""Seconds to wait for the nursery of a system that died to finish clearing up."""
PAUSE = 0.02
MAX_GRACE = 32
"""Bytes of a number of seconds."""


class RunError(RuntimeError):
    """The run directory cannot be used; the text says why and what to do."""


class Run:
    """A run directory of our own, made at once and removed by `close`."""

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        _check_length(self.path)
        self.lock = _take(self.path)
        """Descriptor that carries the lock."""
        try:
            remove_remains(self.path)
            shutil.rmtree(self.path + KEPT, ignore_errors=True)  # the logs of the last system here
            os.chmod(self.path, 0o711)  # noqa: S103 - others pass through, and list nothing
            for name, mode in (("ipc", 0o711), (FOLDER, 0o755)):
                os.mkdir(self.at(name), mode)
                os.chmod(self.at(name), mode)
        except BaseException:
            os.close(self.lock)
            raise

    def at(self, *names: str) -> str:
        """Return the path of something in it."""
        return os.path.join(self.path, *names)

    def secret(self) -> bytes:
        """Make the operators' secret, in a file that only our own uid and root may read; return it."""
        secret = os.getrandom(SECRET_BYTES)
        number = os.open(self.at(OPERATOR_FILE), SECRET_FLAGS, 0o600)
        try:
            os.write(number, secret)
        finally:
            os.close(number)
        return secret

    def grace(self) -> float | None:
        """Return the seconds in the file `grace`; None: there is no such file."""
        try:
            with open(self.at("grace"), encoding="ascii") as file:
                seconds = float(file.read(MAX_GRACE))
        except (OSError, ValueError):
            return None
        return seconds if 0 <= seconds < float("inf") else None

    def close(self) -> None:
        """Remove it, unless its nursery has and a new system has made its own there. Its logs are kept."""
        if self.lock >= 0:
            if _is_current(self.path, self.lock):
                with contextlib.suppress(OSError):  # otherwise they stay until the next system starts here
                    os.rename(self.at(FOLDER), self.path + KEPT)
                remove_remains(self.path, FOLDER)
                if not os.path.lexists(self.at(FOLDER)):
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(self.at(LOCK))
                # A volume of a container, or some shell's current directory, stays.
                with contextlib.suppress(OSError):
                    os.rmdir(self.path)
            os.close(self.lock)
            self.lock = -1


def remove_remains(path: str, spared: str = "") -> None:
    """Remove all but the lock, and *spared*, from a run directory whose lock we hold."""
    for entry in list(os.scandir(path)):
        if entry.name in (LOCK, spared):
            continue
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(entry.path)


def check_way(path: str) -> None:
    """Refuse *path* if programs, which have uids of their own if we are root, could not reach its sockets."""
    above = os.path.dirname(os.path.abspath(path))
    while not os.geteuid() and above != os.path.dirname(above):
        with contextlib.suppress(FileNotFoundError):
            if not os.stat(above).st_mode & 0o001:
                raise RunError(
                    f"programs have uids of their own, and cannot pass through {above}: "
                    f"'chmod o+x {above}', or choose another run directory"
                )
        above = os.path.dirname(above)


def _check_length(path: str) -> None:
    """Refuse a path that is too long: the host bounds the path of a socket."""
    if (excess := len(os.fsencode(path + LONGEST)) - MAX_PATH) > 0:
        raise RunError(f"{path} is {excess} bytes too long for sockets in it: set EXO_RUN to a shorter path")


def _take(path: str) -> int:
    """Make *path* if it is not there, and return a descriptor that holds its lock."""
    deadline = time.monotonic() + PATIENCE
    while True:
        _make(path)
        try:
            number = os.open(os.path.join(path, LOCK), LOCK_FLAGS, 0o644)
        except FileNotFoundError:
            continue  # its last owner removed it in between
        except OSError as error:
            raise RunError(f"cannot use {path}: {error.strerror}") from error
        owner = _owner(number)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(number)
            if _lives(owner) or time.monotonic() > deadline:
                message = f"{path} belongs to a running system (process {owner}): end it, or set EXO_RUN"
                raise RunError(message) from None
            time.sleep(PAUSE)
            continue
        # The owner before us may have removed the file while we waited for its lock.
        if _is_current(path, number):
            os.ftruncate(number, 0)
            os.pwrite(number, f"{MARK}{os.getpid()}\n".encode(), 0)
            return number
        os.close(number)


def _make(path: str) -> None:
    """Make the directory; an existing one must be ours, and empty or a run directory."""
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.mkdir(path, 0o711)
    except FileExistsError:
        pass
    except OSError as error:
        raise RunError(f"cannot make {path}: {error.strerror}") from error
    else:
        return
    try:
        status = os.lstat(path)
        names = set(os.listdir(path))
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"cannot use {path}: {error.strerror}") from error
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise RunError(f"{path} is not a directory of uid {os.geteuid()}: set EXO_RUN to another path")
    if not (names <= {LOCK} or (LOCK in names and _is_marked(os.path.join(path, LOCK)))):
        raise RunError(f"{path} is neither empty nor a run directory: set EXO_RUN to another path")


def _is_marked(path: str) -> bool:
    """Whether the lock file is one of ours."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        return error.errno == errno.ENOENT
    try:
        return os.read(number, len(MARK)) == MARK.encode()
    finally:
        os.close(number)


def _is_current(path: str, number: int) -> bool:
    """Whether the file we locked still has the name."""
    try:
        return os.path.samestat(os.stat(os.path.join(path, LOCK), follow_symlinks=False), os.fstat(number))
    except FileNotFoundError:
        return False


def _owner(number: int) -> int:
    """Return the process id in the lock file, 0 if there is none."""
    text = os.pread(number, 64, 0).decode(errors="replace").removeprefix(MARK).strip()
    return int(text) if text.isdecimal() else 0


def _lives(pid: int) -> bool:
    """Whether that process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False
