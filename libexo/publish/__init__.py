"""Publish: one environment tells many, through memory they share, without messages or waiting.

    publisher = Publisher(env, Memory.connect(env).allocate(16), of=Quote)      # the one
    serve(PublicationServer(publisher), name="quotes")                          # lets others join, wakes sleepers

    reader = Reader.join(env, "quotes", of=Quote)                               # each of the many
    while reader.wait():
        for quote in reader:
            ...
        print(f"{reader.missed} were overwritten before we came to them")

The records are in a ring in an extent that the publisher alone can write. It never waits for a reader, and a
record costs it no system call. A reader that is too slow loses the oldest, and knows how many. A sleeping reader
has a call open at the publisher's server, which answers it at the next record. Without a server (`Reader(env,
extent)` of an extent that came some other way), it looks every 1 to 10 ms.

A reader trusts nothing in the memory: a publisher can give it wrong records, or none, and no more than that.
When the publisher ends, the kernel takes its extent from all, with the unread records: the reader's next
look raises ChannelEnded. When a reader that attached by itself leaves the system, the kernel moves the extent: the
channel goes on, and records unread by then count as missed. The layout is in `libexo.publish.layout`; why
no torn record is ever read is in `writer` and `cursor`.
"""

from libexo.publish.layout import BrokenChannel, ChannelEnded
from libexo.publish.publication import Publication, PublicationServer
from libexo.publish.publisher import Publisher
from libexo.publish.reader import Reader

__all__ = ["BrokenChannel", "ChannelEnded", "Publication", "PublicationServer", "Publisher", "Reader"]
