"""Before a program runs: the nursery it is forked from, what it is given, and its confinement."""
