"""An untyped server: every message is answered with its own words."""

from libexo import attach
from libexo.ipc.message import Message


def main() -> None:
    """Serve until the system ends."""
    thread = attach().thread
    sender, message = thread.wait()
    while True:
        sender, message = thread.reply_wait(sender, Message(message.label, message.words))


if __name__ == "__main__":
    main()
