//! Reads everything in a made-up trace. The input is the extents' payloads; the headers around them are made valid, so
//! that the fuzzer spends its time on what is inside.
#![no_main]

use libfuzzer_sys::fuzz_target;
use retrace_replay::{Trace, layout};

const EXTENT: usize = layout::MIN_EXTENT as usize;

fn put(bytes: &mut [u8], offset: usize, field: &[u8]) {
    bytes[offset..offset + field.len()].copy_from_slice(field);
}

fuzz_target!(|input: (bool, Vec<u8>)| {
    let (sources, payload) = input;
    let mut trace = vec![0; layout::FILE_HEADER as usize];
    put(&mut trace, 0, &layout::FILE_MAGIC);
    put(&mut trace, layout::VERSION, &layout::FORMAT_VERSION.to_le_bytes());
    put(&mut trace, layout::EXTENT_SIZE, &layout::MIN_EXTENT.to_le_bytes());
    put(&mut trace, layout::EXTENTS_CLAIMED, &u64::MAX.to_le_bytes());
    for (sequence, part) in payload.chunks(EXTENT - layout::EXTENT_HEADER as usize).enumerate() {
        let mut extent = vec![0; layout::EXTENT_HEADER as usize];
        put(&mut extent, 0, &layout::EXTENT_MAGIC.to_le_bytes());
        put(&mut extent, layout::SEQUENCE, &(sequence as u32).to_le_bytes());
        put(&mut extent, layout::STREAM, &u32::from(sources).to_le_bytes());
        put(&mut extent, layout::COMMITTED, &(part.len() as u64).to_le_bytes());
        trace.extend(extent);
        trace.extend(part);
    }
    let trace = Trace::from_bytes("fuzz", &trace).expect("the headers are valid");
    for process in trace.processes() {
        let mut stream = trace.events(process.index).expect("the process was listed");
        while let Ok(Some((_, event))) = stream.next_event() {
            let mut again = Vec::new();
            event.encode(&mut again);
        }
        for source in trace.sources(process.index).expect("the process was listed").flatten() {
            let _ = source.contents();
        }
    }
});
