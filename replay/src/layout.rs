//! Where things stand in the file: the numbers of `docs/trace-format.md`, for the writer and the reader alike.
#![forbid(unsafe_code)]

/// The first bytes of a trace.
pub const FILE_MAGIC: [u8; 8] = *b"RETRACE\0";
/// The format this code writes, and the only one it reads.
pub const FORMAT_VERSION: u32 = 15;
/// The file header's size; the first extent follows.
pub const FILE_HEADER: u64 = 4096;

/// Offset of the format version, a `u32`.
pub const VERSION: usize = 8;
/// Offset of the extent size, a `u32`.
pub const EXTENT_SIZE: usize = 12;
/// Offset of the number of extents claimed, an atomic `u64`.
pub const EXTENTS_CLAIMED: usize = 16;
/// Offset of the number of processes claimed, an atomic `u64`.
pub const PROCESSES_CLAIMED: usize = 24;
/// Offset of the creation time, a `u64`.
pub const CREATED: usize = 32;
/// Offset of the recording's id, 16 bytes.
pub const RECORDING_ID: usize = 40;
/// Offset of the Python version, a `u32`.
pub const PYTHON: usize = 56;
/// Offset of the size limit in bytes, a `u64`; 0 where there is none.
pub const SIZE_LIMIT: usize = 64;
/// Offset of the number of forked processes that could not be recorded, an atomic `u64`.
pub const UNRECORDED: usize = 72;
/// Offset of the number of programs that were started and could not be recorded, an atomic `u64`.
pub const UNRECORDED_PROGRAMS: usize = 80;

/// An extent's first four bytes, as a little-endian number.
pub const EXTENT_MAGIC: u32 = u32::from_le_bytes(*b"EXTN");
/// The size of an extent's header; its payload follows.
pub const EXTENT_HEADER: u64 = 64;
/// Offset of the process index, a `u32`.
pub const PROCESS: usize = 4;
/// Offset of the sequence number, a `u32`.
pub const SEQUENCE: usize = 8;
/// Offset of the stream, a `u32`.
pub const STREAM: usize = 12;
/// Offset of the committed length, an atomic `u64`.
pub const COMMITTED: usize = 16;
/// Offset of the sealed mark, a `u32`.
pub const SEALED: usize = 24;
/// Offset of the payload's hash, a `u64`.
pub const CHECKSUM: usize = 32;

/// The stream of events.
pub const STREAM_EVENTS: u32 = 0;
/// The stream of sources.
pub const STREAM_SOURCES: u32 = 1;

/// The kind byte each item of the source stream begins with.
pub const SOURCE_ITEM: u8 = 1;
/// The largest source stored, and the most a reader decompresses.
pub const MAX_SOURCE: u64 = 64 << 20;

/// Extents are at least a page, and small enough for a `u32`.
pub const MIN_EXTENT: u32 = 4096;
/// The largest extent.
pub const MAX_EXTENT: u32 = 1 << 30;
/// What an extent's size is a multiple of.
pub const EXTENT_ALIGN: u32 = 4096;

/// Whether `size` may be an extent's.
pub fn is_extent_size(size: u32) -> bool {
    (MIN_EXTENT..=MAX_EXTENT).contains(&size) && size.is_multiple_of(EXTENT_ALIGN)
}

/// Where extent `index` begins; `None` beyond what a file can hold.
pub fn extent_offset(index: u64, extent_size: u32) -> Option<u64> {
    index.checked_mul(u64::from(extent_size))?.checked_add(FILE_HEADER).filter(|offset| i64::try_from(*offset).is_ok())
}
