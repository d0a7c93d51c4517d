"""Show the kernel's events: traps and their refusals, starts, ends, bindings, switches, faults, what was taken.

The kernel writes each event into a ring that everybody may read, so reading costs it nothing. To a reader that
falls behind, the ring tells how many events it lost.

--perfetto writes them as a file for ui.perfetto.dev: a track for each processor and each environment, slices,
arrows from page faults to what was supplied and from sleepers to whom they wait for, and counters. Messages between
programs do not pass the kernel, so none has an arrow; free frames are counted as they are now.
"""

import mmap
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from exo import view
from exo.numbers import count
from exo.system import Usage, no_system, run_directory
from kernel.abi.errors import Fault, Refusal
from kernel.abi.events import ANYBODY, Event
from kernel.abi.ids import show_thread
from kernel.abi.kip import Head
from kernel.abi.messages import Label
from kernel.abi.predicates import Outcome
from kernel.abi.rights import Kind
from kernel.abi.traps import TRAPS
from libexo.trace import History, Present, Record, Ring

if TYPE_CHECKING:
    from libexo.kip import Kip

ARGUMENTS = "[-f] [--count N] [--json] | --perfetto FILE"
EXAMPLES = """\
  exo trace                              the last 40 events
  exo trace -f                           and those to come
  exo trace --count 10000 --json | jq -r .event | sort | uniq -c
  exo trace --perfetto trace.pftrace     for ui.perfetto.dev: who ran when, arrows, counters"""

PAUSE = 0.05
_LOW = (1 << 32) - 1


