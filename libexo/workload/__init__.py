"""Programs that are described, not written, and what came of them, in virtual time or for real."""

from libexo.workload.described import (
    FOREVER,
    KINDS,
    MS,
    USUAL,
    Described,
    Done,
    Job,
    Jobs,
    undone,
)
from libexo.workload.outcome import Outcome, Row, row

__all__ = [
    "FOREVER",
    "KINDS",
    "MS",
    "USUAL",
    "Described",
    "Done",
    "Job",
    "Jobs",
    "Outcome",
    "Row",
    "row",
    "undone",
]
