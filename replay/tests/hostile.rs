//! Traces that were cut, damaged or made up: an error or fewer events, never a panic, never unbounded memory.

use std::fs;

use proptest::prelude::*;
use retrace_replay::event::{Event, Position};
use retrace_replay::notes::{NOTED, put_note};
use retrace_replay::turns::Turns;
use retrace_replay::value::{Str, Value};
use retrace_replay::{Options, Trace, TraceError, TraceWriter, layout};

/// A trace of a few tiny extents, two processes and some sources.
fn sample() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.retrace");
    let mut one = TraceWriter::create(&path, &Options { extent_size: 4096, ..Options::default() }).unwrap();
    let mut two = TraceWriter::join(&path).unwrap();
    for i in 0..400 {
        for writer in [&mut one, &mut two] {
            let mut bytes = Vec::new();
            Event::Start(Value::Tuple(vec![Value::Int(i), Value::from("text"), Value::Bytes(vec![1; 10])]))
                .encode(&mut bytes);
            writer.append(&[&bytes]);
        }
    }
    let mut turns = Turns::new();
    for serial in 1..40 {
        let mut bytes = Vec::new();
        put_note(&mut bytes, &[&format!("name {serial}")], &[&[1, 0x80 + serial as u8]]);
        turns.encode(&Event::Thread { serial, ident: serial << 30, kind: 0, error: 0 }, &mut bytes);
        turns.encode(&Event::Switch { thread: serial, from: Position::Released(serial % 3) }, &mut bytes);
        bytes.extend([7, 0x90, 0, 0, NOTED, serial as u8 - 1]);
        turns.encode(&Event::Switch { thread: 0, from: Position::InCall }, &mut bytes);
        two.append(&[&bytes]);
    }
    let mut large = Vec::new();
    Event::Stopped(Str::from("x".repeat(9000).as_str())).encode(&mut large);
    one.append(&[&large]);
    one.add_source_bytes(b"a.py", b"x = 1\n".repeat(500));
    one.add_source_bytes(b"b.py", b"x = 1\n".repeat(500));
    one.close();
    two.close();
    fs::read(&path).unwrap()
}

/// Reads all there is. Returns how many events.
fn read_bytes(bytes: &[u8]) -> Result<u64, TraceError> {
    let trace = Trace::from_bytes("x.retrace", bytes)?;
    let mut count = 0;
    for process in trace.processes() {
        let mut stream = trace.events(process.index)?;
        while stream.next_event()?.is_some() {
            count += 1;
        }
        for source in trace.sources(process.index)? {
            source?.contents()?;
        }
    }
    Ok(count)
}

#[test]
fn the_sample_is_whole() {
    assert_eq!(read_bytes(&sample()).unwrap(), 801 + 39 * 4);
}

#[test]
fn what_is_no_trace_is_refused_by_name() {
    assert!(matches!(read_bytes(b""), Err(TraceError::NotATrace { .. } | TraceError::Open { .. })));
    assert!(matches!(read_bytes(b"#!/usr/bin/env python\n"), Err(TraceError::NotATrace { .. })));
    assert!(matches!(read_bytes(&sample()[..11]), Err(TraceError::CutShort { .. })));
    assert!(matches!(read_bytes(&sample()[..2000]), Err(TraceError::CutShort { .. })));
    assert!(matches!(Trace::open("/nonexistent"), Err(TraceError::Open { .. })));
    assert!(matches!(Trace::open("/tmp"), Err(TraceError::Open { .. })));
    let mut newer = sample();
    newer[layout::VERSION] = layout::FORMAT_VERSION as u8 + 1;
    let error = read_bytes(&newer).unwrap_err();
    assert!(error.to_string().contains(&format!("format {}", layout::FORMAT_VERSION + 1)), "{error}");
    let mut sizes = sample();
    sizes[layout::EXTENT_SIZE] = 1;
    assert!(matches!(read_bytes(&sizes), Err(TraceError::ExtentSize { size: 4097, .. })));
}

