//! Opening a trace.
//!
//! A trace may be anything: cut short, damaged, made to harm. Opening one checks everything that later reads rely on, so
//! that a cursor only ever sees byte ranges that exist.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use crate::byte_source::DecodeError;
use crate::content_hash;
use crate::event::Event;
use crate::event_stream::{Chain, Span};
use crate::layout;
use crate::platform::Map;
use crate::sources::Sources;
use crate::start::Start;

pub use crate::event_stream::{EventIndex, EventStream};

/// Why a trace cannot be read.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum TraceError {
    #[error("cannot open {}: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not a trace; `retrace record` makes one", path.display())]
    NotATrace { path: PathBuf },
    #[error("{} is cut short: it ends within its header; record it again", path.display())]
    CutShort { path: PathBuf },
    #[error(
        "{} has trace format {found}, this retrace reads format {}; use the retrace that recorded it",
        path.display(), layout::FORMAT_VERSION
    )]
    OtherFormat { path: PathBuf, found: u32 },
    #[error("{} is damaged: its header says that extents have {size} bytes; restore it or record it again", path.display())]
    ExtentSize { path: PathBuf, size: u32 },
    #[error("{} is damaged: extent {extent} at offset {offset} {what}; restore it or record it again", path.display())]
    CorruptExtent { path: PathBuf, extent: u64, offset: u64, what: &'static str },
    #[error(
        "{} is damaged: event {event} of process {process} (at byte {position} of its stream) makes no sense: {source}; \
         restore it or record it again",
        path.display()
    )]
    Malformed { path: PathBuf, process: u32, event: EventIndex, position: u64, source: DecodeError },
    #[error(
        "{} is damaged: the source stored for process {process} at byte {position} makes no sense: {what}; restore \
         it or record it again",
        path.display()
    )]
    MalformedSource { path: PathBuf, process: u32, position: u64, what: String },
    #[error("{} has no process {process}; `retrace info` lists its {count}", path.display())]
    NoSuchProcess { path: PathBuf, process: u32, count: usize },
    #[error("{} is cut short: no process of it is left; record it again", path.display())]
    NoProcesses { path: PathBuf },
    #[error("{}: the ancestors of process {process} are damaged; record it again", path.display())]
    NoAncestor { path: PathBuf, process: u32 },
}

/// The mapped file, shared by all cursors.
pub(crate) struct Contents {
    path: PathBuf,
    map: Map,
}

impl Contents {
    #[inline(always)]
    pub(crate) fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The file header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The format version.
    pub version: u32,
    /// The size of an extent, header included.
    pub extent_size: u32,
    /// How many extents were claimed; the file may hold fewer.
    pub extents_claimed: u64,
    /// How many processes were claimed; some may have left nothing.
    pub processes_claimed: u64,
    /// When the recording began, in nanoseconds since the Unix epoch.
    pub created_ns: u64,
    /// The recording's random id.
    pub recording_id: [u8; 16],
    /// The root process's Python version, `major << 8 | minor`.
    pub python: u32,
    /// The limit on the file's size in bytes, if there is one.
    pub size_limit: Option<u64>,
    /// How many forked processes could not be recorded: they could not open the trace.
    pub unrecorded: u64,
    /// How many programs were started that could not be recorded.
    pub unrecorded_programs: u64,
}

/// What is known of a process without walking its events.
#[derive(Debug, Clone)]
pub struct ProcessSummary {
    /// Its index in the trace.
    pub index: u32,
    /// Bytes of events.
    pub event_bytes: u64,
    /// Bytes of sources.
    pub source_bytes: u64,
    /// Extents in both streams.
    pub extents: usize,
    /// The first event's dict; `None` where the process died before it was written.
    pub start: Option<Start>,
}

#[derive(Default)]
struct Process {
    events: Arc<Chain>,
    sources: Arc<Chain>,
}

/// A trace, opened and checked. Cheap to clone.
#[derive(Clone)]
pub struct Trace {
    contents: Arc<Contents>,
    header: Header,
    processes: Arc<BTreeMap<u32, Process>>,
}

/// A process's way from the one of its ancestors that was started and not forked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descent {
    /// The index of that ancestor.
    pub ancestor: u32,
    /// The forks from there on: which of the parent's forks, from 0, and the index of the process it made.
    pub forks: Vec<(u64, u32)>,
}

impl Trace {
    /// Opens the trace at `path` and checks its extents. A trace that is still being recorded shows what was committed
    /// up to now.
    pub fn open(path: impl AsRef<Path>) -> Result<Trace, TraceError> {
        Trace::check(path.as_ref(), Map::open(path.as_ref()))
    }

