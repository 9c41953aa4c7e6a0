//! The file behind a recording: its header, its claims and its lock.
//!
//! Whoever claims anything holds a shared `flock` of its own, and the file is only ever truncated under the exclusive
//! one. So nobody's mapping can lose its pages, which would be SIGBUS in the recorded program.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crate::extent::Extent;
use crate::layout;
use crate::platform::{self, SharedMap, close, identity, lock, open};
use crate::trace_writer::{Options, WriteError};

/// How long a joining process waits for one that is just trimming the file. That takes microseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// A trace that is being written, as all threads of this process see it.
pub(crate) struct TraceFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Mapped for good: programs that the process starts are counted there, whatever becomes of its recording.
    header: &'static SharedMap,
    extent_size: u32,
}

/// One thread's descriptor of the trace. The program may close any descriptor it did not open (`os.closerange`), so
/// it is checked before each use. Closing it is explicit: a copy in another thread's table has the same number.
pub(crate) struct Descriptor {
    fd: RawFd,
}

impl Descriptor {
    /// The same number, for a thread that has, or will get, a copy of this table.
    pub(crate) fn copy(&self) -> Descriptor {
        Descriptor { fd: self.fd }
    }

    /// Closes the descriptor; [`get`](Descriptor::get) opens the file again. For a thread whose process has the file open
    /// in another table.
    pub(crate) fn hide(&mut self, file: &TraceFile) {
        std::mem::replace(self, Descriptor { fd: -1 }).close(file);
    }

    pub(crate) fn raw(&self) -> RawFd {
        self.fd
    }

    /// The descriptor, opened and locked again if the program closed or replaced it.
    pub(crate) fn get(&mut self, file: &TraceFile) -> Result<RawFd, WriteError> {
        if !file.is(self.fd) {
            self.fd = file.reopen()?;
        }
        Ok(self.fd)
    }

    /// Closes the descriptor, and takes the lock away from whatever else keeps the open file: a map does.
    pub(crate) fn give_up(self, file: &TraceFile, unlocks: bool) {
        if unlocks && file.is(self.fd) {
            lock(self.fd, libc::LOCK_UN);
        }
        self.close(file);
    }

    /// Closes the descriptor if it is still the trace's.
    pub(crate) fn close(self, file: &TraceFile) {
        if file.is(self.fd) {
            close(self.fd);
        }
    }
}

/// Why there is no further extent.
pub(crate) enum Unable {
    SizeLimit(u64),
    System(io::Error),
}

/// Takes the shared lock; fails when somebody holds the exclusive one for longer than trimming can take.
fn lock_shared(fd: RawFd) -> Result<(), io::Error> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    while !lock(fd, libc::LOCK_SH) {
        let error = io::Error::last_os_error();
        let busy = matches!(error.raw_os_error(), Some(libc::EWOULDBLOCK | libc::EINTR));
        if !busy || Instant::now() > deadline {
            return Err(error);
        }
        std::thread::yield_now();
    }
    Ok(())
}

