"""Before a program runs: the nursery it is forked from, its arguments and imports, its confinement."""
