"""`exo bench heap`: memory without a server in the path, beside what the host takes for it.

Fresh, 64 KiB are carved from one's own capability to RAM and mapped by one trap. Warm, a block comes out of the
heap and goes back into it. Both write a byte into every page, as the reference does.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence

from bench.harness import Measure, Sampled, reference
from bench.programs.heaper import SIZES
from bench.report import show_size
from bench.system import System

BLOCK = 100
FRESH = 6
"""Times what the host takes for the same that a fresh 64 KiB may take."""
WARM = 0.3
"""The same of a block of a warm heap, allocated and freed."""
KEYS = ("fresh", *(f"warm-{size}" for size in SIZES))


@contextlib.contextmanager
def measures(
    system: System, keys: Sequence[str] = KEYS, cores: Sequence[int] = ()
) -> Iterator[list[Measure]]:
    """Give the measures of *keys*, ready to run on *system*; what takes part is kept on *cores*, if any."""
    heaper = system.worker("bench.programs.heaper", f"bench-heaper-{os.getpid()}")
    system.place([heaper.pid], cores)
    with reference("bench.references.memory", cores=cores) as memory:
        host = Sampled("64 KiB by memfd and mmap", memory, "closed")
        made = [
            Measure("fresh", "64 KiB fresh from one's own RAM: carve, map, touch",
                    Sampled("vm.carve", heaper, "fresh"), [host], BLOCK, (FRESH,)),
            *(
                Measure(f"warm-{size}", f"{show_size(size)} of a warm heap: allocate, touch, free",
                        Sampled("libexo.heap", heaper, f"warm-{size}"), [host], BLOCK, (WARM,))
                for size in SIZES
            ),
        ]  # fmt: skip
        yield [measure for measure in made if measure.key in keys]
