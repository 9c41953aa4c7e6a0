//! Appending events, inside the recorded process.
//!
//! One thread appends at a time: the GIL's holder. So the hot path is plain stores and one release store of the
//! committed length; no lock, no atomic read-modify-write. Only claiming an extent is atomic, because other processes
//! claim too, and that is the helper thread's work, ahead of need.
//!
//! Nothing here raises, aborts, prints, or leaves a trace in `errno`. What fails ends the recording, says why in the
//! trace and in [`TraceWriter::stopped`], and lets the program go on.
#![forbid(unsafe_code)]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::event::Event;
use crate::extent::Extent;
use crate::helper::{self, Command, Helper, Shared, Source, SourceWriter};
use crate::layout;
use crate::platform::{self, Cursor, PreserveErrno};
use crate::stream_writer::{ExtentSupply, RESERVE, StreamWriter};
use crate::trace_file::{self, Descriptor, TraceFile};
use crate::value::Str;

/// How far ahead of the cursor pages are faulted in. A multiple of the page size; small, because it is resident.
pub(crate) const WINDOW: usize = 128 << 10;
/// How far the fast path is let before it comes by again. A part of [`WINDOW`].
const STRIDE: usize = WINDOW / 8;

/// How long to wait for an extent that only the helper can make.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is looked for what one waits for.
const STEP: Duration = Duration::from_millis(1);

/// The most [`TraceWriter::cursor`] may be asked for.
pub const MAX_INLINE: usize = 4096;

/// Why a trace cannot be written, or no longer.
#[derive(Debug, Error)]
#[allow(missing_docs, reason = "each variant's message says what it is")]
pub enum WriteError {
    #[error("cannot create {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("{} is not a regular file; name another file for the recording", path.display())]
    NotAFile { path: PathBuf },
    #[error("{} is being recorded by another process; name another file", path.display())]
    Busy { path: PathBuf },
    #[error("cannot join the recording {}: {source}", path.display())]
    Join { path: PathBuf, source: io::Error },
    #[error("{} is not a trace", path.display())]
    NotATrace { path: PathBuf },
    #[error("{} is another recording", path.display())]
    OtherRecording { path: PathBuf },
    #[error("{} has trace format {found}, this is a recorder of format {}", path.display(), layout::FORMAT_VERSION)]
    OtherFormat { path: PathBuf, found: u32 },
    #[error("{size} is not an extent size: it has to be a multiple of 4096, at most 1 GiB")]
    ExtentSize { size: u32 },
    #[error("{} has more processes than a trace can hold", path.display())]
    TooManyProcesses { path: PathBuf },
    #[error("cannot write {}: {source}", path.display())]
    Grow { path: PathBuf, source: io::Error },
    #[error("the trace has reached its size limit of {limit} bytes")]
    SizeLimit { limit: u64 },
    #[error("{} was moved or replaced while it was being recorded", path.display())]
    Moved { path: PathBuf },
    #[error("the recorder's helper thread died")]
    HelperDied,
}

/// How to create a trace.
#[derive(Debug, Clone)]
pub struct Options {
    /// The size of an extent in bytes, a multiple of 4096.
    pub extent_size: u32,
    /// The most bytes the file may grow to, for all processes together.
    pub max_bytes: Option<u64>,
    /// The root process's Python version, `major << 8 | minor`.
    pub python: u32,
    /// The recording's id; random where there is none.
    pub recording_id: Option<[u8; 16]>,
}

impl Default for Options {
    fn default() -> Options {
        Options { extent_size: LARGEST_EXTENT, max_bytes: None, python: 0, recording_id: None }
    }
}

/// The size of extents where nothing asks for smaller ones.
const LARGEST_EXTENT: u32 = 1 << 20;
/// A page of any system's.
const SMALLEST_EXTENT: u32 = 1 << 16;
/// How many extents there is room for below a limit, if they need not be smaller still.
const MANY: u64 = 32;

