//! What is written is what is read: values and events of every kind, across extents of the smallest size.

use proptest::prelude::*;
use retrace_replay::byte_source::{DecodeError, SliceSource};
use retrace_replay::event::{
    COLLECT_AT_CHECK, Call, Event, Fingerprint, General, Hook, HookKind, ModuleTreatment, Outcome, Position, WaitEnd,
};
use retrace_replay::text::Text;
use retrace_replay::value::{MAX_DEPTH, NewHandle, Notes, Str, Value, tag};
use retrace_replay::{Options, Trace, TraceWriter};

fn text() -> impl Strategy<Value = Text> {
    prop_oneof![
        "[ -~]{0,12}".prop_map(|s| Text::from(s.as_str())),
        "[à-ÿ]{0,6}".prop_map(|s| Text::from(s.as_str())),
        "\\PC{0,6}".prop_map(|s| Text::from(s.as_str())),
    ]
}

/// Notes that stand for themselves. Interning depends on what came before; it has tests of its own.
fn string() -> impl Strategy<Value = Str> {
    text().prop_map(Str::Plain)
}

fn float() -> impl Strategy<Value = f64> {
    // NaN is not equal to itself.
    any::<f64>().prop_filter("not a NaN", |number| !number.is_nan())
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..40)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        Just(Value::None),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<i8>().prop_map(|n| Value::Int(n.into())),
        bytes().prop_map(Value::BigInt),
        float().prop_map(Value::Float),
        (float(), float()).prop_map(|(real, imaginary)| Value::Complex(real, imaginary)),
        bytes().prop_map(Value::Bytes),
        bytes().prop_map(Value::ByteArray),
        bytes().prop_map(Value::Pickle),
        string().prop_map(Value::Str),
        (string(), string()).prop_map(|(module, name)| Value::Global { module, name }),
        string().prop_map(Value::Opaque),
        Just(Value::Receiver),
        any::<u64>().prop_map(Value::Argument),
        any::<u64>().prop_map(Value::Member),
        any::<u64>().prop_map(Value::Handle),
        (any::<u64>(), any::<u64>()).prop_map(|(call, argument)| Value::Bound { call, argument }),
        (string(), any::<u64>(), any::<u64>())
            .prop_map(|(type_name, length, hash)| { Value::Digest { type_name, length, hash } }),
        (string(), any::<u64>()).prop_map(|(type_name, length)| Value::Digest { type_name, length, hash: 0 }),
        string().prop_map(|type_name| Value::Digest { type_name, length: 0, hash: 0 }),
        any::<u64>().prop_map(Value::CallbackResult),
        Just(Value::Frame),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        let items = || proptest::collection::vec(inner.clone(), 0..5);
        let three = || (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| Box::new([a, b, c]));
        prop_oneof![
            items().prop_map(Value::Tuple),
            items().prop_map(Value::List),
            items().prop_map(Value::Set),
            items().prop_map(Value::FrozenSet),
            proptest::collection::vec((inner.clone(), inner.clone()), 0..4).prop_map(Value::Dict),
            three().prop_map(Value::Slice),
            three().prop_map(Value::Range),
            three().prop_map(Value::Exception),
            three().prop_map(Value::Path),
            inner.clone().prop_map(|class| Value::Fresh(Box::new(class))),
            (inner.clone(), items()).prop_map(|(type_, items)| Value::References { type_: Box::new(type_), items }),
            (inner.clone(), items()).prop_map(|(type_, items)| Value::Reduced { type_: Box::new(type_), items }),
            (inner.clone(), items()).prop_map(|(type_, items)| Value::StructSeq { type_: Box::new(type_), items }),
            (any::<u64>(), inner.clone(), bytes(), items(), inner.clone()).prop_map(
                |(id, type_, scalars, members, dict)| {
                    Value::NewHandle(Box::new(NewHandle { id, type_, scalars, members, dict }))
                }
            ),
            (string(), inner.clone()).prop_map(|(name, value)| Value::Keyword { name, value: Box::new(value) }),
            inner.clone().prop_map(|value| Value::Keep(Box::new(value))),
            any::<u64>().prop_map(Value::Kept),
            (inner.clone(), any::<u64>()).prop_map(|(of, index)| Value::Item { of: Box::new(of), index }),
            (inner.clone(), string()).prop_map(|(of, name)| Value::Attribute { of: Box::new(of), name }),
        ]
    })
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let general = (
        proptest::option::of(value()),
        proptest::option::of(value()),
        proptest::option::of(bytes()),
        proptest::option::of(proptest::collection::vec(value(), 0..3)),
        proptest::option::of(value()),
        proptest::option::of(proptest::collection::vec(bytes(), 0..3)),
        proptest::option::of(value()),
    );
    prop_oneof![
        Just(Outcome::None),
        Just(Outcome::End),
        bytes().prop_map(Outcome::Filled),
        float().prop_map(Outcome::Float),
        value().prop_map(Outcome::Value),
        value().prop_map(Outcome::Raised),
        general.prop_map(|(result, raised, scalars, members, dict, buffers, extra)| {
            Outcome::General(Box::new(General { result, raised, scalars, members, dict, buffers, extra }))
        }),
    ]
}

