"""`python -m servers.scheduler`: the scheduler server as a program."""

from servers.scheduler.server import main

if __name__ == "__main__":
    main()