#[test]
fn damage_in_a_sealed_extent_is_found() {
    let whole = sample();
    let payload = layout::FILE_HEADER as usize + layout::EXTENT_HEADER as usize;
    for offset in [payload, payload + 1000, 4096 + 4095] {
        let mut damaged = whole.clone();
        damaged[offset] ^= 0x10;
        assert!(matches!(read_bytes(&damaged), Err(TraceError::CorruptExtent { extent: 0, offset: 4096, .. })));
    }
}

#[test]
fn a_trace_cut_at_a_whole_extent_gives_the_events_before() {
    let whole = sample();
    let mut last = 0;
    for extents in 0..(whole.len() as u64 - layout::FILE_HEADER) / 4096 {
        let length = (layout::FILE_HEADER + extents * 4096) as usize;
        match read_bytes(&whole[..length]) {
            Ok(count) => {
                assert!(count >= last);
                last = count;
            }
            // All extents are sealed, so an event that runs into the missing part is damage.
            Err(TraceError::Malformed { .. } | TraceError::MalformedSource { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(last > 0);
}

#[test]
fn a_torn_tail_of_an_open_extent_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.retrace");
    let mut writer = TraceWriter::create(&path, &Options { extent_size: 4096, ..Options::default() }).unwrap();
    let mut event = Vec::new();
    Event::Start(Value::Bytes(vec![1; 50])).encode(&mut event);
    writer.append(&[&event]);
    writer.append(&[&event]);
    std::mem::forget(writer);
    let mut bytes = fs::read(&path).unwrap();
    for lost in 1..event.len() as u64 {
        let committed = 4096 + layout::COMMITTED;
        bytes[committed..committed + 8].copy_from_slice(&(2 * event.len() as u64 - lost).to_le_bytes());
        assert_eq!(read_bytes(&bytes).unwrap(), 1);
    }
}

#[test]
fn a_source_that_claims_to_be_huge_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.retrace");
    let writer = TraceWriter::create(&path, &Options { extent_size: 4096, ..Options::default() }).unwrap();
    drop(writer);
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(4096);
    let mut extent = vec![0u8; 64];
    extent[..4].copy_from_slice(b"EXTN");
    extent[layout::STREAM] = 1;
    let mut item = vec![layout::SOURCE_ITEM];
    retrace_replay::value::put_str(&mut item, "bomb.py");
    item.extend([0; 8]);
    retrace_replay::value::put_varint(&mut item, u64::MAX >> 1);
    item.extend([3, 1, 2, 3]);
    extent[layout::COMMITTED] = item.len() as u8;
    bytes[layout::EXTENTS_CLAIMED] = 1;
    bytes.extend(extent);
    bytes.extend(item);
    let error = read_bytes(&bytes).unwrap_err();
    assert!(matches!(error, TraceError::MalformedSource { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bits_never_panic(flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..6)) {
        let mut bytes = SAMPLE.with(Clone::clone);
        for (index, bit) in flips {
            let index = index.index(bytes.len());
            bytes[index] ^= 1 << bit;
        }
        let _ = read_bytes(&bytes);
    }

    /// As above, but unsealed, so that the decoders see the damage and not the checksum.
    #[test]
    fn flipped_bits_of_open_extents_never_panic(
        flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)
    ) {
        let mut bytes = SAMPLE.with(Clone::clone);
        for extent in bytes[4096..].chunks_mut(4096) {
            extent[layout::SEALED] = 0;
        }
        for (index, byte) in flips {
            let index = 4096 + index.index(bytes.len() - 4096);
            bytes[index] = byte;
        }
        let _ = read_bytes(&bytes);
    }

    #[test]
    fn random_extents_never_panic(noise in proptest::collection::vec(any::<u8>(), 0..8000)) {
        let mut bytes = SAMPLE.with(|bytes| bytes[..4096].to_vec());
        for payload in noise.chunks(4032) {
            let mut header = vec![0u8; 64];
            header[..4].copy_from_slice(b"EXTN");
            header[layout::SEQUENCE] = ((bytes.len() - 4096) / 4096) as u8;
            header[layout::COMMITTED..][..8].copy_from_slice(&(payload.len() as u64).to_le_bytes());
            bytes.extend(header);
            bytes.extend(payload);
        }
        let _ = read_bytes(&bytes);
    }
}

thread_local! {
    static SAMPLE: Vec<u8> = sample();
}
