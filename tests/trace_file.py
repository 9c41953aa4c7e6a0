"""The few things the tests change in a trace's bytes, after docs/trace-format.md. Not a reader of traces."""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HEADER = 4096
EXTENT_HEADER = 64
EXTENT_MAGIC = b"EXTN"

VERSION_AT = 8
EXTENT_SIZE_AT = 12
CLAIMED_AT = 16
PYTHON_AT = 56

FORM_FLOAT = 2

SWITCH = b"\x07\x0f"
FIRST_THREAD = rb"\x0b\x0f\x01.{6}\0\0\0\0{4}"
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
    """A switch event; `fingerprint` is where its three hashes begin, if it has them."""

    event: int
    thread: int
    kind: int
    fingerprint: int | None


class TraceBytes:
    """A trace's contents, to be changed and written to another file."""

    def __init__(self, path: Path):
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

    def switches(self) -> list[Switch]:
        """The switches of the first process's first extent of events, in order, of threads below 16.

        They are found by their looks: the fields after the head leave little room for anything else, and a fingerprint
        in which one seems to begin is stepped over.
        """
        extent = next(e for e in self.extents() if e.stream == 0 and e.process == 0)
        end = extent.offset + EXTENT_HEADER + extent.committed
        found = []
        # What comes before the first thread is made, the start event above all, may look like anything.
        offset = self.data.find(SWITCH, re.compile(FIRST_THREAD, re.DOTALL).search(self.data, extent.offset).end(), end)
        while offset != -1:
            thread, kind, first = self.data[offset + 2 : offset + 5]
            if thread < 16 and (kind == IN_CALL or kind == CHECK or (kind == RELEASED and first < 64)):
                found.append(Switch(offset, thread, kind, offset + 4 if kind == CHECK else None))
                offset += 28 if kind == CHECK else 3
            offset = self.data.find(SWITCH, offset + 1, end)
        return found

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
