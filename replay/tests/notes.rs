//! What a stream says once and refers to: strings, arguments, threads.

use proptest::prelude::*;
use retrace_replay::byte_source::{DecodeError, SliceSource};
use retrace_replay::event::{ARGUMENTS_BIT, Call, Event, Fingerprint, Outcome, Position, form};
use retrace_replay::notes::{MAX_NOTES, NOTED, put_note};
use retrace_replay::turns::Turns;
use retrace_replay::value::{Notes, Str, put_again, put_varint, tag};
use retrace_replay::{EventStream, Options, Trace, TraceError, TraceWriter, Value};

/// A stream of these items, read from a trace with extents of the smallest size.
fn stream(items: &[Vec<u8>]) -> EventStream {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.retrace");
    let mut writer = TraceWriter::create(&path, &Options { extent_size: 4096, ..Options::default() }).unwrap();
    items.iter().for_each(|item| writer.append(&[item]));
    writer.close();
    Trace::open(&path).unwrap().events(0).unwrap()
}

fn note(strings: &[&str], arguments: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_note(&mut bytes, strings, arguments);
    bytes
}

fn encoded(event: &Event) -> Vec<u8> {
    let mut bytes = Vec::new();
    event.encode(&mut bytes);
    bytes
}

/// A call of hook 7 that returned None, with the noted arguments of that number.
fn call_of(number: u64) -> Vec<u8> {
    let mut bytes = (7 | ARGUMENTS_BIT | form::NONE << form::SHIFT).to_le_bytes().to_vec();
    bytes.extend([5, 0, NOTED]);
    put_varint(&mut bytes, number);
    bytes
}

fn section(values: &[Value]) -> Vec<u8> {
    let mut bytes = vec![values.len() as u8];
    values.iter().for_each(|value| value.encode(&mut bytes));
    bytes
}