fn fingerprint() -> impl Strategy<Value = Fingerprint> {
    any::<[u64; 5]>().prop_map(|[place, shallow, deep, near, cpu_us]| Fingerprint {
        place,
        shallow,
        deep,
        near,
        cpu_us,
    })
}

fn position() -> impl Strategy<Value = Position> {
    prop_oneof![
        any::<u64>().prop_map(Position::Released),
        Just(Position::InCall),
        any::<u64>().prop_map(Position::Between),
        any::<u64>().prop_map(Position::Freeing),
        any::<u64>().prop_map(Position::Freed),
        fingerprint().prop_map(Position::Check)
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let call = || {
        (0u16..0xf00, any::<u16>(), proptest::option::of(proptest::collection::vec(value(), 0..4)), outcome())
            .prop_map(|(hook, at, arguments, outcome)| Call { hook, at, arguments, outcome })
    };
    let hook = (string(), 0u8..13).prop_map(|(name, kind)| Hook { name, kind: HookKind::try_from(kind).unwrap() });
    prop_oneof![
        4 => call().prop_map(Event::Call),
        1 => call().prop_map(Event::Annotation),
        1 => proptest::collection::vec(call(), 0..3).prop_map(Event::Released),
        1 => value().prop_map(Event::Start),
        1 => (any::<u64>(), proptest::collection::vec(hook, 0..4)).prop_map(|(first, hooks)| Event::Hooks { first, hooks }),
        1 => (any::<u64>(), value(), value(), value()).prop_map(|(serial, callable, arguments, keywords)| {
            Event::Callback { serial, callable, arguments, keywords }
        }),
        1 => (any::<u64>(), any::<bool>()).prop_map(|(serial, raised)| Event::CallbackEnd { serial, raised }),
        1 => (0u8..0x10, any::<u64>()).prop_map(|(generation, found)| Event::Collect { generation, found, at: None }),
        1 => (0u8..0x10, any::<u64>(), fingerprint()).prop_map(|(generation, found, at)| {
            Event::Collect { generation: generation | COLLECT_AT_CHECK, found, at: Some(at) }
        }),
        1 => (any::<i32>(), prop::collection::vec(string(), 0..3)).prop_map(|(status, unrecorded)| Event::End { status, unrecorded }),
        1 => string().prop_map(Event::Stopped),
        1 => (any::<u64>(), position()).prop_map(|(thread, from)| Event::Switch { thread, from }),
        1 => (any::<u64>(), any::<u64>(), any::<u8>(), any::<i32>())
            .prop_map(|(serial, ident, kind, error)| Event::Thread { serial, ident, kind, error }),
        1 => any::<u64>().prop_map(|tries| Event::Busy { tries }),
        1 => any::<u64>().prop_map(|tries| Event::Retry { tries }),
        1 => (prop_oneof![Just(WaitEnd::TimedOut), Just(WaitEnd::Interrupted)], any::<u64>())
            .prop_map(|(end, releases)| Event::Wait { end, releases }),
        1 => (any::<u64>(), position()).prop_map(|(number, at)| Event::Signal { number, at }),
        1 => any::<bool>().prop_map(|raised| Event::SignalEnd { raised }),
        1 => (any::<u64>(), any::<i64>()).prop_map(|(serial, pid)| Event::Fork { serial, pid }),
        1 => proptest::collection::vec(any::<u64>(), 0..4).prop_map(|after| Event::Written { after }),
        1 => proptest::collection::vec(any::<u64>(), 0..4).prop_map(|serials| Event::Forgotten { serials }),
        1 => (any::<Option<(u64, bool)>>(), proptest::collection::vec(any::<u64>(), 0..4)).prop_map(|(freeing, calls)| Event::Dropped { freeing, calls }),
        1 => (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..9)).prop_map(|(fd, bytes)| Event::Output { fd, bytes }),
        1 => (any::<u64>(), proptest::collection::vec(call(), 0..3)).prop_map(|(thread, calls)| Event::Ended { thread, calls }),
        1 => (any::<u64>(), any::<u64>(), position()).prop_map(|(thread, number, at)| Event::Pending { thread, number, at }),
        1 => any::<u64>().prop_map(|handle| Event::Warning { handle }),
        1 => (string(), string(), any::<u64>(), any::<u64>(), 0u8..3, string()).prop_map(
            |(name, file, size, hash, treatment, reasons)| {
                let treatment = ModuleTreatment::try_from(treatment).unwrap();
                Event::Module { name, file, size, hash, treatment, reasons }
            }
        ),
        1 => any::<u8>().prop_map(Event::Divert),
    ]
}

