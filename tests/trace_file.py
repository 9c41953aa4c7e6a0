"""The few things the tests change in a trace's bytes, after docs/trace-format.md. Not a reader of traces."""

import json
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from harness import RETRACE

HEADER = 4096
EXTENT_HEADER = 64
EXTENT_MAGIC = b"EXTN"

VERSION_AT = 8
EXTENT_SIZE_AT = 12
CLAIMED_AT = 16
PYTHON_AT = 56

FORM_FLOAT = 2

SWITCH = b"\x07\x0f"
RELEASED, IN_CALL, CHECK = range(3)


@dataclass
class Extent:
    offset: int
    process: int
    sequence: int
    stream: int
    committed: int
    sealed: int


@dataclass
class Switch:
    """A switch event; `fingerprint` is where its four hashes begin, if it has them."""

    event: int
    thread: int
    kind: int
    fingerprint: int | None


class TraceBytes:
    """A trace's contents, to be changed and written to another file."""

    def __init__(self, path: Path):
        self.path = path
        self.data = bytearray(path.read_bytes())

    def write(self, path: Path) -> Path:
        path.write_bytes(self.data)
        return path

    def u32(self, offset: int, value: int | None = None) -> int:
        if value is not None:
            struct.pack_into("<I", self.data, offset, value)
        return struct.unpack_from("<I", self.data, offset)[0]

    def u64(self, offset: int, value: int | None = None) -> int:
        if value is not None:
            struct.pack_into("<Q", self.data, offset, value)
        return struct.unpack_from("<Q", self.data, offset)[0]

    def extents(self) -> Iterator[Extent]:
        size = self.u32(EXTENT_SIZE_AT)
        for offset in range(HEADER, len(self.data) - EXTENT_HEADER + 1, size):
            if self.data[offset : offset + 4] == EXTENT_MAGIC:
                fields = struct.unpack_from("<IIIQI", self.data, offset + 4)
                yield Extent(offset, *fields)

    def unseal(self) -> None:
        """Marks every extent open, so that no checksum vouches for what a test changes."""
        for extent in self.extents():
            self.u32(extent.offset + 24, 0)
            self.u64(extent.offset + 32, 0)

    def float_event(self, value: float) -> int:
        """Where the event begins of a call without arguments that returned this float."""
        pattern = struct.pack("<d", value)
        found = []
        offset = self.data.find(pattern)
        while offset != -1:
            head = struct.unpack_from("<H", self.data, offset - 4)[0]
            if head >> 12 == FORM_FLOAT:
                found.append(offset - 4)
            offset = self.data.find(pattern, offset + 1)
        assert len(found) == 1, f"{value!r} is the result of {len(found)} events"
        return found[0]

    def spell_out_switches(self) -> None:
        """Puts the switches of the first process into the form whose fields stand at fixed places.

        For a trace of one extent of events that has no sum of its contents, and as `retrace events` reads it.
        """
        extent = next(e for e in self.extents() if e.stream == 0 and e.process == 0)
        begin = extent.offset + EXTENT_HEADER
        out, done = bytearray(), 0
        self.found = []
        for event in listed(self.path):
            if event["type"] != "switch":
                continue
            at, end = event["position"], event["position"] + event["size"]
            assert end <= extent.committed, "the trace is of more than one extent"
            out += self.data[begin + done : begin + at]
            kind, tail = position(event["from"], self.data[begin + at : begin + end])
            self.found.append(Switch(begin + len(out), event["thread"], kind, None))
            assert event["thread"] < 128
            out += SWITCH + bytes([event["thread"], kind])
            if kind == CHECK:
                self.found[-1].fingerprint = begin + len(out)
            out += tail
            done = end
        out += self.data[begin + done : begin + extent.committed]
        assert EXTENT_HEADER + len(out) <= self.u32(EXTENT_SIZE_AT)
        end = begin + extent.committed
        if len(self.data) == end:
            self.data.extend(bytes(len(out) - extent.committed))
        self.data[begin : begin + len(out)] = out
        self.u64(extent.offset + 16, len(out))

    def switches(self) -> list[Switch]:
        """The switches, in order, where `spell_out_switches` put them."""
        return self.found

    def cut(self, offset: int) -> None:
        """Ends the first process's first extent of events here, as if no more had been committed."""
        extent = next(e for e in self.extents() if e.stream == 0 and e.process == 0)
        assert extent.offset + EXTENT_HEADER < offset < extent.offset + EXTENT_HEADER + extent.committed
        self.u64(extent.offset + 16, offset - extent.offset - EXTENT_HEADER)

    def call_site(self, event: int, change: int) -> None:
        """Moves the caller's position in an event."""
        at = struct.unpack_from("<H", self.data, event + 2)[0]
        struct.pack_into("<H", self.data, event + 2, (at + change) & 0xFFFF)

    def hook(self, event: int, change: int) -> None:
        """Makes it an event of a neighbouring function."""
        head = struct.unpack_from("<H", self.data, event)[0]
        struct.pack_into("<H", self.data, event, head & 0xF000 | (head & 0xFFF) + change)


def event_bytes(path: Path) -> int:
    """The committed payload of all event streams."""
    return sum(extent.committed for extent in TraceBytes(path).extents() if extent.stream == 0)


def listed(path: Path) -> list[dict]:
    """What `retrace events` says of the first process."""
    run = subprocess.run([RETRACE, "events", path, "--json"], capture_output=True, check=True)
    return [json.loads(line) for line in run.stdout.splitlines()]


def position(text: str, event: bytes) -> tuple[int, bytes]:
    """The position in a switch event: its kind, and what follows."""
    if text.startswith("its release "):
        count = int(text.split()[-1])
        assert count < 128
        return RELEASED, bytes([count])
    if text == "inside a call":
        return IN_CALL, b""
    # A fingerprint ends with a number of variable length, and stands at the event's end.
    place = struct.pack("<Q", int(text.split()[-1], 16))
    return CHECK, event[event.index(place) :]
