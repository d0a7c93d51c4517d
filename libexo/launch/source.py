"""The text of a Python program, which its file may have been replaced since: a restart runs the new one.

The program came with a descriptor of its file, and one of the directory it stands in, opened by who asked for it.
A descriptor leads to the old file for ever, so the name is looked up again, in that very directory. Here that is
done with rights which the asker may not have. Therefore no link is followed, and what is found must be a file that
the asker could read as well: everybody may, or it has the owner, the group and the rights to read of the old one.
"""

import os
import stat
from collections.abc import Mapping

from kernel.abi.program import Role

FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
READABLE = 0o444


def renew(roles: Mapping[int, int], path: str) -> tuple[Mapping[int, int], str]:
    """Return *roles* with the file that is called *path* now, and what to tell the program if that cannot be."""
    if not {Role.SOURCE, Role.IMPORTS} <= roles.keys():
        return roles, ""
    try:
        number = os.open(os.path.basename(path), FLAGS, dir_fd=roles[Role.IMPORTS])
    except OSError:  # gone, or a link: there is only the old one
        return roles, ""
    old, new = os.fstat(roles[Role.SOURCE]), os.fstat(number)
    if os.path.samestat(old, new):
        os.close(number)
        return roles, ""
    if not could_read(old, new):
        os.close(number)
        return roles, f"{path} was replaced by a file of another owner or mode: this is still the old one"
    return {**roles, Role.SOURCE: number}, ""


def could_read(old: os.stat_result, new: os.stat_result) -> bool:
    """Whether somebody who could read the *old* file, in a directory, can read the *new* one there."""
    if not stat.S_ISREG(new.st_mode):
        return False
    same = (old.st_uid, old.st_gid) == (new.st_uid, new.st_gid)
    return bool(new.st_mode & stat.S_IROTH) or (same and not old.st_mode & READABLE & ~new.st_mode)