/// The error that reading these items ends with.
fn error(items: &[Vec<u8>]) -> DecodeError {
    let mut stream = stream(items);
    loop {
        match stream.next_event() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("there is no error"),
            Err(TraceError::Malformed { source, .. }) => return source,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn notes_are_resolved_and_are_no_events() {
    let names: Vec<String> = (0..40).map(|i| format!("name {i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut last = vec![2];
    put_again(&mut last, 39);
    last.push(tag::NONE);
    let mut stopped = vec![0x06, 0x0f];
    put_again(&mut stopped, 3);
    let items = [
        note(&names[..1], &[]),
        encoded(&Event::End { status: 1, unrecorded: Vec::new() }),
        note(&names[1..], &[&section(&[Value::Int(500)])]),
        note(&[], &[&last]),
        call_of(1),
        call_of(0),
        stopped,
        note(&["behind"], &[]),
    ];
    let mut stream = stream(&items);
    let mut next = || stream.next_event().unwrap();
    assert_eq!(
        next().map(|(index, event)| (index.0, event)),
        Some((0, Event::End { status: 1, unrecorded: Vec::new() }))
    );
    let (index, Event::Call(call)) = next().unwrap() else { panic!() };
    let arguments = call.arguments.unwrap();
    assert_eq!((index.0, call.hook, call.at, arguments.len()), (1, 7, 5, 2));
    assert_eq!((arguments[0].to_string().as_str(), &arguments[1]), ("'name 39'", &Value::None));
    let (index, Event::Call(call)) = next().unwrap() else { panic!() };
    assert_eq!((index.0, call.arguments.unwrap()), (2, vec![Value::Int(500)]));
    let (index, Event::Stopped(reason)) = next().unwrap() else { panic!() };
    assert_eq!((index.0, reason.to_string_lossy().as_str()), (3, "name 3"));
    assert_eq!(next(), None);
    assert_eq!(stream.notes().index_of("name 17"), Some(17));
    assert_eq!(stream.notes().index_of("behind"), Some(40));
    assert_eq!(stream.notes().index_of("name"), None);
    let written: usize = items.iter().map(Vec::len).sum();
    assert_eq!(stream.position(), written as u64);
    assert_eq!(stream.noted() as usize, [0, 2, 3, 7].map(|i| items[i].len()).iter().sum::<usize>());
}

#[test]
fn a_clone_goes_on_with_what_was_noted() {
    let items = [
        note(&["one"], &[]),
        encoded(&Event::Busy { tries: 1 }),
        note(&["two"], &[]),
        encoded(&Event::Busy { tries: 2 }),
    ];
    let mut one = stream(&items);
    let mut other = one.clone();
    other.next_event().unwrap();
    assert_eq!((one.notes().index_of("two"), other.notes().index_of("two")), (None, Some(1)));
    one.next_event().unwrap();
    one.next_event().unwrap();
    assert_eq!(one.notes().index_of("two"), Some(1));
}

#[test]
fn the_same_arguments_are_passed_in_place_or_as_a_note() {
    let (same, other) = (section(&[Value::Int(500), Value::None]), section(&[Value::Int(501), Value::None]));
    let mut in_place = vec![7, 0, 5, 0];
    in_place.extend(&same);
    for call in [call_of(0), in_place] {
        let mut stream = stream(&[note(&[], &[&same]), call]);
        stream.skip(4).unwrap();
        let before = stream.position();
        for wrong in [&other[..], &[0], &[]] {
            assert!(!stream.passes(wrong));
            assert_eq!(stream.position(), before);
        }
        assert!(stream.passes(&same));
        assert!(stream.at_end());
    }
}

#[test]
fn damaged_notes_are_errors() {
    let busy = encoded(&Event::Busy { tries: 9 });
    let head = |rest: &[u8]| [&[0x15, 0x0f], rest].concat();
    // A string that refers to another one, and something else than a string.
    assert_eq!(error(&[head(&[1, tag::SHORT_AGAIN, 0])]), DecodeError::UnknownNote(0));
    assert_eq!(error(&[busy.clone(), head(&[1, tag::NONE, 0])]), DecodeError::NotAString(tag::NONE));
    // Numbers that were never given out.
    assert_eq!(error(&[call_of(0)]), DecodeError::UnknownNote(0));
    assert_eq!(error(&[note(&[], &[b"\x01\x01"]), call_of(1)]), DecodeError::UnknownNote(1));
    assert_eq!(error(&[note(&[], &[b"\x01\x01"]), call_of(u64::MAX)]), DecodeError::UnknownNote(u64::MAX));
    // Arguments that end early, or refer to arguments.
    assert_eq!(error(&[note(&[], &[b""]), call_of(0)]), DecodeError::UnexpectedEnd);
    assert_eq!(error(&[note(&[], &[b"\x02\x01"]), call_of(0)]), DecodeError::UnexpectedEnd);
    assert_eq!(error(&[note(&[], &[&[NOTED, 0]]), call_of(0)]), DecodeError::UnknownNote(NOTED.into()));
    // More than there are bytes, and more than there may be.
    assert_eq!(error(&[head(&[0xff, 0xff, 0x03])]), DecodeError::UnexpectedEnd);
    assert_eq!(error(&[busy, head(&[0, 0xff, 0xff, 0x03])]), DecodeError::UnexpectedEnd);
    let one = || note(&["x"], &[b"\0"]);
    let mut many: Vec<Vec<u8>> = (0..MAX_NOTES).map(|_| one()).collect();
    many.push(encoded(&Event::End { status: 0, unrecorded: Vec::new() }));
    assert_eq!(stream(&many).next_event().unwrap().unwrap().1, Event::End { status: 0, unrecorded: Vec::new() });
    many.insert(0, one());
    assert_eq!(error(&many), DecodeError::TooManyNotes);
}

#[test]
fn a_torn_note_of_an_open_extent_is_cut() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.retrace");
    let mut writer = TraceWriter::create(&path, &Options { extent_size: 4096, ..Options::default() }).unwrap();
    let (end, note) = (encoded(&Event::End { status: 0, unrecorded: Vec::new() }), note(&["a name"], &[b"\x01\x01"]));
    writer.append(&[&end]);
    writer.append(&[&note]);
    std::mem::forget(writer);
    let mut bytes = std::fs::read(&path).unwrap();
    for left in 0..=note.len() {
        let committed = 4096 + retrace_replay::layout::COMMITTED;
        bytes[committed..committed + 8].copy_from_slice(&((end.len() + left) as u64).to_le_bytes());
        let mut stream = Trace::from_bytes("x.retrace", &bytes).unwrap().events(0).unwrap();
        assert!(stream.next_event().unwrap().is_some());
        // One byte of a head may be of any event.
        assert!(stream.at_end() || left == 1);
        assert_eq!(stream.next_event().unwrap(), None);
    }
}

fn position() -> impl Strategy<Value = Position> {
    let fingerprint = any::<[u64; 5]>().prop_map(|[place, shallow, deep, near, cpu_us]| {
        Position::Check(Fingerprint { place, shallow, deep, near, cpu_us })
    });
    prop_oneof![3 => (0u64..4).prop_map(Position::Released), 3 => Just(Position::InCall), 1 => fingerprint]
}

fn turn() -> impl Strategy<Value = Event> {
    let serial = || prop_oneof![8 => 0u64..5, 1 => any::<u64>()];
    prop_oneof![
        (serial(), position()).prop_map(|(thread, from)| Event::Switch { thread, from }),
        (serial(), any::<u64>(), 0u8..3, prop_oneof![4 => Just(0), 1 => any::<i32>()])
            .prop_map(|(serial, ident, kind, error)| Event::Thread { serial, ident, kind, error }),
        (0u64..20).prop_map(|tries| Event::Busy { tries }),
        any::<i32>().prop_map(|status| Event::End { status, unrecorded: Vec::new() }),
    ]
}

proptest! {
    /// In the general forms and in the short ones.
    #[test]
    fn turns_round_trip(events in proptest::collection::vec(turn(), 1..40)) {
        let (mut turns, mut bytes, mut general) = (Turns::new(), Vec::new(), Vec::new());
        for event in &events {
            turns.encode(event, &mut bytes);
            event.encode(&mut general);
        }
        for bytes in [bytes, general] {
            let (mut source, mut notes) = (SliceSource::new(&bytes), Notes::default());
            for event in &events {
                prop_assert_eq!(Event::decode(&mut source, &mut notes), Ok(event.clone()));
            }
            prop_assert!(source.rest().is_empty());
        }
    }

    #[test]
    fn random_turns_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300), codes in any::<[u8; 32]>()) {
        // Heads of the schedule between noise.
        let mut bytes = bytes;
        for (i, code) in codes.into_iter().enumerate() {
            let at = (i * 9).min(bytes.len());
            bytes.splice(at..at, [7 + code % 6, 0x0f | code & 0xf0]);
        }
        let (mut source, mut notes) = (SliceSource::new(&bytes), Notes::default());
        while Event::decode(&mut source, &mut notes).is_ok() {}
    }

    #[test]
    fn random_notes_never_panic(noise in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..60)), 0..60)) {
        let items: Vec<Vec<u8>> = noise
            .into_iter()
            .map(|(is_note, bytes)| if is_note { [vec![0x15, 0x0f], bytes].concat() } else { bytes })
            .collect();
        let mut stream = stream(&items);
        while let Ok(Some(_)) = stream.next_event() {}
    }
}

