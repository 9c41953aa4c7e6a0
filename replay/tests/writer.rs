//! The writer against the file it leaves: limits, sources, several processes, sudden death.
//!
//! What kills or forks runs in a process of its own: this test binary again, with the test's name and
//! `RETRACE_TEST_CHILD` set.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use retrace_replay::event::{Call, Event, Outcome};
use retrace_replay::value::{Str, Value};
use retrace_replay::{Options, Trace, TraceWriter, WriteError};

const TINY: Options = Options { extent_size: 4096, max_bytes: None, python: 0x030b, recording_id: None };

fn event(number: u64) -> Event {
    let outcome = Outcome::Value(Value::Int(number as i64));
    Event::Call(Call { hook: (number % 100) as u16, at: 7, arguments: None, outcome })
}

fn encoded(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::new();
    event.encode(&mut bytes);
    bytes
}

/// Appends through the pointer where it can, as the hooks do.
fn append(writer: &mut TraceWriter, event: &Event) {
    let bytes = encoded(event);
    let cursor = writer.cursor(bytes.len());
    if cursor.is_null() {
        return writer.append(&[&bytes]);
    }
    // SAFETY: the cursor has room for `bytes`.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), cursor, bytes.len());
        writer.cursor_mut().commit(cursor.add(bytes.len()));
    }
}

fn read(path: &Path, process: u32) -> Vec<Event> {
    let mut stream = Trace::open(path).unwrap().events(process).unwrap();
    std::iter::from_fn(|| stream.next_event().unwrap().map(|(_, event)| event)).collect()
}

fn expect_numbers(path: &Path, process: u32, numbers: impl Iterator<Item = u64>) {
    assert_eq!(read(path, process), numbers.map(event).collect::<Vec<_>>());
}

/// In the test itself: `None`, after running the body as a child process whose trace is returned. In the child: the path.
enum Role {
    Child(PathBuf),
    Parent { folder: tempfile::TempDir, status: std::process::ExitStatus },
}

fn in_child(test: &str) -> Role {
    if let Some(path) = std::env::var_os("RETRACE_TEST_CHILD") {
        return Role::Child(path.into());
    }
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env("RETRACE_TEST_CHILD", trace_in(&folder))
        .status()
        .unwrap();
    Role::Parent { folder, status }
}

fn trace_in(folder: &tempfile::TempDir) -> PathBuf {
    folder.path().join("x.retrace")
}

/// A child joins the very recording of its parent, also when nobody is recording, and no other.
#[test]
fn a_recording_is_joined_by_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.retrace");
    let id = [7; 16];
    let mut one = TraceWriter::create(&path, &Options { recording_id: Some(id), ..TINY }).unwrap();
    assert_eq!(one.recording_id(), Some(id));
    one.close();
    assert_eq!(one.recording_id(), None);
    let length = std::fs::metadata(&path).unwrap().len();
    assert!(matches!(TraceWriter::join_recording(&path, &[8; 16]), Err(WriteError::OtherRecording { .. })));
    assert_eq!(std::fs::metadata(&path).unwrap().len(), length);
    let mut two = TraceWriter::join_recording(&path, &id).unwrap();
    assert_eq!((two.process(), two.recording_id()), (1, Some(id)));
    two.close();
}

#[test]
fn the_file_is_private_and_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    let mut writer = TraceWriter::create(&path, &Options { max_bytes: Some(1 << 20), ..TINY }).unwrap();
    assert_eq!(writer.process(), 0);
    append(&mut writer, &event(1));
    writer.close();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let trace = Trace::open(&path).unwrap();
    assert_eq!(trace.header().python, 0x030b);
    assert_eq!(trace.header().size_limit, Some(1 << 20));
    assert_ne!(trace.header().recording_id, [0; 16]);
    assert!(trace.header().created_ns > 0);
}

