"""The simulated machine: one process, virtual time, a seed. Open `machine.py` first."""