impl Options {
    /// With a limit, of which extents take small parts: a recording ends where the next extent finds no room, before it needs
    /// it, and each stream has extents of its own.
    #[must_use]
    pub fn limited(max_bytes: Option<u64>) -> Options {
        let part = max_bytes.map_or(u64::MAX, |limit| limit / MANY);
        let mut extent_size = LARGEST_EXTENT;
        while u64::from(extent_size) > part && extent_size > SMALLEST_EXTENT {
            extent_size /= 2;
        }
        Options { extent_size, max_bytes, ..Options::default() }
    }
}

/// What this process has of the trace while it records.
struct Recorder {
    shared: Arc<Shared>,
    descriptor: Descriptor,
    /// Whether the descriptor and the helper's are the same open file, with one lock.
    shares_file: bool,
    /// Whether the descriptor stays open: the process may not reach the file again.
    keeps_open: bool,
    /// Whether the descriptor's open file, and its lock, are another process's too: that of a parent, or of a child, which
    /// could not open the file again.
    lends: bool,
    helper: Option<Helper>,
    /// The sources' stream while no helper has it.
    sources: Option<SourceWriter>,
    /// Whether there may be a helper.
    may_help: bool,
}

impl Recorder {
    /// Claims a process and its first extent, and starts the helper if there may be one. `borrows`: the descriptor is its
    /// parent's.
    fn start(
        file: TraceFile,
        mut descriptor: Descriptor,
        may_help: bool,
        borrows: bool,
    ) -> Result<(Recorder, StreamWriter, u32), WriteError> {
        let claimed = file.claim_process().and_then(|process| Ok((process, file.allocate(&mut descriptor)?)));
        match claimed {
            Ok((process, extent)) => {
                let shared = Arc::new(Shared::new(file));
                let sources = Some(SourceWriter::new(process));
                let mut recorder = Recorder {
                    shared,
                    descriptor,
                    shares_file: false,
                    keeps_open: borrows,
                    lends: borrows,
                    helper: None,
                    sources,
                    may_help,
                };
                recorder.start_helper();
                if recorder.helper.is_some() {
                    recorder.shared.await_table();
                }
                recorder.hide_descriptor();
                Ok((recorder, StreamWriter::new(extent, process, layout::STREAM_EVENTS, STRIDE), process))
            }
            Err(error) => {
                descriptor.close(&file);
                Err(error)
            }
        }
    }

    /// Starts the helper. Without one (the process may have no threads left) everything is done inline.
    fn start_helper(&mut self) {
        if !self.may_help {
            return;
        }
        let Some(sources) = self.sources.take() else {
            return;
        };
        match Helper::start(&self.shared, self.descriptor.copy(), sources) {
            Ok(helper) => {
                self.helper = Some(helper);
                self.shares_file = true;
            }
            Err(sources) => self.sources = Some(*sources),
        }
    }

    fn command(&self, command: Command) {
        self.shared.commands.push(command);
        if let Some(helper) = &self.helper {
            helper.wake();
        }
    }

    /// Closes the descriptor where the helper has the file open in a table of its own: the program may list its own.
    fn hide_descriptor(&mut self) {
        if self.helper.is_some() && !self.keeps_open && self.shared.has_own_table() {
            self.descriptor.hide(&self.shared.file);
            self.shares_file = false;
        }
    }

    /// The helper is about to stop: the file stays open by the descriptor. Whether that has a lock of its own.
    fn holds_file(&mut self) -> bool {
        let shares = self.shares_file && self.shared.file.is(self.descriptor.raw());
        // Where it cannot be had, the recording may end later.
        self.descriptor.get(&self.shared.file).is_ok() && !shares
    }

    /// An extent that the helper makes, where this process cannot open the file again: for a moment.
    fn await_extent(&self) -> Option<Extent> {
        self.helper.as_ref()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            // One at a time: where the disk is full each fails, and the helper has to do all before it ends.
            if self.shared.commands.is_empty() {
                self.command(Command::Ahead);
            }
            if let Some(extent) = self.shared.ready.pop() {
                return Some(extent);
            }
            std::thread::sleep(STEP);
        }
        None
    }
}

