"""What is at which address of a space, how it came there, and how it is passed on and taken back."""
