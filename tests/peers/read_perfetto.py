"""Read a trace by Perfetto's own protos: `.peers/bin/python read_perfetto.py FILE`, what is in it as JSON out.

It imports nothing of ours: its environment is its own.
"""

import json
import sys
from pathlib import Path

from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos


def unknown(message: Message) -> int:
    """How many fields of *message*, and of those in it, its proto does not know."""
    found = len(UnknownFieldSet(message))
    for field, value in message.ListFields():
        if field.message_type is not None:
            found += sum(map(unknown, value if field.is_repeated else [value]))
    return found


def note(annotation: Message) -> object:
    """The value of an annotation."""
    found: object = getattr(annotation, annotation.WhichOneof("value"))
    return found


if __name__ == "__main__":
    trace = protos.Trace.FromString(Path(sys.argv[1]).read_bytes())
    tracks = {
        packet.track_descriptor.uuid: {
            "name": packet.track_descriptor.name,
            "parent": packet.track_descriptor.parent_uuid,
            "counts": packet.track_descriptor.HasField("counter"),
        }
        for packet in trace.packet
        if packet.HasField("track_descriptor")
    }
    events = [
        {
            "at": packet.timestamp,
            "track": event.track_uuid,
            "type": protos.TrackEvent.Type.Name(event.type),
            "name": event.name,
            "categories": list(event.categories),
            "flows": list(event.flow_ids),
            "ends": list(event.terminating_flow_ids),
            "value": event.counter_value,
            "notes": {each.name: note(each) for each in event.debug_annotations},
        }
        for packet in trace.packet
        for event in ([packet.track_event] if packet.HasField("track_event") else [])
    ]
    found = {
        "unknown": unknown(trace),
        "sequences": sorted({packet.trusted_packet_sequence_id for packet in trace.packet}),
        "first": trace.packet[0].sequence_flags,
        "tracks": tracks,
        "events": events,
    }
    json.dump(found, sys.stdout)
