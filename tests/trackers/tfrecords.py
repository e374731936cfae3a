"""Event files of TensorBoard, read by the description of their format: length, check, bytes, check."""

import struct
from pathlib import Path


def read_events(folder: Path) -> list:
    """Return the events in all event files under a folder, by the protocol buffers of tensorboardX."""
    from tensorboardX.proto.event_pb2 import Event

    events = []
    for path in sorted(folder.rglob("events.out.tfevents.*")):
        content, place = path.read_bytes(), 0
        while place < len(content):
            (length,) = struct.unpack_from("<Q", content, place)
            events.append(Event.FromString(content[place + 12 : place + 12 + length]))
            place += 12 + length + 4
    return events


def scalars(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Return (step, time, value) of the points of each curve."""
    curves: dict[str, list[tuple[int, float, float]]] = {}
    for event in read_events(folder):
        for value in event.summary.value:
            if value.WhichOneof("value") == "simple_value":
                curves.setdefault(value.tag, []).append((event.step, event.wall_time, value.simple_value))
    return curves
