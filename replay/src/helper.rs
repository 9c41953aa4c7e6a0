//! The helper thread: everything of the recorder that may take time or wait for the disk, off the GIL.
//!
//! It allocates and populates extents ahead, seals full ones, and stores sources. It takes no lock that the recorded
//! threads take, and no signal; it is stopped before a fork and started again on both sides, never inherited.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_queue::{ArrayQueue, SegQueue};

use crate::alone::Alone;
use crate::content_hash;
use crate::extent::Extent;
use crate::layout;
use crate::platform::{self, Pages};
use crate::stream_writer::{ExtentSupply, Remains, StreamWriter};
use crate::trace_file::{Descriptor, TraceFile};
use crate::trace_writer::WriteError;
use crate::value::{put_str, put_varint};

/// The helper's stack: zstd keeps its tables on the heap.
const STACK: usize = 256 << 10;

/// How long a process waits for its helper to start. A descriptor that the program can see is better than a hang.
const START: Duration = Duration::from_millis(50);

/// After work the helper looks for more by itself for a while: waking it takes the program ten microseconds and more (the
/// other processor is interrupted), which at the highest rates would be 8 ns of each event.
const NAP: Duration = Duration::from_micros(100);
const NAPS: u32 = 20;

/// Sources take zstd's fastest level: the helper competes with the program for the processor.
const COMPRESSION: i32 = 1;

/// The helper has not looked yet.
const UNKNOWN: u8 = 0;
/// Its descriptors are its own: see [`platform::own_descriptors`].
const OWN: u8 = 1;
const SHARED: u8 = 2;

const RUN: u8 = 0;
const PAUSE: u8 = 1;
const DRAIN: u8 = 2;

/// Work on extents, done in this order.
pub(crate) enum Command {
    /// Have an extent ready.
    Ahead,
    /// Seal a full extent and unmap it.
    Seal(Extent),
}

/// A source to store.
pub(crate) struct Source {
    pub(crate) path: Vec<u8>,
    /// `None`: the helper reads the file.
    pub(crate) contents: Option<Vec<u8>>,
}

/// What the recorded threads and the helper share. Queues without locks: the GIL's holder never waits.
pub(crate) struct Shared {
    pub(crate) file: TraceFile,
    /// What to fault in. Apart from the commands, because this is all the helper does most of the time, and does it where
    /// the process counts as one with one thread: no queue that allocates, and nothing is lost where it is full.
    windows: ArrayQueue<Pages>,
    pub(crate) commands: SegQueue<Command>,
    pub(crate) sources: SegQueue<Source>,
    pub(crate) ready: ArrayQueue<Extent>,
    /// Why sources are no longer stored.
    pub(crate) failure: OnceLock<WriteError>,
    /// Whether the helper's own opening of files is invisible to the program. Where it is not, sources are read by
    /// the thread that imports, which holds the GIL. Relaxed: a source read the other way is no harm.
    pub(crate) reads_files: AtomicBool,
    table: AtomicU8,
    /// Whether the helper gives its lock on the file up when it ends: who stops it has one by another descriptor. The map
    /// of the header keeps the helper's alive otherwise.
    gives_up_lock: AtomicBool,
    state: AtomicU8,
    thread: AtomicI32,
    /// How often the helper was woken. Only the GIL's holder writes it.
    woken: AtomicU64,
    /// What that was when the helper last had nothing left to do: while it is so still, the helper waits.
    rests_since: AtomicU64,
    /// The helper looks for work by itself: see [`NAP`].
    looks: AtomicBool,
}

impl Shared {
    pub(crate) fn new(file: TraceFile) -> Shared {
        Shared {
            file,
            windows: ArrayQueue::new(2),
            commands: SegQueue::new(),
            sources: SegQueue::new(),
            ready: ArrayQueue::new(1),
            failure: OnceLock::new(),
            reads_files: AtomicBool::new(true),
            table: AtomicU8::new(UNKNOWN),
            gives_up_lock: AtomicBool::new(false),
            state: AtomicU8::new(RUN),
            thread: AtomicI32::new(0),
            woken: AtomicU64::new(1),
            rests_since: AtomicU64::new(0),
            looks: AtomicBool::new(false),
        }
    }

