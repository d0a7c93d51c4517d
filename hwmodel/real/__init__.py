"""The real machine: host processes, memory files, sockets and signals. `machine` is its table of contents."""
