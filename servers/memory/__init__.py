"""The memory server: holds all RAM."""