impl ExtentSupply for Recorder {
    fn take(&mut self) -> Result<Extent, WriteError> {
        match self.shared.ready.pop() {
            Some(extent) => Ok(extent),
            None => {
                let extent = self.shared.file.allocate(&mut self.descriptor);
                self.hide_descriptor();
                extent.or_else(|error| self.await_extent().ok_or(error))
            }
        }
    }

    fn retire(&mut self, extent: Extent) {
        if self.helper.is_some() {
            self.command(Command::Seal(extent));
        } else {
            extent.seal();
        }
    }
}

/// Writes one process's events. See the module's documentation for who may call when.
#[repr(C)] // Hot fields first.
pub struct TraceWriter {
    /// The fork generation this writer belongs to. Another one means: a child that inherited the parent's writer.
    generation: u32,
    /// Nothing is left to do for the descriptor: it is hidden, or it has to stay.
    settled: bool,
    stream: StreamWriter,
    process: u32,
    recorder: Option<Recorder>,
    stopped: Option<String>,
}

impl TraceWriter {
    /// Creates the trace at `path`, in place of what is there, and begins its process 0.
    pub fn create(path: &Path, options: &Options) -> Result<TraceWriter, WriteError> {
        let _errno = PreserveErrno::new();
        let (file, descriptor) = TraceFile::create(path, options)?;
        TraceWriter::begin(file, descriptor)
    }

    /// Joins the recording at `path` as another process of the same tree.
    pub fn join(path: &Path) -> Result<TraceWriter, WriteError> {
        let _errno = PreserveErrno::new();
        let (file, descriptor) = TraceFile::join(path, None)?;
        TraceWriter::begin(file, descriptor)
    }

    /// Joins the recording with this id, also where no process is recording into it just now: one that replaces itself
    /// (exec) has let go of the file, and its successor belongs to the recording none the less.
    pub fn join_recording(path: &Path, id: &[u8; 16]) -> Result<TraceWriter, WriteError> {
        let _errno = PreserveErrno::new();
        let (file, descriptor) = TraceFile::join(path, Some(id))?;
        TraceWriter::begin(file, descriptor)
    }

    /// Whether `path` is a trace that a process is recording into.
    pub fn is_being_recorded(path: &Path) -> bool {
        let _errno = PreserveErrno::new();
        trace_file::is_being_recorded(path)
    }

    fn begin(file: TraceFile, descriptor: Descriptor) -> Result<TraceWriter, WriteError> {
        platform::watch_forks();
        let (recorder, stream, process) = Recorder::start(file, descriptor, true, false)?;
        let writer = TraceWriter {
            stream,
            generation: platform::fork_generation(),
            settled: false,
            process,
            recorder: Some(recorder),
            stopped: None,
        };
        writer.populate(0);
        writer.entered_extent();
        Ok(writer)
    }

    /// This process's index in the trace.
    pub fn process(&self) -> u32 {
        self.process
    }

    /// The recording's id; `None` once recording has ended.
    pub fn recording_id(&self) -> Option<[u8; 16]> {
        self.recorder.as_ref().map(|recorder| recorder.shared.file.recording_id())
    }

    /// Where the next event may be written, with at least `need` bytes (at most [`MAX_INLINE`]) of room. Null when the
    /// event has to go through [`append`](TraceWriter::append), and once recording has ended.
    ///
    /// The pointer is good until the next call of any other method than [`commit`](TraceWriter::commit): assemble what
    /// may run Python before taking it.
    #[inline(always)]
    pub fn cursor(&mut self, need: usize) -> *mut u8 {
        match self.stream.cursor(need) {
            Some(cursor) if !self.is_inherited() => cursor.as_ptr(),
            _ => self.cursor_beyond_limit(need),
        }
    }

    /// Fetches the cache lines that the next event will be written to: the helper has faulted them in, on another core.
    #[inline(always)]
    pub fn prefetch(&self) {
        self.stream.prefetch();
    }

    /// Whether `need` bytes may be written at `place`, which is at or behind the cursor by less than was asked for.
    #[inline(always)]
    pub fn has_room(&self, place: *mut u8, need: usize) -> bool {
        self.stream.has_room(place, need)
    }

