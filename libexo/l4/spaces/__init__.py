"""The program of a fresh address space: its first thread waits to be started, as X.2 has it."""

MODULES = "EXO_L4_MODULES"
"""The environment variable that names the modules whose entries the space knows, separated by commas."""
