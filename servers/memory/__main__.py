"""`python -m servers.memory`: the memory server as a program."""

from servers.memory.server import main

if __name__ == "__main__":
    main()
