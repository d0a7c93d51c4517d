"""`python -m servers.memory.pagers`."""

from servers.memory.pagers.server import main

if __name__ == "__main__":
    main()
