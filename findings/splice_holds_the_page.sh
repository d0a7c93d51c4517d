#!/usr/bin/env bash
# A page that was spliced from a memory file into a pipe is no copy: stores made later are in it, after the cut, too.
#
# Guess:   splice puts what the file holds at that moment into the pipe; what is stored afterwards is not in it.
# Seen:    Linux 6.18, Python 3.11.7. The pipe holds the page of the file itself. A store through a mapping after the
#          splice is read from the pipe; so is one made just before the file is cut, when nobody can reach the page
#          any more. Read before the splice, the same bytes are as old as that. A cut of less than the page is seen,
#          too: what it clears is zeros in the pipe. Output:
#              read first: b'before'; from the pipe: b'stored after the splice', file of 0 bytes
#              cut inside the page: b'stor' and 19 zeros
# Matters: memory can be moved from running programs without a lost store: splice it out, cut it off, read the pipe.
#          A copy before the cut loses what is stored meanwhile. And a pipe is no snapshot: who splices shared memory
#          to somebody lets them see what is written to it later.
set -euo pipefail
python3 - <<'PYTHON'
import mmap
import os

PAGE, LATER = mmap.PAGESIZE, b"stored after the splice"


def spliced(size):
    """Return what is read before, and from the pipe, of a memory file that is stored to and cut to *size* meanwhile."""
    file = os.memfd_create("moved")
    os.ftruncate(file, PAGE)
    memory = mmap.mmap(file, PAGE)
    memory[:6] = b"before"
    reading, writing = os.pipe()
    read = os.pread(file, 6, 0)
    assert os.splice(file, writing, PAGE, offset_src=0) == PAGE
    memory[: len(LATER)] = LATER
    os.ftruncate(file, size)
    return read, os.read(reading, PAGE)[: len(LATER)], os.fstat(file).st_size


read, piped, size = spliced(0)
print(f"read first: {read}; from the pipe: {piped}, file of {size} bytes")
cut = spliced(4)[1]
print(f"cut inside the page: {cut.rstrip(bytes(1))} and {cut.count(0)} zeros")
raise SystemExit((read, piped, size) != (b"before", LATER, 0) or cut != b"stor" + bytes(19))
PYTHON
