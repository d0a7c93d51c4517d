"""`python -m libexo.l4.spaces`: what the kernel runs in a space whose first thread was activated."""

from libexo.l4.spaces.server import main

main()
