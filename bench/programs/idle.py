"""An environment that is there and waits: living, with an end point, and doing nothing."""

from libexo import attach

if __name__ == "__main__":
    environment = attach()
    while True:
        environment.thread.wait()