    /// Waits until there is work. Nothing of the C library's is used here but the wait: see [`crate::alone`].
    fn rest(&self, since: u64) {
        // Release pairs with the Acquire in `Helper::rests`: what the helper did is done.
        self.rests_since.store(since, Ordering::Release);
        self.looks.store(true, Ordering::Relaxed);
        for _ in 0..NAPS {
            if self.woken.load(Ordering::Acquire) != since {
                return;
            }
            std::thread::park_timeout(NAP);
        }
        self.looks.store(false, Ordering::Relaxed);
        // SeqCst pairs with the fence in `Helper::call`: who found that the helper looks has its work seen here.
        fence(Ordering::SeqCst);
        while self.woken.load(Ordering::Acquire) == since {
            std::thread::park();
        }
    }

    /// Whether the helper has descriptors of its own, the trace's among them. Acquire: it has its copy by then.
    pub(crate) fn has_own_table(&self) -> bool {
        self.table.load(Ordering::Acquire) == OWN
    }

    /// Whether the helper has looked for that.
    pub(crate) fn knows_table(&self) -> bool {
        self.table.load(Ordering::Acquire) != UNKNOWN
    }

    /// Waits until the helper has looked, for a moment.
    pub(crate) fn await_table(&self) {
        let deadline = Instant::now() + START;
        while !self.knows_table() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// The helper's thread, from outside.
pub(crate) struct Helper {
    shared: Arc<Shared>,
    thread: JoinHandle<SourceWriter>,
    /// `None` where the process had other threads before.
    alone: Option<Alone>,
    /// Whether it was asked since the helper was last woken if the process counts as one with one thread.
    asked: Cell<bool>,
}

impl Helper {
    /// Starts the thread, or gives the sources back.
    pub(crate) fn start(
        shared: &Arc<Shared>,
        descriptor: Descriptor,
        sources: SourceWriter,
    ) -> Result<Helper, Box<SourceWriter>> {
        shared.state.store(RUN, Ordering::Relaxed);
        shared.table.store(UNKNOWN, Ordering::Relaxed);
        shared.rests_since.store(0, Ordering::Relaxed);
        shared.looks.store(false, Ordering::Relaxed);
        let alone = Alone::new();
        // The thread takes the sources out of this once it runs; if it cannot be started they are still here.
        let luggage = Arc::new(ArrayQueue::new(1));
        let _ = luggage.push((descriptor, sources));
        let (theirs, thread_luggage) = (Arc::clone(shared), Arc::clone(&luggage));
        let spawned = platform::with_signals_blocked(|| {
            std::thread::Builder::new().name("retrace".to_owned()).stack_size(STACK).spawn(move || {
                let Some((descriptor, sources)) = thread_luggage.pop() else { unreachable!("pushed before the spawn") };
                run(&theirs, descriptor, sources)
            })
        });
        match spawned {
            Ok(thread) => Ok(Helper { shared: Arc::clone(shared), thread, alone, asked: Cell::new(false) }),
            Err(_) => match luggage.pop() {
                Some((_, sources)) => Err(Box::new(sources)),
                None => unreachable!("the thread that would take it was not started"),
            },
        }
    }

    /// Tells the helper that there is work. A system call only when it sleeps and does not look by itself.
    pub(crate) fn wake(&self) {
        if let Some(alone) = &self.alone {
            alone.end();
        }
        self.asked.set(false);
        self.call();
    }

    /// Has these pages faulted in, unless the helper is behind. Whether the process counts as one with one thread stays: the
    /// helper makes one system call, and the pages are those of an extent in use, so that it is never the last to let go of
    /// the mapping.
    pub(crate) fn populate(&self, pages: Pages) {
        if self.shared.windows.push(pages).is_ok() {
            self.call();
        }
    }

    fn call(&self) {
        // Release pairs with the Acquires in `Shared::rest` and `until_stopped`: the helper sees what is to be done.
        self.shared.woken.store(self.shared.woken.load(Ordering::Relaxed) + 1, Ordering::Release);
        // SeqCst pairs with the fence in `Shared::rest`.
        fence(Ordering::SeqCst);
        if !self.shared.looks.load(Ordering::Relaxed) {
            self.thread.thread().unpark();
        }
    }

    /// Has the process count as one with one thread, if the helper has nothing to do and there is no other. To be called now
    /// and then.
    pub(crate) fn let_alone(&self) {
        let Some(alone) = &self.alone else { return };
        if !self.asked.get() && self.rests() {
            self.asked.set(true);
            alone.begin(1);
        }
    }

    /// Whether the helper waits to be woken.
    fn rests(&self) -> bool {
        self.shared.rests_since.load(Ordering::Acquire) == self.shared.woken.load(Ordering::Relaxed)
    }

    /// Stops the thread after what it is just doing; the queues keep the rest. `gives_up_lock`: see [`Shared`].
    pub(crate) fn pause(self, gives_up_lock: bool) -> Option<SourceWriter> {
        self.stop(PAUSE, gives_up_lock)
    }

    /// Stops the thread when the queues are empty.
    pub(crate) fn drain(self, gives_up_lock: bool) -> Option<SourceWriter> {
        self.stop(DRAIN, gives_up_lock)
    }

    fn stop(self, state: u8, gives_up_lock: bool) -> Option<SourceWriter> {
        // Relaxed: published by what follows.
        self.shared.gives_up_lock.store(gives_up_lock, Ordering::Relaxed);
        // Release pairs with the Acquire in `run`: the helper sees every item pushed before it sees the stop.
        self.shared.state.store(state, Ordering::Release);
        self.wake();
        self.thread.thread().unpark();
        let sources = self.thread.join().ok();
        platform::wait_for_thread_exit(self.shared.thread.load(Ordering::Relaxed));
        if let Some(alone) = &self.alone {
            alone.begin(0);
        }
        sources
    }
}

/// The thread's body. It ends only when it is told to, also where something went wrong.
fn run(shared: &Shared, descriptor: Descriptor, sources: SourceWriter) -> SourceWriter {
    match catch_unwind(AssertUnwindSafe(|| work(shared, descriptor, sources))) {
        Ok(sources) => sources,
        Err(panic) => {
            while shared.state.load(Ordering::Acquire) == RUN {
                std::thread::park();
            }
            resume_unwind(panic)
        }
    }
}

fn work(shared: &Shared, mut descriptor: Descriptor, sources: SourceWriter) -> SourceWriter {
    shared.thread.store(platform::thread_id(), Ordering::Relaxed);
    let own = platform::own_descriptors(descriptor.raw());
    if !own {
        shared.reads_files.store(false, Ordering::Relaxed);
    }
    shared.table.store(if own { OWN } else { SHARED }, Ordering::Release);
    let sources = until_stopped(shared, &mut descriptor, sources);
    if own {
        // The kernel would close it only some time after the thread has been joined.
        descriptor.give_up(&shared.file, shared.gives_up_lock.load(Ordering::Relaxed));
    }
    sources
}

fn until_stopped(shared: &Shared, descriptor: &mut Descriptor, mut sources: SourceWriter) -> SourceWriter {
    loop {
        // Taken before the queues are looked at: what was pushed before a stop is seen.
        let woken = shared.woken.load(Ordering::Acquire);
        let state = shared.state.load(Ordering::Acquire);
        populate(shared);
        while let Some(command) = shared.commands.pop() {
            execute(shared, command, descriptor);
            populate(shared);
        }
        if state == PAUSE {
            return sources;
        }
        if let Some(source) = shared.sources.pop() {
            sources.store(shared, source, descriptor);
        } else if state == DRAIN {
            return sources;
        } else {
            shared.rest(woken);
        }
    }
}

/// Does the rest of the work on the calling thread, where there is no helper (any more).
pub(crate) fn drain_here(shared: &Shared, descriptor: &mut Descriptor, sources: &mut SourceWriter) {
    while shared.windows.pop().is_some() {}
    while let Some(command) = shared.commands.pop() {
        execute(shared, command, descriptor);
    }
    while let Some(source) = shared.sources.pop() {
        sources.store(shared, source, descriptor);
    }
}

/// Faults in what is soon written to: before everything else.
fn populate(shared: &Shared) {
    while let Some(pages) = shared.windows.pop() {
        pages.populate();
    }
}

fn execute(shared: &Shared, command: Command, descriptor: &mut Descriptor) {
    match command {
        Command::Ahead => {
            if shared.ready.is_full() {
                return;
            }
            // A failure here is nobody's: whoever needs the extent tries again and gets the error.
            if let Ok(fd) = descriptor.get(&shared.file)
                && let Ok(extent) = shared.file.claim_extent(fd)
            {
                if let Some(pages) = extent.pages(0, crate::trace_writer::WINDOW) {
                    pages.populate();
                }
                let _ = shared.ready.push(extent);
            }
        }
        Command::Seal(extent) => extent.seal(),
    }
}

/// The stream of sources, and what is in it. Owned by the helper while that runs.
pub(crate) struct SourceWriter {
    process: u32,
    stream: Option<StreamWriter>,
    stored: HashSet<u64>,
}

/// Extents for the stream of sources: claimed as needed, sealed at once.
struct Inline<'a> {
    file: &'a TraceFile,
    descriptor: &'a mut Descriptor,
}

impl ExtentSupply for Inline<'_> {
    fn take(&mut self) -> Result<Extent, WriteError> {
        self.file.allocate(self.descriptor)
    }