    /// Whether this process was forked from the one that writes, and has not become a process of the trace. What it
    /// would write would land in its parent's stream. C code forks without asking anyone (uWSGI does).
    #[inline(always)]
    fn is_inherited(&self) -> bool {
        platform::fork_generation() != self.generation
    }

    /// To be called now and then: hides the descriptor once a helper has it. A look at a field, mostly.
    #[inline(always)]
    pub fn look(&mut self) {
        if !self.settled {
            self.look_at_helper();
        }
    }

    #[cold]
    #[inline(never)]
    fn look_at_helper(&mut self) {
        let inherited = self.is_inherited();
        let Some(recorder) = &mut self.recorder else { return };
        let has_helper = recorder.helper.is_some();
        if has_helper && !recorder.shared.knows_table() {
            return;
        }
        self.settled = true;
        if has_helper && !inherited {
            let _errno = PreserveErrno::new();
            recorder.hide_descriptor();
        }
    }

    /// How many forked processes of the recording could not be recorded: they cannot open the trace.
    pub fn unrecorded(&self) -> u64 {
        self.recorder.as_ref().map_or(0, |recorder| recorder.shared.file.unrecorded())
    }

    /// Where to count the programs that this process starts and that can't be recorded. It stays mapped.
    pub fn unrecorded_programs(&self) -> Option<&'static AtomicU64> {
        self.recorder.as_ref().map(|recorder| recorder.shared.file.unrecorded_programs())
    }

    /// A program that another one started can't be recorded. Best effort: says so in the trace.
    pub fn count_unrecorded_program(path: &Path, id: &[u8; 16]) {
        if let Ok((file, descriptor)) = TraceFile::join(path, Some(id)) {
            file.unrecorded_programs().fetch_add(1, Ordering::Relaxed);
            descriptor.close(&file);
        }
    }

    /// The process may not be able to open the trace again from now on: it stays open, also where the program sees it.
    pub fn keep_open(&mut self) {
        let _errno = PreserveErrno::new();
        if !self.is_inherited()
            && let Some(recorder) = &mut self.recorder
        {
            recorder.keeps_open = true;
            let _ = recorder.descriptor.get(&recorder.shared.file);
        }
    }

    /// Where the next event goes, to publish what was written at the place that [`cursor`](TraceWriter::cursor) returned.
    #[inline(always)]
    pub fn cursor_mut(&mut self) -> &mut Cursor {
        self.stream.cursor_mut()
    }

    /// The end of a stride, of the extent, or of the recording. Once every [`WINDOW`] bytes: has the helper fault in
    /// the window after the one now begun, and an extent made ready in time.
    #[cold]
    #[inline(never)]
    fn cursor_beyond_limit(&mut self, need: usize) -> *mut u8 {
        let _errno = PreserveErrno::new();
        if self.is_inherited() {
            return std::ptr::null_mut();
        }
        self.notice_failure();
        loop {
            let before = self.stream.in_second_half();
            let Some(offset) = self.stream.advance_limit() else {
                return std::ptr::null_mut();
            };
            let begun = offset - STRIDE;
            if begun.is_multiple_of(WINDOW) {
                self.populate(begun + WINDOW);
            }
            if !before && self.stream.in_second_half() {
                self.command(Command::Ahead);
            }
            if let Some(cursor) = self.stream.cursor(need) {
                if let Some(helper) = self.recorder.as_ref().and_then(|recorder| recorder.helper.as_ref()) {
                    helper.let_alone();
                }
                return cursor.as_ptr();
            }
        }
    }

    /// Prepares for what follows in an extent just begun, whose first window is populated.
    fn entered_extent(&self) {
        self.populate(WINDOW);
        if self.stream.in_second_half() {
            self.command(Command::Ahead);
        }
    }

    /// Has the helper fault in the window at `offset` of the current extent.
    fn populate(&self, offset: usize) {
        if let Some(helper) = self.recorder.as_ref().and_then(|recorder| recorder.helper.as_ref())
            && let Some(pages) = self.stream.current().and_then(|extent| extent.pages(offset, WINDOW))
        {
            helper.populate(pages);
        }
    }

    /// Gives the helper work that can also be left undone.
    fn command(&self, command: Command) {
        if let Some(recorder) = &self.recorder
            && recorder.helper.is_some()
        {
            recorder.command(command);
        }
    }

    /// Appends a whole event of any size, the concatenation of `parts`.
    pub fn append(&mut self, parts: &[&[u8]]) {
        self.look();
        let _errno = PreserveErrno::new();
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        if self.stream.is_closed() || platform::fork_generation() != self.generation {
            return;
        }
        let extent = self.stream.current().map(Extent::index);
        match self.stream.append(parts, recorder) {
            Ok(()) if self.stream.current().map(Extent::index) != extent => {
                self.entered_extent();
                self.notice_failure();
            }
            Ok(()) => {}
            Err(error) => self.stop(&error.to_string()),
        }
    }

    /// Ends the recording if the helper could not go on. Only looked at where the hot path does not pass.
    fn notice_failure(&mut self) {
        let failure = self.recorder.as_ref().and_then(|recorder| recorder.shared.failure.get());
        if let Some(failure) = failure {
            let reason = failure.to_string();
            self.stop(&reason);
        }
    }

    /// Ends the recording before the process ends: writes a `stopped` event and ignores what is appended from now on.
    /// The first reason is kept.
    pub fn stop(&mut self, reason: &str) {
        let _errno = PreserveErrno::new();
        if self.stopped.is_some() || self.stream.is_closed() || self.is_inherited() {
            return;
        }
        self.stopped = Some(reason.to_owned());
        // ASCII, so that the event's length is known: it has to fit the reserve.
        let ascii: String = reason.chars().map(|c| if c.is_ascii() { c } else { '?' }).take(RESERVE - 16).collect();
        let mut event = Vec::with_capacity(RESERVE);
        Event::Stopped(Str::from(ascii.as_str())).encode(&mut event);
        if let Some(recorder) = &mut self.recorder {
            self.stream.close_with(&event, recorder);
        }
    }

    /// Why recording ended before the process did, if it did.
    pub fn stopped(&self) -> Option<String> {
        let helper = || self.recorder.as_ref()?.shared.failure.get().map(WriteError::to_string);
        self.stopped.clone().or_else(helper)
    }

    /// Stores the source file at `path` (UTF-8). The helper reads it; what cannot be read is left out.
    pub fn add_source(&mut self, path: &[u8]) {
        let _errno = PreserveErrno::new();
        let Some(recorder) = &self.recorder else {
            return;
        };
        let reads_files = recorder.shared.reads_files.load(Ordering::Relaxed);
        if reads_files && recorder.helper.is_some() {
            self.queue_source(path, None);
        } else if let Some(contents) = helper::read_source(path) {
            self.queue_source(path, Some(contents));
        }
    }

    /// Stores `contents` as the source of `path` (UTF-8).
    pub fn add_source_bytes(&mut self, path: &[u8], contents: Vec<u8>) {
        let _errno = PreserveErrno::new();
        self.queue_source(path, Some(contents));
    }

    fn queue_source(&mut self, path: &[u8], contents: Option<Vec<u8>>) {
        if self.is_inherited() {
            return;
        }
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        recorder.shared.sources.push(Source { path: path.to_vec(), contents });
        if let Some(helper) = &recorder.helper {
            helper.wake();
        } else if let Some(sources) = recorder.sources.as_mut().filter(|_| !recorder.may_help) {
            helper::drain_here(&recorder.shared, &mut recorder.descriptor, sources);
        }
    }

    /// To be called before the process forks. Stops the helper: CPython 3.12 warns when a process with several threads
    /// forks, and the child must not inherit a thread's half-done work.
    pub fn before_fork(&mut self) {
        let _errno = PreserveErrno::new();
        if self.is_inherited() {
            return;
        }
        self.settled = false;
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        recorder.lends |= recorder.keeps_open;
        if let Some(helper) = recorder.helper.take() {
            let locked = recorder.holds_file();
            recorder.sources = helper.pause(locked);
            if recorder.sources.is_none() {
                let _ = recorder.shared.failure.set(WriteError::HelperDied);
            }
        }
    }

    /// To be called in the parent after a fork, or after a fork that failed.
    pub fn after_fork_parent(&mut self) {
        let _errno = PreserveErrno::new();
        if !self.is_inherited()
            && let Some(recorder) = &mut self.recorder
        {
            recorder.start_helper();
        }
    }

    /// To be called in the child after a fork. The child leaves the parent's extents alone and becomes a process of
    /// its own in the trace. On an error it is not recorded.
    ///
    /// `may_help`: whether a helper may run in it. Where the thread that forked was not its process's first, the child
    /// ends when its last thread does, and a helper would be one more.
    pub fn after_fork_child(&mut self, may_help: bool) -> Result<(), WriteError> {
        let _errno = PreserveErrno::new();
        let Some(recorder) = self.recorder.take() else {
            return Ok(());
        };
        let Recorder { shared, descriptor, helper, sources, keeps_open, .. } = recorder;
        let stopped = self.stopped.is_some() || shared.failure.get().is_some();
        self.generation = platform::fork_generation();
        self.settled = false;
        self.stream.abandon();
        let forked = shared.file.after_fork(descriptor, keeps_open);
        if helper.is_some() {
            // Forked without `before_fork`. The thread is gone; the queues and the sources are as it left them, in the
            // middle of something perhaps: dropping them would not be safe.
            std::mem::forget((helper, sources, shared));
        } else {
            // Unmaps the parent's extents and writes nothing.
            drop((sources, shared));
        }
        if stopped {
            // A child cannot be replayed without its parent's events up to the fork.
            if let Ok((file, descriptor, _)) = forked {
                descriptor.close(&file);
            }
            return Ok(());
        }
        match forked.and_then(|(file, descriptor, borrows)| Recorder::start(file, descriptor, may_help, borrows)) {
            Ok((recorder, stream, process)) => {
                self.stream = stream;
                self.process = process;
                self.recorder = Some(recorder);
                self.populate(0);
                self.entered_extent();
                Ok(())
            }
            Err(error) => {
                self.stopped = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// Ends the stream: stores the sources still queued, seals what is open, and gives back unused space. Later calls
    /// of any method do nothing. A process that dies without it leaves a trace that is good up to its last commit.
    pub fn close(&mut self) {
        let _errno = PreserveErrno::new();
        let Some(mut recorder) = self.recorder.take() else {
            return;
        };
        if self.is_inherited() {
            // All of it is the parent's; its helper is no thread of this process.
            self.stream.abandon();
            std::mem::forget(recorder);
            return;
        }
        if let Some(helper) = recorder.helper.take() {
            let locked = recorder.holds_file();
            recorder.sources = helper.drain(locked);
        }
        if let Some(sources) = &mut recorder.sources {
            helper::drain_here(&recorder.shared, &mut recorder.descriptor, sources);
        } else {
            let _ = recorder.shared.failure.set(WriteError::HelperDied);
        }
        if self.stopped.is_none() {
            self.stopped = recorder.shared.failure.get().map(WriteError::to_string);
        }
        let remains = [self.stream.finish(), recorder.sources.take().and_then(SourceWriter::finish)];
        let mut unused: Vec<u64> = recorder.shared.ready.pop().iter().map(Extent::index).collect();
        let mut last = Vec::new();
        for remains in remains.into_iter().flatten() {
            last.push((remains.last.index(), remains.last.committed().load(Ordering::Relaxed)));
            unused.extend(remains.unused.iter().map(Extent::index));
        }
        // Here, because everything is unmapped by now: trimming may cut what a mapping would still show.
        let Recorder { shared, mut descriptor, lends, .. } = recorder;
        if let Ok(fd) = descriptor.get(&shared.file) {
            shared.file.trim(fd, &unused, &last, lends);
        }
        descriptor.close(&shared.file);
    }
}

impl Drop for TraceWriter {
    fn drop(&mut self) {
        self.close();
    }
}
