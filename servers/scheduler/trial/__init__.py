"""A policy tried without a system: the kernel's processor and the scheduler server, in virtual time."""
