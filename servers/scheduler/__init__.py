"""The scheduler server: holds all processors."""