#[test]
fn a_closed_trace_takes_no_more_room_than_it_needs() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    let mut writer = TraceWriter::create(&path, &Options::default()).unwrap();
    append(&mut writer, &event(1));
    writer.close();
    assert_eq!(fs::metadata(&path).unwrap().len(), 4096 + 64 + encoded(&event(1)).len() as u64);
    expect_numbers(&path, 0, 1..2);
    // Nothing happens any more.
    append(&mut writer, &event(2));
    writer.stop("late");
    writer.add_source(b"/etc/hosts");
    writer.close();
    expect_numbers(&path, 0, 1..2);
}

#[test]
fn many_events_fill_many_extents() {
    for options in [TINY, Options { extent_size: 256 << 10, ..TINY }, Options::default()] {
        let folder = tempfile::tempdir().unwrap();
        let path = trace_in(&folder);
        let mut writer = TraceWriter::create(&path, &options).unwrap();
        (0..300_000).for_each(|i| append(&mut writer, &event(i)));
        assert_eq!(writer.stopped(), None);
        writer.close();
        expect_numbers(&path, 0, 0..300_000);
    }
}

#[test]
fn an_open_trace_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    let mut writer = TraceWriter::create(&path, &TINY).unwrap();
    (0..5000).for_each(|i| append(&mut writer, &event(i)));
    expect_numbers(&path, 0, 0..5000);
    (5000..5010).for_each(|i| append(&mut writer, &event(i)));
    expect_numbers(&path, 0, 0..5010);
}

#[test]
fn events_larger_than_extents_stay_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    let mut writer = TraceWriter::create(&path, &TINY).unwrap();
    // Every length around an extent's payload, so that events end at, before and after each edge.
    let lengths: Vec<usize> = (3700..4100).chain([0, 40_000, 1 << 20]).collect();
    for length in &lengths {
        append(&mut writer, &Event::Start(Value::Bytes(vec![7; *length])));
    }
    writer.close();
    let expected: Vec<Event> = lengths.iter().map(|n| Event::Start(Value::Bytes(vec![7; *n]))).collect();
    assert_eq!(read(&path, 0), expected);
}

#[test]
fn extents_are_small_parts_of_a_limit() {
    let sizes = [None, Some(1 << 30), Some(32 << 20), Some((32 << 20) - 1), Some(4 << 20), Some(1 << 20), Some(0)];
    let sizes = sizes.map(|limit| Options::limited(limit).extent_size);
    assert_eq!(sizes, [1 << 20, 1 << 20, 1 << 20, 1 << 19, 1 << 17, 1 << 16, 1 << 16]);
}

#[test]
fn the_size_limit_ends_the_recording_and_says_so() {
    for limit in [20_000, 4096 + 4096 * 3, 4096 + 4096] {
        let folder = tempfile::tempdir().unwrap();
        let path = trace_in(&folder);
        let mut writer = TraceWriter::create(&path, &Options { max_bytes: Some(limit), ..TINY }).unwrap();
        (0..20_000).for_each(|i| append(&mut writer, &event(i)));
        let reason = writer.stopped().unwrap();
        assert!(reason.contains(&limit.to_string()), "{reason}");
        writer.close();
        assert!(fs::metadata(&path).unwrap().len() <= limit);
        let mut events = read(&path, 0);
        assert_eq!(events.pop(), Some(Event::Stopped(Str::from(reason.as_str()))));
        assert!(!events.is_empty());
        assert_eq!(events, (0..events.len() as u64).map(event).collect::<Vec<_>>());
    }
}

#[test]
fn an_event_that_does_not_fit_the_limit_is_left_out_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    let mut writer = TraceWriter::create(&path, &Options { max_bytes: Some(30_000), ..TINY }).unwrap();
    (0..10).for_each(|i| append(&mut writer, &event(i)));
    append(&mut writer, &Event::Start(Value::Bytes(vec![1; 100_000])));
    append(&mut writer, &event(99));
    writer.close();
    let events = read(&path, 0);
    assert_eq!(events.len(), 11);
    assert!(matches!(events[10], Event::Stopped(_)));
}

