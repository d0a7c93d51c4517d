"""`python -m libexo.process`: a program that begins at a function it is sent."""

from libexo.process.server import main

main()