    fn retire(&mut self, extent: Extent) {
        extent.seal();
    }
}

impl SourceWriter {
    pub(crate) fn new(process: u32) -> SourceWriter {
        SourceWriter { process, stream: None, stored: HashSet::new() }
    }

    fn store(&mut self, shared: &Shared, source: Source, descriptor: &mut Descriptor) {
        if shared.failure.get().is_some() {
            return;
        }
        let contents = match source.contents {
            Some(contents) => contents,
            // What cannot be read is not an error: a module may come from an archive, or be gone by now.
            None => match read_source(&source.path) {
                Some(contents) => contents,
                None => return,
            },
        };
        if contents.len() as u64 > layout::MAX_SOURCE {
            return;
        }
        if let Err(error) = self.append(shared, &source.path, &contents, descriptor) {
            let _ = shared.failure.set(error);
        }
    }

    fn append(
        &mut self,
        shared: &Shared,
        path: &[u8],
        contents: &[u8],
        descriptor: &mut Descriptor,
    ) -> Result<(), WriteError> {
        let hash = content_hash(contents);
        let known = self.stored.contains(&hash);
        // Compression cannot fail but for memory; then the contents are left out, which the reader reports.
        let compressed =
            if known { Vec::new() } else { zstd::bulk::compress(contents, COMPRESSION).unwrap_or_default() };
        let mut item = vec![layout::SOURCE_ITEM];
        put_str(&mut item, &String::from_utf8_lossy(path));
        item.extend_from_slice(&hash.to_le_bytes());
        put_varint(&mut item, contents.len() as u64);
        put_varint(&mut item, compressed.len() as u64);
        let mut supply = Inline { file: &shared.file, descriptor };
        let stream = match &mut self.stream {
            Some(stream) => stream,
            None => {
                let extent = supply.take()?;
                self.stream.insert(StreamWriter::new(extent, self.process, layout::STREAM_SOURCES, usize::MAX))
            }
        };
        stream.append(&[&item, &compressed], &mut supply)?;
        self.stored.insert(hash);
        Ok(())
    }

    /// Seals the stream's last extent.
    pub(crate) fn finish(mut self) -> Option<Remains> {
        self.stream.as_mut()?.finish()
    }
}

/// Reads a source file. Only regular files: opening anything else may block or have effects.
pub(crate) fn read_source(path: &[u8]) -> Option<Vec<u8>> {
    let path = std::path::Path::new(std::str::from_utf8(path).ok()?);
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let mut contents = Vec::with_capacity(metadata.len().min(layout::MAX_SOURCE) as usize);
    file.take(layout::MAX_SOURCE + 1).read_to_end(&mut contents).ok()?;
    Some(contents)
}
