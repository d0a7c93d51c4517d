"""The machine: the only place on the kernel's side that touches the host. Open `machine.py` first."""