#[test]
fn threads_by_age_take_three_bytes() {
    let mut turns = Turns::new();
    let mut size = |event| {
        let mut bytes = Vec::new();
        turns.encode(&event, &mut bytes);
        bytes.len()
    };
    for serial in 1..=100_000 {
        let ident = 0x7f00_0000_0000 + (serial % 2) * 0x80_1000;
        let size = size(Event::Thread { serial, ident, kind: 0, error: 0 });
        assert!(size <= if serial == 1 { 9 } else { 6 });
    }
    assert_eq!(size(Event::Switch { thread: 100_000, from: Position::InCall }), 3);
    assert_eq!(size(Event::Switch { thread: 99_990, from: Position::Released(1) }), 3);
    // Back to the one before.
    assert_eq!(size(Event::Switch { thread: 100_000, from: Position::InCall }), 2);
    assert_eq!(size(Event::Switch { thread: 0, from: Position::Released(2) }), 4);
    assert_eq!(size(Event::Busy { tries: 7 }), 2);
}

#[test]
fn calls_with_arguments_have_at_most_254() {
    let arguments = Some(vec![Value::None; 300]);
    let call = Event::Call(Call { hook: 1, at: 2, arguments, outcome: Outcome::None });
    let bytes = encoded(&call);
    let read = Event::decode(&mut SliceSource::new(&bytes), &mut Notes::default()).unwrap();
    let Event::Call(Call { arguments: Some(arguments), .. }) = read else { panic!() };
    assert_eq!(arguments.len(), 254);
    assert!(matches!(Str::from("x"), Str::Plain(_)));
}
