"""Carriers of messages between threads: one interface, several ways. Open `base.py` first."""