#[test]
fn the_process_s_file_size_limit_does_not_kill_it() {
    match in_child("the_process_s_file_size_limit_does_not_kill_it") {
        Role::Child(path) => {
            let limit = libc::rlimit { rlim_cur: 50_000, rlim_max: 50_000 };
            // SAFETY: `limit` is valid. The default action of SIGXFSZ, which Python ignores, is to kill.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
            let mut writer = TraceWriter::create(&path, &TINY).unwrap();
            (0..20_000).for_each(|i| append(&mut writer, &event(i)));
            assert!(writer.stopped().is_some());
            writer.close();
        }
        Role::Parent { folder, status } => {
            assert!(status.success(), "{status}");
            assert!(matches!(read(&trace_in(&folder), 0).pop(), Some(Event::Stopped(_))));
        }
    }
}

#[test]
fn sources_are_stored_once_and_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    let mut writer = TraceWriter::create(&path, &TINY).unwrap();
    let file = folder.path().join("módule.py");
    fs::write(&file, "print('hello')\n".repeat(1000)).unwrap();
    writer.add_source(file.to_str().unwrap().as_bytes());
    writer.add_source_bytes(b"<string>", b"x = 1\n".to_vec());
    writer.add_source_bytes(b"<again>", b"x = 1\n".to_vec());
    writer.add_source_bytes(b"<empty>", Vec::new());
    // Random bytes do not compress: this one spans extents.
    let noise: Vec<u8> = (0..20_000u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    writer.add_source_bytes(b"<noise>", noise.clone());
    writer.add_source(b"/nonexistent/module.py");
    writer.add_source(b"/dev/zero");
    append(&mut writer, &event(0));
    writer.close();
    let trace = Trace::open(&path).unwrap();
    let sources: Vec<(String, Vec<u8>)> = trace
        .sources(0)
        .unwrap()
        .map(|source| source.unwrap())
        .map(|source| (source.path.to_string_lossy(), source.contents().unwrap()))
        .collect();
    let expected = [
        (file.to_str().unwrap().to_owned(), "print('hello')\n".repeat(1000).into_bytes()),
        ("<string>".to_owned(), b"x = 1\n".to_vec()),
        ("<again>".to_owned(), b"x = 1\n".to_vec()),
        ("<empty>".to_owned(), Vec::new()),
        ("<noise>".to_owned(), noise),
    ];
    assert_eq!(sources, expected);
    expect_numbers(&path, 0, 0..1);
}

#[test]
fn a_sudden_death_loses_nothing_that_was_committed() {
    match in_child("a_sudden_death_loses_nothing_that_was_committed") {
        Role::Child(path) => {
            let mut writer = TraceWriter::create(&path, &TINY).unwrap();
            for i in 0.. {
                append(&mut writer, &event(i));
                append(&mut writer, &Event::Start(Value::Bytes(vec![1; (i % 97 * 100) as usize])));
                if i == 3000 {
                    // SAFETY: kills this process, which is the point.
                    unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
                }
            }
        }
        Role::Parent { folder, status } => {
            assert_eq!(status.signal(), Some(libc::SIGKILL));
            let events = read(&trace_in(&folder), 0);
            assert_eq!(events.len(), 2 * 3001);
            for (i, pair) in events.chunks(2).enumerate() {
                assert_eq!(pair[0], event(i as u64));
                assert_eq!(pair[1], Event::Start(Value::Bytes(vec![1; i % 97 * 100])));
            }
        }
    }
}

