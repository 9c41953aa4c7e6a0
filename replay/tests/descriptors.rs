//! The program's table of descriptors: the trace is not in it while the helper has nothing to do.

use std::path::Path;
use std::time::{Duration, Instant};

use retrace_replay::{Options, TraceWriter};

fn descriptors_of(path: &Path) -> usize {
    let links =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link == path).count()
}

fn await_hidden(writer: &mut TraceWriter, path: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while descriptors_of(path) > 0 {
        assert!(Instant::now() < deadline, "the program sees the trace");
        writer.look();
        std::thread::yield_now();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_program_does_not_see_the_trace() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().canonicalize().unwrap().join("t.retrace");
    let options = Options { extent_size: 1 << 20, max_bytes: None, python: 0x030b, recording_id: None };
    let mut writer = TraceWriter::create(&path, &options).unwrap();
    await_hidden(&mut writer, &path);
    for _ in 0..8000 {
        writer.append(&[&[0x5a; 512]]);
    }
    writer.add_source_bytes(b"/a.py", vec![b'#'; 100_000]);
    await_hidden(&mut writer, &path);

    // A fork stops the helper.
    writer.before_fork();
    assert_eq!(descriptors_of(&path), 1, "a child has to reach the trace");
    writer.after_fork_parent();
    await_hidden(&mut writer, &path);

    // A process that may not be able to open the trace again keeps it.
    writer.keep_open();
    writer.add_source_bytes(b"/b.py", vec![b'#'; 1000]);
    writer.look();
    assert_eq!(descriptors_of(&path), 1);
    writer.close();
    assert_eq!(descriptors_of(&path), 0);
}
