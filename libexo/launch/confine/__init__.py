"""Confinement: keeps one environment's host process out of every other one.

A single-threaded parent that has imported everything (the *nursery*) calls `prepare` as root, once a
policy: it compiles the system call filter, opens the paths and warms up the libraries. Each child it forks
calls `apply` before any user code. There are five layers, each worth having alone:

    uid             an identity of its own, no groups, no capabilities: the host's own permission checks
    no_new_privs    an executable cannot give back what was dropped
    dumpable        /proc/PID/{mem,fd,environ} belong to root, so that even a process of the same uid is kept out
    landlock        which files; no signal, abstract socket or ptrace beyond the environment
    seccomp         which system calls

It fails closed: a layer the host lacks is a `ConfinementError`, unless the policy's `may_lack` names it.
`probe` finds out what the host has, and leaves no trace in the calling process.

Interface:

    prepared = prepare(Policy("program", readable=(source,)))      # in the nursery
    if os.fork() == 0:
        apply(prepared, uid=uid, gid=gid, parent=nursery_pid)      # on an error: leave by os._exit
        ...                                                        # or execute(path, argv, env)

The kernel must do its part: a memfd is root's with mode 0600 (otherwise a descriptor opened read-only can be
opened again for writing, and one open for writing can be cut by O_TRUNC, by way of /proc/self/fd), sealed
against growth, with F_SEAL_SEAL or made without MFD_ALLOW_SEALING. An environment's userfaultfd is created
before `apply`, because the filter refuses it afterwards.
"""

from libexo.launch.confine.enforce import Prepared, apply, prepare
from libexo.launch.confine.fences import Fence, fences
from libexo.launch.confine.foreign import execute
from libexo.launch.confine.policy import LAYERS, ConfinementError, Layer, LayerName, Place, Policy, Profile
from libexo.launch.confine.probing import probe

__all__ = [
    "LAYERS",
    "ConfinementError",
    "Fence",
    "Layer",
    "LayerName",
    "Place",
    "Policy",
    "Prepared",
    "Profile",
    "apply",
    "execute",
    "fences",
    "prepare",
    "probe",
]
