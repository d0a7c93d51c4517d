"""What the scheduler server keeps: shares, priorities, quanta and parameters of programs, and its policy."""

import msgspec

from kernel.abi.limits import FRAME_SIZE, MAX_ENVIRONMENTS, MAX_INTERRUPTS, MAX_SLICES
from libexo.errors import OperationRefused
from libexo.nouns import MAX_SHARE
from libexo.sched import Parameter
from servers.scheduler.api import MAX_FILE, MAX_SOURCE, Choice

MAX_PRIORITY = 255
DEFAULT_PRIORITY = 100
_US = 1000
MAX_PARAMETERS = 256
"""Bytes of the parameters of one program, encoded, and of a policy."""
ALL_PARAMETERS = 4 << 10
"""Bytes of those of all programs."""


class ShareRefused(OperationRefused):
    """The base of the scheduler server's refusals."""


class BadShare(ShareRefused):
    """A share is from 1 to MAX_SHARE."""


class PolicyRefused(ShareRefused):
    """A policy, or a parameter of one, is not taken; what was in force is in force."""


class NotAllowed(ShareRefused):
    """The caller may not set that share."""


class Settings(msgspec.Struct, array_like=True):
    """The settings of one environment; the defaults are those of X.2."""

    share: int = 1
    """Parts of its family's part of the processor."""
    priority: int = DEFAULT_PRIORITY
    slice_us: int = 0
    """Length of its slices; 0: as the policy says."""
    quantum_us: int | None = None
    """CPU time it may use from when that was set (X.2: total quantum); None: any."""
    used_before: int | None = None
    """CPU time it had used then, in ns; None: it was under no plan yet."""
    expired: bool = False
    """It has used that up, and its X.2 scheduler was told."""
    sensitive: int = DEFAULT_PRIORITY
    """X.2: preemptions by this priority or lower ones may be delayed."""
    delay_us: int = 0
    """X.2: the longest delay."""
    family: int = 0
    """Thread of the first of its family; 0: itself."""
    part: int = 1
    """Parts of the processor that its family has together."""

    def limit(self, quantum_us: int | None, used: int | None) -> None:
        """Let it use *quantum_us* more (None: any); so far it has *used* that much, in ns."""
        self.quantum_us, self.used_before, self.expired = quantum_us, used, False

    def left(self, used: int) -> int | None:
        """Return how much it may still use, in ns, after it has *used* so much; None: any."""
        if self.quantum_us is None:
            return None
        if self.used_before is None:
            self.used_before = used
        return max(0, self.quantum_us * _US - (used - self.used_before))


class Said(msgspec.Struct, array_like=True, frozen=True):
    """The parameters of one program."""

    parameters: dict[str, Parameter] = {}
    """By an operator or a server."""
    declared: dict[str, Parameter] = {}
    """By itself."""


class State(msgspec.Struct, array_like=True, frozen=True):
    """All that the server keeps in its estate, by first threads."""

    settings: dict[int, Settings] = {}
    said: dict[int, Said] = {}
    choice: Choice = Choice()
    homes: dict[int, tuple[int, int]] = {}
    """Of those whose processor was taken out: that one, and where they were put."""


_KEPT = 84
"""Bytes of one environment's settings and home in the estate, at most, with its thread."""
_REST = MAX_SOURCE + 4 * MAX_FILE + ALL_PARAMETERS + 2 * MAX_PARAMETERS
"""Bytes of all else."""


def estate_pages(processors: int) -> int:
    """Return how many pages have room, twice, for the settings of all that *processors* can have planned."""
    most = min(processors * MAX_SLICES, MAX_ENVIRONMENTS) + MAX_INTERRUPTS
    return -(-2 * ((most + 1) * _KEPT + _REST) // FRAME_SIZE)


def check_share(share: int) -> int:
    """Return *share* if it is valid. Raises BadShare."""
    if not 1 <= share <= MAX_SHARE:
        raise BadShare(f"a share is from 1 to {MAX_SHARE}, not {share}")
    return share