proptest! {
    #[test]
    fn values_round_trip(value in value()) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        let mut source = SliceSource::new(&bytes);
        prop_assert_eq!(Value::decode(&mut source, &mut Notes::default()), Ok(value.clone()));
        prop_assert!(source.rest().is_empty());
        // Neither listing may panic, nor outgrow its width.
        prop_assert!(value.display(30).chars().count() <= 30);
        let _ = serde_json::Value::from(&value).to_string();
    }

    #[test]
    fn values_cut_anywhere_end_unexpectedly(value in value(), cut in any::<prop::sample::Index>()) {
        let mut bytes = Vec::new();
        value.encode(&mut bytes);
        let cut = cut.index(bytes.len());
        let decoded = Value::decode(&mut SliceSource::new(&bytes[..cut]), &mut Notes::default());
        prop_assert_eq!(decoded, Err(DecodeError::UnexpectedEnd));
    }

    #[test]
    fn random_bytes_decode_or_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Value::decode(&mut SliceSource::new(&bytes), &mut Notes::default());
        let _ = Event::decode(&mut SliceSource::new(&bytes), &mut Notes::default());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn events_round_trip_through_tiny_extents(
        events in proptest::collection::vec((event(), 0usize..6000, any::<bool>()), 1..60)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.retrace");
        let mut writer = TraceWriter::create(&path, &Options { extent_size: 4096, ..Options::default() }).unwrap();
        let mut expected = Vec::new();
        for (event, padding, direct) in events {
            // Some events are larger than an extent.
            let large = Event::Stopped(Str::Plain(Text::from("x".repeat(padding).as_str())));
            for event in [event, large] {
                let mut bytes = Vec::new();
                event.encode(&mut bytes);
                append(&mut writer, &bytes, direct);
                expected.push(event);
            }
        }
        writer.close();
        let mut stream = Trace::open(&path).unwrap().events(0).unwrap();
        for (i, event) in expected.into_iter().enumerate() {
            let before = stream.clone();
            let (index, read) = stream.next_event().unwrap().unwrap();
            prop_assert_eq!(index.0, i as u64);
            prop_assert_eq!(read, event);
            prop_assert!(before.position() < stream.position());
        }
        prop_assert!(stream.next_event().unwrap().is_none());
        prop_assert_eq!(stream.position(), stream.length());
    }
}

/// Appends the way the hooks do: straight into the extent where there is room, else through `append`.
fn append(writer: &mut TraceWriter, bytes: &[u8], direct: bool) {
    let cursor = if direct && bytes.len() <= 4096 { writer.cursor(bytes.len()) } else { std::ptr::null_mut() };
    if cursor.is_null() {
        let (one, two) = bytes.split_at(bytes.len() / 2);
        writer.append(&[one, two]);
    } else {
        // SAFETY: the cursor has room for `bytes`.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), cursor, bytes.len());
            writer.cursor_mut().commit(cursor.add(bytes.len()));
        }
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let mut bytes = [tag::LIST, 1].repeat(depth);
        bytes.push(tag::NONE);
        Value::decode(&mut SliceSource::new(&bytes), &mut Notes::default())
    };
    assert!(nested(MAX_DEPTH).is_ok());
    assert_eq!(nested(MAX_DEPTH + 1), Err(DecodeError::TooDeep));
    assert_eq!(nested(1 << 20), Err(DecodeError::TooDeep));
}

#[test]
fn a_lying_count_allocates_nothing() {
    let mut bytes = vec![tag::LIST];
    retrace_replay::value::put_varint(&mut bytes, u64::MAX);
    bytes.extend([tag::NONE; 100]);
    let decoded = Value::decode(&mut SliceSource::new(&bytes), &mut Notes::default());
    assert_eq!(decoded, Err(DecodeError::UnexpectedEnd));
}
