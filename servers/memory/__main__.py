"""`python -m servers.memory`: the memory server as a program."""

import sys

from servers.memory.server import main

if __name__ == "__main__":
    main(sys.argv[1:])
