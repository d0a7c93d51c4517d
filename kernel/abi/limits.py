"""Every limit of the interface."""

FRAME_SIZE = 4096
"""Bytes in a frame."""
MAX_TRAP_BYTES = 64 * 1024
"""Bytes of an encoded trap."""
MAX_TRAP_DESCRIPTORS = 16
"""Descriptors that may come with one trap."""
MAX_UNREAD_DESCRIPTORS = 256
"""Descriptors in answers that a caller has not read; beyond, it counts as one that does not read its answers."""
MAX_BATCH = 64
"""Traps in one batch."""
MAX_ANSWERS = 1 << 17
"""Bytes of the answers in one batch, after which the rest is refused: the host takes some 200 KiB in one packet."""
MAX_ENVIRONMENTS = 1024
"""Environments at one time: rows of the environment table."""
MAX_THREADS = 4096
"""Thread numbers, those of the kernel and of interrupt lines included: rows of the thread table."""
MAX_SPACE_THREADS = 256
"""Threads of one environment: what an X.2 UTCB area of 256 KiB holds."""
RESERVED_ENVIRONMENTS = 8
"""Rows kept for successors, so that a full table keeps no server from being restarted."""
MAX_HANDLES = 4096
"""Capabilities of one environment."""
MAX_SLOTS = 65_535
"""Slots of a table, for capabilities and offers: what a handle can name."""
MAX_DEPTH = 64
"""Depth of derivation of a capability: every use looks up all it was derived from."""
MAX_HOLDERS_SHOWN = 1024
"""Derivatives that one Inspect names."""
MAX_EXTENT_FRAMES = 1 << 18
"""Frames of the largest extent, 1 GiB: the rows of all of them are written in one step."""
MAX_PAGES_PER_FRAME = 256
"""Pages of an object for each frame it has: the kernel holds a byte for each."""
MAX_CLAUSES = 8
"""Clauses of a predicate, of which one is to be true."""
MAX_TERMS = 8
"""Terms of a clause, which all are to be true."""
MAX_RUN = 512
"""Pages that one trap supplies, evicts or protects."""
MAX_PATIENCE_US = 60_000_000
"""How long a page fault may wait for its pager, in microseconds."""
MAX_WINDOWS = 256
"""Windows of one environment onto objects."""
MAX_VIEWS = 4096
"""Windows onto one object."""
MAX_FAULTS = 128
"""Pages that the threads of one environment wait for at a time."""
MAX_PAGERS = 4
"""Pagers one behind another: a page fault of the first may wait for a page of the second, and so on."""
NO_LIMIT = (1 << 64) - 1
"""Frames that may be carved from the derivatives of a RAM capability, until its holder sets a limit."""
MAX_OFFERS = 64
"""Capabilities one environment may have on offer to one other; the oldest offer falls to make room."""
MAX_BINDINGS = 1024
"""Bindings one environment may hold as a sender."""
MAX_BINDINGS_TO_ONE = 64
"""Of these, to one thread: each costs the receiver some 60 KiB while it falls behind in reading."""
MAX_INCOMING = 8
"""New bindings handed over at a time."""
MIN_RING_FRAMES = 3
"""Frames of the smallest extent for a ring: one for control words, one for each direction."""
MAX_RING_FRAMES = 1025
"""Frames of the largest: control words, and 2 MiB for each direction."""
TOKEN_BYTES = 16
"""Bytes of a binding's token."""
MAX_NAMES = 2048
"""Names published at one time: one for each environment, and as many again."""
MAX_NAME = 31
"""Bytes of a name in UTF-8."""
MAX_ARGUMENTS = 2 << 20
"""Bytes of a file of arguments and environ: the limit of Linux for an executable."""
MAX_CPUS = 16
"""Processors of a machine."""
MAX_SLICES = 256
"""Slices of a plan."""
MIN_SLICE_US = 500
"""The shortest slice, in microseconds: about ten times what a switch costs on the host."""
MAX_SLICE_US = 10_000_000
"""The longest slice, in microseconds."""
RESERVABLE_US = 95_000
"""Microseconds in each 100 ms of a processor that can be reserved: the rest is its scheduler's, and all others'."""
MAX_RESERVATIONS = 64
"""Reservations of one processor, and parts of one reservation."""
MAX_INTERRUPTS = 64
"""Interrupt lines; equal to SYSTEM_BASE."""
MAX_WORDS = 63
"""Words of a message after its tag (X.2: MR1..MR63)."""
MAX_PARTS = 255
"""Items of one message: strings, capabilities."""
SHORT_STRING = 512
"""Bytes of a string item that travels inside the packet."""
MAX_STRING = 4 << 20
"""Bytes of one string item (X.2: 22 bits)."""
TRACE_RECORDS = 16384
"""Records the event ring keeps."""