    /// Checks a trace that is in memory; `path` is what errors call it.
    pub fn from_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<Trace, TraceError> {
        Trace::check(path.as_ref(), Map::copy_of(bytes))
    }

    fn check(path: &Path, map: io::Result<Map>) -> Result<Trace, TraceError> {
        let path = path.to_owned();
        let map = map.map_err(|source| TraceError::Open { path: path.clone(), source })?;
        let contents = Contents { path, map };
        let header = read_header(&contents)?;
        let processes = read_extents(&contents, &header)?;
        Ok(Trace { contents: Arc::new(contents), header, processes: Arc::new(processes) })
    }

    /// Where the trace was opened.
    pub fn path(&self) -> &Path {
        &self.contents.path
    }

    /// The file's size in bytes.
    pub fn size(&self) -> u64 {
        self.contents.bytes().len() as u64
    }

    /// The file header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The processes that left anything, by index.
    pub fn processes(&self) -> Vec<ProcessSummary> {
        let summary = |(&index, process): (&u32, &Process)| ProcessSummary {
            index,
            event_bytes: process.events.length(),
            source_bytes: process.sources.length(),
            extents: process.events.spans.len() + process.sources.spans.len(),
            start: self.start(index),
        };
        self.processes.iter().map(summary).collect()
    }

    /// A process's start dict, if its stream begins with one.
    pub fn start(&self, process: u32) -> Option<Start> {
        match self.events(process).ok()?.next_event() {
            Ok(Some((_, Event::Start(dict)))) => Some(Start::new(dict)),
            _ => None,
        }
    }

    /// How a process came to be by forks from one that was started.
    pub fn descent(&self, process: u32) -> Result<Descent, TraceError> {
        let mut descent = Descent { ancestor: process, forks: Vec::new() };
        self.process(process)?;
        while let Some((parent, fork)) = self.start(descent.ancestor).and_then(|start| start.forked()) {
            // A parent is older: no trace, however damaged, leads round in a circle.
            if parent >= descent.ancestor {
                return Err(TraceError::NoAncestor { path: self.contents.path.clone(), process });
            }
            self.process(parent)?;
            descent.forks.insert(0, (fork, descent.ancestor));
            descent.ancestor = parent;
        }
        Ok(descent)
    }

    fn process(&self, process: u32) -> Result<&Process, TraceError> {
        let path = || self.contents.path.clone();
        self.processes.get(&process).ok_or_else(|| match self.processes.len() {
            0 => TraceError::NoProcesses { path: path() },
            count => TraceError::NoSuchProcess { path: path(), process, count },
        })
    }

    /// A cursor at a process's first event.
    pub fn events(&self, process: u32) -> Result<EventStream, TraceError> {
        let chain = Arc::clone(&self.process(process)?.events);
        Ok(EventStream::new(Arc::clone(&self.contents), chain, process))
    }

