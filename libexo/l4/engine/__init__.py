"""X.2 over the rendezvous: Ipc in two phases, faults, exceptions, preemption, and how threads start."""