impl TraceFile {
    /// Creates the trace at `path` in place of what is there. An old file is unlinked and not overwritten: somebody
    /// may have it mapped.
    pub(crate) fn create(path: &Path, options: &Options) -> Result<(TraceFile, Descriptor), WriteError> {
        if !layout::is_extent_size(options.extent_size) {
            return Err(WriteError::ExtentSize { size: options.extent_size });
        }
        let error = |source| WriteError::Create { path: path.to_owned(), source };
        let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path)).map_err(error)?;
        match fs::metadata(&path) {
            Ok(metadata) if !metadata.is_file() => return Err(WriteError::NotAFile { path }),
            Ok(_) if is_being_recorded(&path) => return Err(WriteError::Busy { path }),
            Ok(_) => fs::remove_file(&path).map_err(error)?,
            Err(_) => {}
        }
        let fd = open(&path, libc::O_RDWR | libc::O_CREAT | libc::O_EXCL).map_err(error)?;
        let result = lock_shared(fd)
            .and_then(|()| platform::move_high(fd))
            .and_then(|fd| TraceFile::initialise(&path, fd, options).map(|file| (file, Descriptor { fd })));
        result.map_err(|source| {
            // Leave nothing half-made behind.
            close(fd);
            let _ = fs::remove_file(&path);
            WriteError::Create { path: path.clone(), source }
        })
    }

    fn initialise(path: &Path, fd: RawFd, options: &Options) -> io::Result<TraceFile> {
        if !platform::file_size_permitted(layout::FILE_HEADER) {
            return Err(io::Error::from_raw_os_error(libc::EFBIG));
        }
        platform::allocate(fd, 0, layout::FILE_HEADER)?;
        let header = SharedMap::new(fd, 0, layout::FILE_HEADER as usize)?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut id = [0u8; 16];
        match options.recording_id {
            Some(given) => id = given,
            // Should it fail, the id is the creation time's alone, below.
            None => platform::random(&mut id),
        }
        let mut bytes = [0u8; 128];
        let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        put(layout::VERSION, &layout::FORMAT_VERSION.to_le_bytes());
        put(layout::EXTENT_SIZE, &options.extent_size.to_le_bytes());
        put(layout::CREATED, &(now.as_nanos() as u64).to_le_bytes());
        put(layout::RECORDING_ID, &id);
        put(layout::PYTHON, &options.python.to_le_bytes());
        put(layout::SIZE_LIMIT, &options.max_bytes.unwrap_or(0).to_le_bytes());
        let magic = u64::from_le_bytes(layout::FILE_MAGIC);
        header.write(0, &bytes);
        // Last, with Release: its partners are the processes that look whether this is a trace.
        header.u64_at(0).store(magic, Ordering::Release);
        TraceFile::new(path, fd, header, options.extent_size)
    }

    fn new(path: &Path, fd: RawFd, header: SharedMap, extent_size: u32) -> io::Result<TraceFile> {
        let (device, inode) = identity(fd).ok_or_else(io::Error::last_os_error)?;
        Ok(TraceFile { path: path.to_owned(), device, inode, header: Box::leak(Box::new(header)), extent_size })
    }

    /// Opens a trace that another process is writing, or has written; only the recording `id` where one is given.
    pub(crate) fn join(path: &Path, id: Option<&[u8; 16]>) -> Result<(TraceFile, Descriptor), WriteError> {
        let error = |source| WriteError::Join { path: path.to_owned(), source };
        let path = fs::canonicalize(path).map_err(error)?;
        let fd = open(&path, libc::O_RDWR).map_err(error)?;
        let joined = (|| {
            lock_shared(fd).map_err(error)?;
            let length = fs::metadata(&path).map_err(error)?.len();
            if length < layout::FILE_HEADER {
                return Err(WriteError::NotATrace { path: path.clone() });
            }
            let header = SharedMap::new(fd, 0, layout::FILE_HEADER as usize).map_err(error)?;
            let extent_size = check_header(&header, &path)?;
            if id.is_some_and(|id| *id != recording_id(&header)) {
                return Err(WriteError::OtherRecording { path: path.clone() });
            }
            let fd = platform::move_high(fd).map_err(error)?;
            let file = TraceFile::new(&path, fd, header, extent_size).map_err(error)?;
            Ok((file, Descriptor { fd }))
        })();
        if joined.is_err() {
            close(fd);
        }
        joined
    }

    /// The recording's id.
    pub(crate) fn recording_id(&self) -> [u8; 16] {
        recording_id(self.header)
    }

    /// How many forked processes could not be recorded.
    pub(crate) fn unrecorded(&self) -> u64 {
        self.counter(layout::UNRECORDED).load(Ordering::Relaxed)
    }

    /// The number of started programs that could not be recorded. Relaxed wherever it is counted: it stands for itself.
    pub(crate) fn unrecorded_programs(&self) -> &'static AtomicU64 {
        self.header.u64_at(layout::UNRECORDED_PROGRAMS)
    }

    fn counter(&self, offset: usize) -> &AtomicU64 {
        self.header.u64_at(offset)
    }

    /// Claims the index of a process. Relaxed: the number itself is all that is exchanged.
    pub(crate) fn claim_process(&self) -> Result<u32, WriteError> {
        let index = self.counter(layout::PROCESSES_CLAIMED).fetch_add(1, Ordering::Relaxed);
        u32::try_from(index).map_err(|_| WriteError::TooManyProcesses { path: self.path.clone() })
    }

    /// Claims an extent, allocates its space and maps it.
    pub(crate) fn allocate(&self, descriptor: &mut Descriptor) -> Result<Extent, WriteError> {
        let fd = descriptor.get(self)?;
        self.claim_extent(fd).map_err(|why| match why {
            Unable::SizeLimit(limit) => WriteError::SizeLimit { limit },
            Unable::System(source) => WriteError::Grow { path: self.path.clone(), source },
        })
    }

    /// The same through a descriptor that is known to be the file's. Allocates no memory: see `crate::helper`.
    pub(crate) fn claim_extent(&self, fd: RawFd) -> Result<Extent, Unable> {
        let claimed = self.counter(layout::EXTENTS_CLAIMED);
        // Looked at before claiming, so that processes that go on trying do not count the number up.
        self.permitted(claimed.load(Ordering::Relaxed))?;
        // Relaxed: each index is handed out once, and no other memory is published by it.
        let index = claimed.fetch_add(1, Ordering::Relaxed);
        let offset = self.permitted(index)?;
        platform::allocate(fd, offset, u64::from(self.extent_size)).map_err(Unable::System)?;
        Extent::map(fd, index, offset, self.extent_size).map_err(Unable::System)
    }

    /// Whether the limits let extent `index` exist, and where.
    fn permitted(&self, index: u64) -> Result<u64, Unable> {
        let too_large = || Unable::System(io::Error::from_raw_os_error(libc::EFBIG));
        let offset = layout::extent_offset(index, self.extent_size).ok_or_else(too_large)?;
        let end = offset + u64::from(self.extent_size);
        let limit = self.counter(layout::SIZE_LIMIT).load(Ordering::Relaxed);
        if limit != 0 && end > limit {
            return Err(Unable::SizeLimit(limit));
        }
        if !platform::file_size_permitted(end) {
            return Err(too_large());
        }
        Ok(offset)
    }

    /// Whether `fd` is this file.
    pub(crate) fn is(&self, fd: RawFd) -> bool {
        identity(fd) == Some((self.device, self.inode))
    }

    /// Opens the file once more, with a lock of its own.
    pub(crate) fn reopen(&self) -> Result<RawFd, WriteError> {
        let error = |source| WriteError::Grow { path: self.path.clone(), source };
        let fd = open(&self.path, libc::O_RDWR).map_err(error)?;
        if !self.is(fd) {
            close(fd);
            return Err(WriteError::Moved { path: self.path.clone() });
        }
        if let Err(source) = lock_shared(fd) {
            close(fd);
            return Err(error(source));
        }
        platform::move_high(fd).map_err(error)
    }

    /// The file for a forked child, with a descriptor, a lock and a header of its own: what it inherited shares the
    /// parent's lock. Closes the inherited descriptor.
    ///
    /// `may_borrow`: where the file cannot be opened again, the child goes on with what it inherited, which the third value
    /// says. Where it can't do that either, the trace says that there was such a child.
    pub(crate) fn after_fork(
        &self,
        inherited: Descriptor,
        may_borrow: bool,
    ) -> Result<(TraceFile, Descriptor, bool), WriteError> {
        let reopened = self.reopen();
        let borrows = reopened.is_err() && may_borrow && self.is(inherited.raw());
        let fd = if borrows { Ok(inherited.raw()) } else { reopened };
        if !borrows {
            inherited.close(self);
        }
        if fd.is_err() {
            self.counter(layout::UNRECORDED).fetch_add(1, Ordering::Relaxed);
        }
        let fd = fd?;
        let file = SharedMap::new(fd, 0, layout::FILE_HEADER as usize)
            .and_then(|header| TraceFile::new(&self.path, fd, header, self.extent_size));
        match file {
            Ok(file) => Ok((file, Descriptor { fd }, borrows)),
            Err(source) => {
                close(fd);
                Err(WriteError::Grow { path: self.path.clone(), source })
            }
        }
    }

    /// Gives back what the last process of a recording claimed and did not use: `unused` extents, and what follows
    /// `last_payloads` (extent index, committed bytes). Best effort. Gives up the lock.
    ///
    /// `lends`: another process goes on with this very open file. Its lock is that one's too, and the file is not cut.
    pub(crate) fn trim(&self, fd: RawFd, unused: &[u64], last_payloads: &[(u64, u64)], lends: bool) {
        let size = u64::from(self.extent_size);
        let whole = unused.iter().map(|index| (*index, 0));
        let tails = last_payloads.iter().map(|(index, n)| (*index, (layout::EXTENT_HEADER + n).next_multiple_of(4096)));
        for (index, used) in whole.chain(tails) {
            if let Some(offset) = layout::extent_offset(index, self.extent_size)
                && used < size
            {
                platform::punch_hole(fd, offset + used, size - used);
            }
        }
        if lends {
            return;
        }
        // The exclusive lock means that no other process has the file: who claims holds the shared one, a forked
        // child takes its own before it claims anything.
        if lock(fd, libc::LOCK_EX) {
            let claimed = self.counter(layout::EXTENTS_CLAIMED);
            let mut count = claimed.load(Ordering::Relaxed);
            while count > 0 && unused.contains(&(count - 1)) {
                count -= 1;
            }
            claimed.store(count, Ordering::Relaxed);
            let end = match count.checked_sub(1) {
                None => Some(layout::FILE_HEADER),
                Some(last) => layout::extent_offset(last, self.extent_size).map(|offset| {
                    let used = last_payloads.iter().find(|(index, _)| *index == last);
                    offset + used.map_or(size, |(_, n)| layout::EXTENT_HEADER + n)
                }),
            };
            let length = fs::metadata(&self.path).map(|metadata| metadata.len());
            if let (Some(end), Ok(length)) = (end, length)
                && end < length
                && self.is(fd)
            {
                platform::truncate(fd, end);
            }
        }
        // Explicit, because a forked child that has not yet reopened the file keeps this lock alive otherwise.
        lock(fd, libc::LOCK_UN);
    }
}

