"""`python -m servers.process`: the process server as a program."""

from servers.process.server import main

if __name__ == "__main__":
    main()
