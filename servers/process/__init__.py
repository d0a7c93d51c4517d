"""The process server: the root task."""
