//! What appending costs: `cargo run --release -p retrace-replay --example append_cost [FILE]`.
//!
//! Prints nanoseconds an event for the hooks' way (cursor and commit) and for `append`, and the resident memory the
//! recorder has taken.

use std::time::Instant;

use retrace_replay::{Options, TraceWriter};

const EVENTS: u64 = 20_000_000;

#[cfg(target_os = "linux")]
fn resident_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
fn resident_kib() -> i64 {
    0
}

fn main() {
    let path = std::env::args_os().nth(1).unwrap_or_else(|| std::env::temp_dir().join("append_cost.retrace").into());
    let before = resident_kib();
    let start = Instant::now();
    let mut writer = TraceWriter::create(path.as_ref(), &Options::default()).expect("the trace can be created");
    println!("create: {:?}", start.elapsed());
    // An event of 12 bytes: head, at, float.
    let mut write = |count: u64| {
        let start = Instant::now();
        for i in 0..count {
            let cursor = writer.cursor(12);
            if cursor.is_null() {
                writer.append(&[&[0x02, 0x20, 0, 0], &i.to_le_bytes()]);
                continue;
            }
            // SAFETY: the cursor has room for 12 bytes.
            unsafe {
                cursor.cast::<u32>().write_unaligned(0x2002);
                cursor.add(4).cast::<u64>().write_unaligned(i);
                writer.cursor_mut().commit(cursor.add(12));
            }
        }
        start.elapsed().as_nanos() as f64 / count as f64
    };
    let tiny = write(5_000);
    println!("resident after 5,000 events: +{} KiB ({tiny:.2} ns an event)", resident_kib() - before);
    for _ in 0..3 {
        println!("cursor and commit: {:.2} ns an event", write(EVENTS));
    }
    // The processor alone: the same 80,000 events' worth fits the pages that are there already.
    let warm = write(1_000);
    println!("cursor and commit, warm: {warm:.2} ns an event");
    let start = Instant::now();
    for i in 0..EVENTS {
        writer.append(&[&[0x02, 0x20, 0, 0], &i.to_le_bytes()]);
    }
    println!("append: {:.2} ns an event", start.elapsed().as_nanos() as f64 / EVENTS as f64);
    println!("resident at the end: +{} KiB", resident_kib() - before);
    let start = Instant::now();
    writer.before_fork();
    let paused = start.elapsed();
    writer.after_fork_parent();
    println!("before_fork: {paused:?}, after_fork_parent: {:?}", start.elapsed() - paused);
    let start = Instant::now();
    writer.close();
    println!("close: {:?}; stopped: {:?}", start.elapsed(), writer.stopped());
    let start = Instant::now();
    let trace = retrace_replay::Trace::open(&path).expect("the trace can be read");
    println!("open: {:?} for {} MiB", start.elapsed(), trace.size() >> 20);
    let mut stream = trace.events(0).expect("there is a process");
    let start = Instant::now();
    let mut count = 0u64;
    while !stream.at_end() {
        let (Ok(_), Ok(_), Ok(_)) = (stream.read_u16(), stream.read_u16(), stream.read_f64()) else {
            break;
        };
        count += 1;
    }
    println!("read: {:.2} ns an event", start.elapsed().as_nanos() as f64 / count as f64);
    let _ = std::fs::remove_file(&path);
}