/// The recording's id, in a header that was checked.
fn recording_id(header: &SharedMap) -> [u8; 16] {
    header.read(layout::RECORDING_ID)
}

/// Checks a mapped header; returns the extent size.
fn check_header(header: &SharedMap, path: &Path) -> Result<u32, WriteError> {
    // Acquire pairs with the Release of `initialise`: the other fields no longer change once the magic is there.
    let magic = header.u64_at(0).load(Ordering::Acquire);
    let field = |offset: usize| header.u32_at(offset).load(Ordering::Relaxed);
    let extent_size = field(layout::EXTENT_SIZE);
    if magic != u64::from_le_bytes(layout::FILE_MAGIC) || !layout::is_extent_size(extent_size) {
        return Err(WriteError::NotATrace { path: path.to_owned() });
    }
    match field(layout::VERSION) {
        layout::FORMAT_VERSION => Ok(extent_size),
        found => Err(WriteError::OtherFormat { path: path.to_owned(), found }),
    }
}

/// Whether `path` is a trace whose lock somebody holds.
pub(crate) fn is_being_recorded(path: &Path) -> bool {
    // O_NONBLOCK: a FIFO would block the open.
    let Ok(fd) = open(path, libc::O_RDONLY | libc::O_NONBLOCK) else {
        return false;
    };
    let mut magic = [0u8; 8];
    let recorded = platform::read_at(fd, &mut magic, 0) == 8
        && magic == layout::FILE_MAGIC
        && !lock(fd, libc::LOCK_EX)
        && io::Error::last_os_error().raw_os_error() == Some(libc::EWOULDBLOCK);
    close(fd);
    recorded
}
