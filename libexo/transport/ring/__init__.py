"""Messages through memory that both ends of a binding hold, without the kernel and, while both are awake, the host.

`layout` describes the memory, `duplex` is one end of it, `ends` makes channels and inboxes of these, and
`spinning` decides how long to look before sleeping, which `libexo.host` does. `libexo.ipc.ring` gives a binding
its ring.
"""
