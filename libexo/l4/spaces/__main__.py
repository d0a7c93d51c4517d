"""`python -m libexo.l4.spaces`: the program of a space whose first thread was activated."""

from libexo.l4.spaces.server import main

main()
