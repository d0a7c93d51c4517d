"""An environment that lives, has an end point, waits, and does nothing."""

from libexo import attach

if __name__ == "__main__":
    environment = attach()
    while True:
        environment.thread.wait()