#[test]
fn death_at_any_moment_leaves_a_whole_number_of_events() {
    // Killed from outside, in the middle of whatever it does. The trace is watched until it has grown, so no sleep.
    let name = "death_at_any_moment_leaves_a_whole_number_of_events";
    if let Some(path) = std::env::var_os("RETRACE_TEST_CHILD") {
        let mut writer = TraceWriter::create(path.as_ref(), &TINY).unwrap();
        for i in 0.. {
            append(&mut writer, &Event::Start(Value::Bytes(vec![1; (i % 97 * 100) as usize])));
        }
    }
    for extents in [5, 50, 200] {
        let folder = tempfile::tempdir().unwrap();
        let path = trace_in(&folder);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env("RETRACE_TEST_CHILD", &path)
            .spawn()
            .unwrap();
        while fs::metadata(&path).map_or(0, |metadata| metadata.len()) < 4096 * extents {
            assert!(child.try_wait().unwrap().is_none());
            std::thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let events = read(&path, 0);
        assert!(!events.is_empty());
        for (i, event) in events.iter().enumerate() {
            assert_eq!(*event, Event::Start(Value::Bytes(vec![1; i % 97 * 100])));
        }
    }
}

/// Forks; the child runs `body` and exits with 0.
fn fork(body: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child only runs `body` and leaves without unwinding into the test harness.
    match unsafe { libc::fork() } {
        0 => {
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: as above.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        pid => pid,
    }
}

fn wait_for(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` is writable.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
    assert_eq!(status, 0);
}

#[cfg(target_os = "linux")]
fn threads() -> usize {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    stat.rsplit(')').next().unwrap().split_whitespace().nth(17).unwrap().parse().unwrap()
}

#[test]
fn forked_processes_write_streams_of_their_own() {
    match in_child("forked_processes_write_streams_of_their_own") {
        Role::Child(path) => {
            let mut writer = TraceWriter::create(&path, &TINY).unwrap();
            (0..1000).for_each(|i| append(&mut writer, &event(i)));
            let mut children = Vec::new();
            for c in 1..=4u64 {
                #[cfg(target_os = "linux")]
                let before = threads();
                writer.before_fork();
                #[cfg(target_os = "linux")]
                assert_eq!(threads(), before - 1, "the helper is still counted");
                let closes = c % 2 == 0;
                children.push(fork(|| {
                    writer.after_fork_child(true).unwrap();
                    assert!(writer.process() > 0);
                    (0..3000).for_each(|i| append(&mut writer, &event(writer_number(c, i))));
                    writer.add_source_bytes(format!("child {c}").as_bytes(), vec![b'c'; 100]);
                    if closes {
                        writer.close();
                    }
                }));
                writer.after_fork_parent();
                (0..1000).for_each(|i| append(&mut writer, &event(c * 1000 + i)));
            }
            children.into_iter().for_each(wait_for);
            assert!(TraceWriter::is_being_recorded(&path));
            writer.close();
            assert!(!TraceWriter::is_being_recorded(&path));
        }
        Role::Parent { folder, status } => {
            assert!(status.success(), "{status}");
            let path = trace_in(&folder);
            expect_numbers(&path, 0, 0..5000);
            let trace = Trace::open(&path).unwrap();
            assert_eq!(trace.processes().len(), 5);
            // Which child got which index is a race.
            let mut firsts = Vec::new();
            for process in 1..=4 {
                let events = read(&path, process);
                let Event::Call(Call { outcome: Outcome::Value(Value::Int(first)), .. }) = events[0] else { panic!() };
                firsts.push(first);
                let c = first as u64 / 10_000;
                assert_eq!(events, (0..3000).map(|i| event(writer_number(c, i))).collect::<Vec<_>>());
            }
            firsts.sort_unstable();
            assert_eq!(firsts, [10_000, 20_000, 30_000, 40_000]);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_kernel_no_longer_counts_the_helper_when_a_fork_is_due() {
    match in_child("the_kernel_no_longer_counts_the_helper_when_a_fork_is_due") {
        Role::Child(path) => {
            let alone = threads();
            let mut writer = TraceWriter::create(&path, &TINY).unwrap();
            for i in 0..2000 {
                assert_eq!(threads(), alone + 1);
                writer.before_fork();
                assert_eq!(threads(), alone);
                append(&mut writer, &event(i));
                writer.after_fork_parent();
            }
            writer.close();
        }
        Role::Parent { folder, status } => {
            assert!(status.success(), "{status}");
            expect_numbers(&trace_in(&folder), 0, 0..2000);
        }
    }
}

#[test]
fn processes_that_come_and_go_do_not_cut_each_other_s_extents() {
    match in_child("processes_that_come_and_go_do_not_cut_each_other_s_extents") {
        Role::Child(path) => {
            TraceWriter::create(&path, &TINY).unwrap().close();
            // A cut extent would be SIGBUS, a wrong count a missing stream.
            let come_and_go = || {
                for _ in 0..100 {
                    let mut writer = TraceWriter::join(&path).unwrap();
                    (0..400).for_each(|i| append(&mut writer, &event(i)));
                    writer.close();
                }
            };
            let children: Vec<_> = (0..4).map(|_| fork(come_and_go)).collect();
            children.into_iter().for_each(wait_for);
        }
        Role::Parent { folder, status } => {
            assert!(status.success(), "{status}");
            let path = trace_in(&folder);
            let trace = Trace::open(&path).unwrap();
            assert_eq!(trace.processes().len(), 401);
            (1..=400).for_each(|process| expect_numbers(&path, process, 0..400));
        }
    }
}

fn writer_number(child: u64, i: u64) -> u64 {
    child * 10_000 + i
}

#[test]
fn a_fork_nobody_announced_leaves_the_parent_s_stream_alone() {
    match in_child("a_fork_nobody_announced_leaves_the_parent_s_stream_alone") {
        Role::Child(path) => {
            let mut writer = TraceWriter::create(&path, &TINY).unwrap();
            (0..500).for_each(|i| append(&mut writer, &event(i)));
            // One that learns of it late, and one that never does.
            let late = fork(|| {
                (0..2000).for_each(|_| append(&mut writer, &event(99)));
                writer.after_fork_child(true).unwrap();
                (0..2000).for_each(|i| append(&mut writer, &event(i)));
                writer.close();
            });
            wait_for(late);
            expect_numbers(&path, 0, 0..500);
            let never = fork(|| {
                (0..2000).for_each(|_| append(&mut writer, &event(99)));
                writer.add_source_bytes(b"child", vec![1]);
                writer.before_fork();
                writer.after_fork_parent();
                writer.stop("the child's business");
                writer.close();
            });
            wait_for(never);
            expect_numbers(&path, 0, 0..500);
            (500..1500).for_each(|i| append(&mut writer, &event(i)));
            writer.close();
        }
        Role::Parent { folder, status } => {
            assert!(status.success(), "{status}");
            expect_numbers(&trace_in(&folder), 0, 0..1500);
            expect_numbers(&trace_in(&folder), 1, 0..2000);
            assert_eq!(Trace::open(trace_in(&folder)).unwrap().processes().len(), 2);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_helper_takes_no_descriptor_that_the_program_could_get() {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    match in_child("the_helper_takes_no_descriptor_that_the_program_could_get") {
        Role::Child(path) => {
            let open = || fs::File::open("/dev/null").unwrap().as_raw_fd();
            let lowest = open();
            let (mut reader, pipe) = std::io::pipe().unwrap();
            let mut writer = TraceWriter::create(&path, &TINY).unwrap();
            // The helper's table began as a copy of ours: it must not keep the pipe open.
            drop(pipe);
            assert_eq!(reader.read(&mut [0]).unwrap(), 0);
            drop(reader);
            let file = path.with_extension("py");
            fs::write(&file, "x = 1\n".repeat(1000)).unwrap();
            // Long enough for the helper to read files meanwhile.
            for i in 0..50_000 {
                if i < 2000 {
                    writer.add_source(file.to_str().unwrap().as_bytes());
                }
                assert_eq!(open(), lowest);
            }
            writer.close();
        }
        Role::Parent { folder, status } => {
            assert!(status.success(), "{status}");
            let sources = Trace::open(trace_in(&folder)).unwrap().sources(0).unwrap();
            assert_eq!(sources.count(), 2000);
        }
    }
}

#[test]
fn another_process_joins() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    assert!(!TraceWriter::is_being_recorded(&path));
    let mut one = TraceWriter::create(&path, &TINY).unwrap();
    assert!(TraceWriter::is_being_recorded(&path));
    let mut two = TraceWriter::join(&path).unwrap();
    assert_eq!(two.process(), 1);
    for i in 0..1000 {
        append(&mut one, &event(i));
        append(&mut two, &event(i));
    }
    one.close();
    assert!(TraceWriter::is_being_recorded(&path));
    // The first one could not cut the file, or this would be SIGBUS.
    (1000..2000).for_each(|i| append(&mut two, &event(i)));
    two.close();
    assert!(!TraceWriter::is_being_recorded(&path));
    expect_numbers(&path, 0, 0..1000);
    expect_numbers(&path, 1, 0..2000);
}

#[test]
fn a_recording_in_use_is_not_overwritten_and_an_old_one_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    let mut writer = TraceWriter::create(&path, &TINY).unwrap();
    append(&mut writer, &event(1));
    assert!(matches!(TraceWriter::create(&path, &TINY), Err(WriteError::Busy { .. })));
    writer.close();
    let mut writer = TraceWriter::create(&path, &TINY).unwrap();
    append(&mut writer, &event(2));
    writer.close();
    expect_numbers(&path, 0, 2..3);
}

#[test]
fn paths_that_cannot_be_written_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let create = |path: &Path, options: &Options| TraceWriter::create(path, options).err().unwrap();
    assert!(matches!(create(folder.path(), &TINY), WriteError::NotAFile { .. }));
    assert!(matches!(create(Path::new("/dev/null"), &TINY), WriteError::NotAFile { .. }));
    assert!(matches!(create(&folder.path().join("no/such/folder"), &TINY), WriteError::Create { .. }));
    let path = trace_in(&folder);
    assert!(matches!(create(&path, &Options { extent_size: 5000, ..TINY }), WriteError::ExtentSize { .. }));
    assert!(matches!(create(&path, &Options { max_bytes: Some(5000), ..TINY }), WriteError::SizeLimit { .. }));
    fs::write(&path, "something else").unwrap();
    assert!(matches!(TraceWriter::join(&path), Err(WriteError::NotATrace { .. })));
}

fn set_errno(value: i32) {
    #[cfg(target_os = "linux")]
    // SAFETY: errno is this thread's.
    unsafe {
        *libc::__errno_location() = value
    };
    #[cfg(target_os = "macos")]
    // SAFETY: errno is this thread's.
    unsafe {
        *libc::__error() = value
    };
}

#[test]
fn the_program_may_close_our_descriptor() {
    match in_child("the_program_may_close_our_descriptor") {
        Role::Child(path) => {
            let mut writer = TraceWriter::create(&path, &TINY).unwrap();
            (0..500).for_each(|i| append(&mut writer, &event(i)));
            for fd in 3..2000 {
                // SAFETY: what a daemon does; this process has nothing else open that it needs.
                unsafe { libc::close(fd) };
            }
            for i in 500..5000 {
                set_errno(4711);
                append(&mut writer, &event(i));
                // Looking at the closed descriptor failed; the program does not see that.
                assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(4711));
            }
            assert_eq!(writer.stopped(), None);
            writer.close();
        }
        Role::Parent { folder, status } => {
            assert!(status.success(), "{status}");
            expect_numbers(&trace_in(&folder), 0, 0..5000);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_sees_no_descriptor_of_ours() {
    let folder = tempfile::tempdir().unwrap();
    let path = trace_in(&folder);
    let writer = TraceWriter::create(&path, &TINY).unwrap();
    let is_ours = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|target| target == path);
    assert_eq!(fs::read_dir("/proc/self/fd").unwrap().flatten().filter(is_ours).count(), 0);
    assert!(TraceWriter::is_being_recorded(&path));
    drop(writer);
}
