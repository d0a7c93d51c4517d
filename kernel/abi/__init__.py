"""The interface of the kernel: traps, messages, errors, ids, limits, tables. It imports nothing of ours.

Each number is defined once, here; the kernel, libexo, the servers and the documentation take it from here.
"""
