"""The kernel's events, read by programs."""