    /// The sources a process stored. A forked child's earlier ones are its parent's.
    pub fn sources(&self, process: u32) -> Result<Sources, TraceError> {
        let chain = Arc::clone(&self.process(process)?.sources);
        Ok(Sources::new(EventStream::new(Arc::clone(&self.contents), chain, process)))
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}

fn read_header(contents: &Contents) -> Result<Header, TraceError> {
    let bytes = contents.bytes();
    let path = || contents.path.clone();
    if !bytes.starts_with(&layout::FILE_MAGIC) {
        return Err(TraceError::NotATrace { path: path() });
    }
    // The version first: everything else may stand elsewhere in another format.
    let version = u32_at(bytes, layout::VERSION).ok_or_else(|| TraceError::CutShort { path: path() })?;
    if version != layout::FORMAT_VERSION {
        return Err(TraceError::OtherFormat { path: path(), found: version });
    }
    let header = bytes.get(..layout::FILE_HEADER as usize).and_then(|bytes| {
        Some(Header {
            version,
            extent_size: u32_at(bytes, layout::EXTENT_SIZE)?,
            extents_claimed: u64_at(bytes, layout::EXTENTS_CLAIMED)?,
            processes_claimed: u64_at(bytes, layout::PROCESSES_CLAIMED)?,
            created_ns: u64_at(bytes, layout::CREATED)?,
            recording_id: *bytes.get(layout::RECORDING_ID..)?.first_chunk()?,
            python: u32_at(bytes, layout::PYTHON)?,
            size_limit: u64_at(bytes, layout::SIZE_LIMIT).filter(|limit| *limit != 0),
            unrecorded: u64_at(bytes, layout::UNRECORDED)?,
            unrecorded_programs: u64_at(bytes, layout::UNRECORDED_PROGRAMS)?,
        })
    });
    let header = header.ok_or_else(|| TraceError::CutShort { path: path() })?;
    if !layout::is_extent_size(header.extent_size) {
        return Err(TraceError::ExtentSize { path: path(), size: header.extent_size });
    }
    Ok(header)
}

/// An extent as its header describes it.
#[derive(Clone, Copy)]
struct Extent {
    /// The committed payload, in the file.
    start: usize,
    end: usize,
    full: bool,
    sealed: bool,
}

fn read_extents(contents: &Contents, header: &Header) -> Result<BTreeMap<u32, Process>, TraceError> {
    // By process, stream and sequence number. At most one entry for each extent the file really holds.
    let mut extents: BTreeMap<(u32, u32, u32), Extent> = BTreeMap::new();
    for index in 0.. {
        // The last extent may be cut after its payload, and what follows the last one claimed is not the trace's.
        let Some(offset) = layout::extent_offset(index, header.extent_size) else {
            break;
        };
        let Some(bytes) = contents.bytes().get(offset as usize..) else {
            break;
        };
        if bytes.len() < layout::EXTENT_HEADER as usize || index >= header.extents_claimed {
            break;
        }
        let Some((key, extent)) = read_extent(contents, header, index, offset, bytes)? else {
            continue;
        };
        if extents.insert(key, extent).is_some() {
            return Err(corrupt(contents, index, offset, "claims a place that another extent has"));
        }
    }
    let mut processes: BTreeMap<u32, Process> = BTreeMap::new();
    let mut chains: BTreeMap<(u32, u32), (Chain, Option<Extent>)> = BTreeMap::new();
    for (&(process, stream, sequence), extent) in &extents {
        let (chain, last) = chains.entry((process, stream)).or_default();
        // A chain ends before the first extent that is missing, and after the first that is not full.
        if chain.spans.len() != sequence as usize || last.is_some_and(|last| !last.full) {
            continue;
        }
        chain.spans.push(Span { start: extent.start, end: extent.end, position: chain.length() });
        chain.sealed = extent.sealed;
        *last = Some(*extent);
    }
    for ((process, stream), (chain, _)) in chains {
        let process = processes.entry(process).or_default();
        match stream {
            layout::STREAM_EVENTS => process.events = Arc::new(chain),
            _ => process.sources = Arc::new(chain),
        }
    }
    Ok(processes)
}

fn corrupt(contents: &Contents, extent: u64, offset: u64, what: &'static str) -> TraceError {
    TraceError::CorruptExtent { path: contents.path.clone(), extent, offset, what }
}

type Key = (u32, u32, u32);

/// Reads the header of extent `index`, which `bytes` begin with. `None` where nobody has used it.
fn read_extent(
    contents: &Contents,
    header: &Header,
    index: u64,
    offset: u64,
    bytes: &[u8],
) -> Result<Option<(Key, Extent)>, TraceError> {
    let error = |what| corrupt(contents, index, offset, what);
    let read_u32 = |offset| u32_at(bytes, offset).ok_or_else(|| error("is cut short"));
    let read_u64 = |offset| u64_at(bytes, offset).ok_or_else(|| error("is cut short"));
    match read_u32(0)? {
        0 => return Ok(None),
        layout::EXTENT_MAGIC => {}
        _ => return Err(error("does not begin with the mark of an extent")),
    }
    let key = (read_u32(layout::PROCESS)?, read_u32(layout::STREAM)?, read_u32(layout::SEQUENCE)?);
    if key.1 > layout::STREAM_SOURCES {
        return Err(error("belongs to a stream that is unknown"));
    }
    let capacity = u64::from(header.extent_size) - layout::EXTENT_HEADER;
    let committed = read_u64(layout::COMMITTED)?;
    if committed > capacity {
        return Err(error("claims more than it can hold"));
    }
    let payload = bytes
        .get(layout::EXTENT_HEADER as usize..)
        .and_then(|payload| payload.get(..committed as usize))
        .ok_or_else(|| error("is cut short"))?;
    let sealed = match read_u32(layout::SEALED)? {
        0 => false,
        1 => true,
        _ => return Err(error("is neither sealed nor open")),
    };
    if sealed && content_hash(payload) != read_u64(layout::CHECKSUM)? {
        return Err(error("does not have the checksum it was sealed with"));
    }
    let start = offset as usize + layout::EXTENT_HEADER as usize;
    let end = start + payload.len();
    Ok(Some((key, Extent { start, end, full: committed == capacity, sealed })))
}