def configure(parser: ArgumentParser) -> None:
    """Add the options of `trace`."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on with the events to come")
    parser.add_argument(
        "--count", type=count, default=40, metavar="N", help="how many of the past (default: 40)"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON, an object a line")
    form.add_argument("--perfetto", metavar="FILE", help="write all that the ring holds, for ui.perfetto.dev")


def main(options: Namespace) -> int:
    """Print the events."""
    kip = view.open_kip(options.run)
    if options.perfetto is not None:
        return _export(kip, options)
    ring = open_ring(Path(run_directory(options.run), "trace"))
    ring.skip(options.count)
    booted = kip.head(Head.BOOT_NS)
    names: dict[int, str] = {}
    while True:
        names |= {row.number: row.name for row in kip.environments()}
        lost = ring.lost
        found = History(ring.read(), Present(names), 0)  # of the ended, the ring has the names
        for key, record in found.events:
            shown = decode(record, {record.environment: found.name(key)}, booted)
            _print(shown, as_json=options.json)
        if ring.lost > lost and not options.json:
            print(f"({ring.lost - lost} events were overwritten before they were read)")
        if not options.follow or not view.is_alive(view.kernel_pid(kip)):
            return 0
        time.sleep(PAUSE)


def past(kip: "Kip", run: str | None) -> History:
    """Return what the ring of the system at *run* says, until now."""
    now = time.monotonic_ns()
    return History(list(open_ring(Path(run_directory(run), "trace")).read()), Present.of(kip), now)


def _export(kip: "Kip", options: Namespace) -> int:
    """Write the trace for Perfetto."""
    from exo.perfetto import write

    if options.follow:
        raise Usage("--perfetto writes what the ring holds now: leave -f out")
    found, cores = past(kip, options.run), [plan.core for plan in kip.plans()]
    data = write(found, kip.head(Head.BOOT_NS), cores, kip.head(Head.FREE_FRAMES))
    Path(options.perfetto).write_bytes(data)
    lasted = view.duration(found.now - found.begin)
    print(
        f"{options.perfetto} has {len(found.events)} events of {lasted}: open it at https://ui.perfetto.dev"
    )
    return 0


def open_ring(path: Path) -> Ring:
    """Map the ring a system publishes. Raises Trouble when there is none."""
    try:
        with path.open("rb") as file:
            return Ring(memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)))
    except FileNotFoundError:
        raise no_system(str(path.parent)) from None


def _print(shown: view.Json, *, as_json: bool) -> None:
    if as_json:
        import json

        print(json.dumps(shown), flush=True)
        return
    ms = shown["us"]
    assert isinstance(ms, int)
    print(
        f"{ms / 1000:>12.3f} ms  {shown['environment']!s:16} {shown['event']!s:15} {shown['text']}",
        flush=True,
    )


def decode(record: Record, names: dict[int, str], booted: int) -> view.Json:
    """Return an event with names for its numbers, and its time since the boot."""
    known = record.event in tuple(Event)
    return {
        "number": record.number,
        "us": (record.ns - booted) // 1000,
        "environment": names.get(record.environment, f"#{record.environment}"),
        "event": Event(record.event).name.lower() if known else f"event {record.event}",
        "a": record.a,
        "b": record.b,
        "text": _text(record) if known else f"{record.a:#x} {record.b:#x}",
    }


def _text(record: Record) -> str:
    a, b = record.a, record.b
    match Event(record.event):
        case Event.TRAP:
            name = TRAPS[a].__name__ if a in TRAPS else f"trap {a:#x}"
            return name if not b else f"{name} refused: {_named(Refusal, b)}"
        case Event.FAULT:
            return _named(Fault, a)
        case Event.ENDED:
            status = a - 256
            fault = f", {_named(Fault, b)}" if b else ""
            return (f"by signal {-status}" if status < 0 else f"with status {status}") + fault
        case Event.CREATED | Event.BOUND:
            return f"thread {show_thread(a)}"
        case Event.STARTED:
            return f"process {a}"
        case Event.SWITCHED | Event.RESERVED:
            left = f", {b >> 32} us of it are left" if b >> 32 not in (0, a) else ""
            return f"{a} us on processor {b & _LOW}{left}"
        case Event.PREEMPTED | Event.CONTINUED:
            return f"after {a / 1e6:.3f} ms on processor {b & _LOW}"
        case Event.BLOCKED | Event.STOPPED:
            return f"after {a / 1e6:.3f} ms on processor {b & _LOW}{_awaited(record.detail)}"
        case Event.READY:
            return f"for processor {b & _LOW}"
        case Event.PLANNED:
            return f"a round of {a} us for processor {b}"
        case Event.PART:
            more = (record.detail ^ 1 << 15) - (1 << 15)
            return f"{more:+} slice{'s' * (abs(more) > 1)} of {a} us on processor {b}"
        case Event.LOST:
            return f"{_named(Kind, b)}, handle {a:#x}"
        case Event.NAME:
            text = (a.to_bytes(8, "little") + b.to_bytes(8, "little")).rstrip(b"\0")
            return f"it was called {'…' * bool(record.detail)}{text.decode(errors='replace')}"
        case Event.FALLBACK:
            return f"processor {a} has no scheduler: round robin"
        case Event.INTERRUPT:
            return f"line {a}"
        case Event.TOOK:
            return f"{_named(Kind, b)} {a}"
        case Event.UPCALL_DROPPED:
            return _named(Label, a)
        case Event.PAGE_FAULT:
            return f"{'write to' if a >> 32 else 'read of'} {_pages(a & _LOW, 1)} of object {b}"
        case Event.SUPPLIED | Event.EVICTED:
            return f"{_pages(a & _LOW, a >> 32)} of object {b}"
        case Event.WOKEN:
            return f"{f'clause {a}' if a != Outcome.IMPOSSIBLE else 'no clause is possible'} of predicate {b}"


def _awaited(thread: int) -> str:
    if not thread:
        return ""
    return ", waits for anybody" if thread == ANYBODY else f", waits for thread {thread}"


def _pages(first: int, count: int) -> str:
    return f"page {first}" if count == 1 else f"pages {first}..{first + count - 1}"


def _named(kind: type[Refusal | Fault | Kind | Label], number: int) -> str:
    """Return the name of *number* in *kind*."""
    if number not in tuple(int(each) for each in kind):
        return f"{kind.__name__.lower()} {number}"
    member = kind(number)
    return str(getattr(member, "text", member.name.lower()))
