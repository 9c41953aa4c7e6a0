//! While the helper is quiet the C library is told that the process has one thread: see `platform::Alone`. The helper may
//! allocate no memory then, and what it is given that is not quiet takes the flag down first.
//!
//! Without the usual harness, which has threads.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use retrace_replay::{Options, TraceWriter, layout};

struct Watched;

static MAIN: AtomicI32 = AtomicI32::new(0);
static WATCHING: AtomicBool = AtomicBool::new(false);
static OTHERS: AtomicU64 = AtomicU64::new(0);

fn thread_id() -> i32 {
    // SAFETY: always succeeds.
    unsafe { libc::syscall(libc::SYS_gettid) as i32 }
}

impl Watched {
    fn note(&self) {
        if WATCHING.load(Ordering::SeqCst) && thread_id() != MAIN.load(Ordering::SeqCst) {
            OTHERS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// SAFETY: the system's allocator, watched.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.note();
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.note();
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

const EXTENT: u32 = 1 << 20;
const EXTENTS: u64 = 40;

/// glibc's flag.
fn is_alone() -> bool {
    // SAFETY: a byte-sized variable of the C library's.
    unsafe {
        let flag = libc::dlsym(libc::RTLD_DEFAULT, c"__libc_single_threaded".as_ptr()).cast::<u8>();
        !flag.is_null() && std::ptr::read_volatile(flag) != 0
    }
}

fn await_alone(writer: &mut TraceWriter) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_alone() {
        assert!(Instant::now() < deadline, "the helper does not become quiet");
        writer.look();
        std::thread::yield_now();
    }
}

fn descriptors_of(path: &Path) -> usize {
    let links =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link == path).count()
}

/// Appends some of an extent, through the cursor where that has room.
fn append(writer: &mut TraceWriter, bytes: &[u8]) {
    let cursor = writer.cursor(bytes.len());
    if cursor.is_null() {
        return writer.append(&[bytes]);
    }
    // SAFETY: there is room for `bytes`.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), cursor, bytes.len());
        writer.commit(cursor.add(bytes.len()));
    }
}

/// Waits until so many of the first extents are sealed. (That of sources, if it is among them, is not.)
fn await_sealed(file: &File, count: u64) {
    let is_sealed = |index: &u64| {
        let mut word = [0; 4];
        let offset = layout::extent_offset(*index, EXTENT).unwrap() + layout::SEALED as u64;
        file.read_exact_at(&mut word, offset).is_ok() && word == [1, 0, 0, 0]
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while ((0..EXTENTS).filter(is_sealed).count() as u64) < count {
        assert!(Instant::now() < deadline, "the helper seals nothing");
        std::thread::yield_now();
    }
}

fn main() {
    if !cfg!(all(target_os = "linux", target_env = "gnu")) {
        return;
    }
    MAIN.store(thread_id(), Ordering::SeqCst);
    assert!(is_alone(), "a process begins with one thread");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("t.retrace");
    let options = Options { extent_size: EXTENT, max_bytes: None, python: 0x030b, recording_id: None };
    let mut writer = TraceWriter::create(&path, &options).unwrap();
    assert_eq!(descriptors_of(&path), 0, "the program could see the trace");
    await_alone(&mut writer);

    // Extents are claimed, populated and sealed, without an allocation.
    let file = File::open(&path).unwrap();
    WATCHING.store(true, Ordering::SeqCst);
    let bytes = [0x5a; 512];
    for extent in 0..EXTENTS {
        for _ in 0..EXTENT as usize / bytes.len() {
            append(&mut writer, &bytes);
        }
        await_sealed(&file, extent.saturating_sub(2));
    }
    WATCHING.store(false, Ordering::SeqCst);
    assert_eq!(OTHERS.load(Ordering::SeqCst), 0, "the helper allocates or frees");
    assert!(is_alone());
    drop(file);
    assert_eq!(descriptors_of(&path), 0, "the program could see the trace");

    // A source is compressed, which is not quiet.
    writer.add_source_bytes(b"/a.py", vec![b'#'; 100_000]);
    assert!(!is_alone(), "the helper allocates while the flag is up");
    await_alone(&mut writer);

    // Another thread: the C library takes the flag down, and it stays down as long as that lives.
    let (send, receive) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || receive.recv());
    assert!(!is_alone());
    writer.add_source_bytes(b"/b.py", vec![b'#'; 1000]);
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        writer.look();
        assert!(!is_alone(), "there is another thread");
    }
    send.send(()).unwrap();
    thread.join().unwrap().unwrap();

    // A fork stops the helper.
    writer.before_fork();
    assert_eq!(descriptors_of(&path), 1, "a child has to reach the trace");
    writer.after_fork_parent();
    await_alone(&mut writer);
    assert_eq!(descriptors_of(&path), 0, "the program could see the trace");

    // A process that may not be able to open the trace again keeps it.
    writer.keep_open();
    assert!(!is_alone(), "glibc changes one thread's user only");
    assert_eq!(descriptors_of(&path), 1);
    writer.close();
    assert_eq!(descriptors_of(&path), 0);
    println!("the helper is quiet");
}
