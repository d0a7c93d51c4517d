"""The program of a fresh address space: its first thread waits to be started, as in X.2."""

MODULES = "EXO_L4_MODULES"
"""The environment variable that names the modules whose entries the space knows, separated by commas."""
