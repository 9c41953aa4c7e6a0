//! The trace: what a recording is on disk, written beside read.
//!
//! `docs/trace-format.md` is the contract. Nothing here knows Python's C API: the library that is loaded into the
//! interpreter hands over bytes when it records and takes bytes when it replays, and the command line reads the same
//! bytes to list them.
//!
//! The way of the data: [`trace_writer::TraceWriter`] appends events to extents of a mapped file;
//! [`trace_reader::Trace`] opens that file; [`event_stream::EventStream`] walks one process's events;
//! [`event::Event`] and [`value::Value`] are what they say.
//!
//! Unsafe code is confined to `platform`, which maps the trace and talks to the system.

#![warn(missing_docs)]
#![deny(unsafe_code)]

mod alone;
pub mod byte_source;
pub mod debug_protocol;
mod display;
pub mod event;
pub mod event_stream;
mod extent;
mod helper;
mod json;
pub mod layout;
pub mod notes;
#[allow(unsafe_code, reason = "mappings and system calls")]
mod platform;
pub mod sources;
pub mod start;
mod stream_writer;
mod strings;
pub mod text;
pub mod thinned;
mod trace_file;
pub mod trace_reader;
pub mod trace_writer;
pub mod turns;
pub mod unrecorded;
pub mod value;

pub use event::{Event, HookKind};
pub use event_stream::{EventIndex, EventStream};
pub use platform::Cursor;
pub use trace_reader::{Trace, TraceError};
pub use trace_writer::{Options, TraceWriter, WriteError};
pub use value::Value;

/// The hash the format uses everywhere: XXH3, 64 bits, seed 0.
pub fn content_hash(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}
