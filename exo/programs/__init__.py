"""Programs and servers that `exo tour` runs. Each is an environment of its own there."""
