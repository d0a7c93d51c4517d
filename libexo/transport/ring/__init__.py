"""Messages through memory that both ends of a binding hold, without the kernel and, while both are awake, the host.

`layout` says what the memory looks like, `line` is one end of it, `ends` makes channels and inboxes of lines, and
`patience` knows how long to look before sleeping, which `libexo.host` does. How a binding gets its ring is told in
`libexo.ipc.rings`.
"""
