//! `retrace events`: one line an event, as the stream is read.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::ops::{ControlFlow, RangeInclusive};
use std::process::ExitCode;

use retrace_replay::event::{Call, Event, General, Hook, NO_FRAME, Outcome, Position, WaitEnd};
use retrace_replay::value::Str;
use retrace_replay::{EventIndex, Trace, Value};
use serde_json::{Value as Json, json};

use crate::cli::EventsArguments;
use crate::error::CliError;

/// Characters of a value that are listed: enough for a path or a statement.
const ARGUMENT_WIDTH: usize = 60;
const RESULT_WIDTH: usize = 80;
const MAX_INDENTATION: usize = 20;

/// Lists events to standard output.
pub fn run(arguments: &EventsArguments) -> Result<ExitCode, CliError> {
    let trace = Trace::open(&arguments.file)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut listed = 0;
    let mut sizes = Sizes::default();
    let result = walk(&trace, arguments.process, |listing, index, event, place| {
        let is_full = |listed| arguments.limit.is_some_and(|limit| listed >= limit);
        if is_full(listed) || arguments.to.is_some_and(|to| index.0 > to) {
            return Ok(ControlFlow::Break(()));
        }
        if index.0 >= arguments.from && listing.matches(event, arguments) {
            match (arguments.sizes, arguments.json) {
                (true, _) => sizes.add(listing.size_name(event), place.size),
                (false, true) => writeln!(out, "{}", listing.json(index, event, place))?,
                (false, false) => writeln!(out, "{}", listing.line(index, event))?,
            }
            listed += 1;
        }
        // No event is read that is not wanted: it may be a damaged one.
        Ok(if is_full(listed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    // What was read before an error is listed all the same.
    if arguments.sizes {
        sizes.write(&mut out, arguments.json)?;
    }
    out.flush()?;
    result.map(|()| ExitCode::SUCCESS)
}

/// The lines of some events.
pub fn lines(trace: &Trace, process: u32, range: RangeInclusive<u64>) -> Result<Vec<(EventIndex, String)>, CliError> {
    let mut lines = Vec::new();
    walk(trace, process, |listing, index, event, _| {
        if range.contains(&index.0) {
            lines.push((index, listing.line(index, event)));
        }
        Ok(if index.0 < *range.end() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(lines)
}

/// Where an event stands in its stream, in bytes.
#[derive(Clone, Copy)]
struct Place {
    position: u64,
    size: u64,
}

/// Visits a process's events. They are walked from the beginning in any case: hooks and strings are named there.
fn walk(
    trace: &Trace,
    process: u32,
    mut visit: impl FnMut(&Listing, EventIndex, &Event, Place) -> Result<ControlFlow<()>, CliError>,
) -> Result<(), CliError> {
    let mut stream = trace.events(process)?;
    let mut listing = Listing::default();
    let (mut position, mut noted) = (stream.position(), stream.noted());
    while let Some((index, event)) = stream.next_event()? {
        listing.before(&event);
        // Notes behind it have been read, too.
        let size = (stream.position() - position) - (stream.noted() - noted);
        let place = Place { position, size };
        (position, noted) = (stream.position(), stream.noted());
        if visit(&listing, index, &event, place)?.is_break() {
            break;
        }
        listing.after(&event);
    }
    Ok(())
}

/// Events and their bytes, by function or kind.
#[derive(Default)]
struct Sizes(BTreeMap<String, (u64, u64)>);

impl Sizes {
    fn add(&mut self, name: String, size: u64) {
        let (events, bytes) = self.0.entry(name).or_default();
        *events += 1;
        *bytes += size;
    }

    /// The most bytes first, and the sum.
    fn write(self, out: &mut impl Write, as_json: bool) -> io::Result<()> {
        let mut rows: Vec<(String, (u64, u64))> = self.0.into_iter().collect();
        rows.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
        if as_json {
            for (name, (events, bytes)) in rows {
                writeln!(out, "{}", json!({"name": name, "events": events, "bytes": bytes}))?;
            }
            return Ok(());
        }
        let sum = rows.iter().fold((0, 0), |(events, bytes), (_, row)| (events + row.0, bytes + row.1));
        writeln!(out, "{:>12} {:>9} {:>8}", "bytes", "events", "each")?;
        for (name, (events, bytes)) in rows.into_iter().chain([("in all".to_owned(), sum)]) {
            let each = bytes as f64 / (events.max(1)) as f64;
            writeln!(out, "{bytes:>12} {events:>9} {each:>8.1}  {name}")?;
        }
        Ok(())
    }
}

/// What has to be remembered from one event to the next.
#[derive(Default)]
struct Listing {
    /// A map and not a vector: a damaged trace may name any index.
    hooks: BTreeMap<u64, Hook>,
    thread: u64,
    /// Callbacks that have not ended, by thread.
    depths: BTreeMap<u64, usize>,
}

impl Listing {
    fn before(&mut self, event: &Event) {
        match event {
            Event::Hooks { first, hooks } => {
                let indices = (0..).map(|i| first.saturating_add(i));
                self.hooks.extend(indices.zip(hooks.iter().cloned()));
            }
            Event::CallbackEnd { .. } | Event::SignalEnd { .. } => {
                let depth = self.depths.entry(self.thread).or_default();
                *depth = depth.saturating_sub(1);
            }
            _ => {}
        }
    }

    fn after(&mut self, event: &Event) {
        match event {
            Event::Callback { .. } => *self.depths.entry(self.thread).or_default() += 1,
            Event::Signal { .. } => *self.depths.entry(self.thread).or_default() += 1,
            Event::Switch { thread, .. } => self.thread = *thread,
            _ => {}
        }
    }

    fn depth(&self) -> usize {
        self.depths.get(&self.thread).copied().unwrap_or_default()
    }

    fn name(&self, hook: u16) -> String {
        match self.hooks.get(&u64::from(hook)) {
            Some(hook) => hook.name.to_string_lossy(),
            None => format!("hook {hook}"),
        }
    }

    fn matches(&self, event: &Event, wanted: &EventsArguments) -> bool {
        let of_function = match event {
            _ if wanted.function.is_empty() => true,
            Event::Call(call) | Event::Annotation(call) => {
                let name = self.name(call.hook);
                wanted.function.iter().any(|glob| glob_matches(glob, &name))
            }
            _ => false,
        };
        of_function && wanted.thread.is_none_or(|thread| thread == self.thread) && (!wanted.raised || raised(event))
    }

    fn line(&self, index: EventIndex, event: &Event) -> String {
        let indentation = "  ".repeat(self.depth().min(MAX_INDENTATION));
        format!("{index:>8}  {indentation}{}", self.text(event))
    }

    fn text(&self, event: &Event) -> String {
        match event {
            Event::Call(call) => self.call_line(call),
            Event::Start(dict) => match dict.get("argv") {
                Some(argv) => format!("start {}", argv.display(RESULT_WIDTH)),
                None => "start".to_owned(),
            },
            Event::Hooks { first, hooks } => format!("hooks {first} to {}", first.saturating_add(hooks.len() as u64)),
            Event::Callback { serial, callable, arguments, keywords } => {
                let mut items = items_of(arguments);
                if let Value::Dict(pairs) = keywords {
                    items.extend(pairs.iter().map(|(key, value)| {
                        let name = key.as_text().map(|text| text.to_string_lossy()).unwrap_or_default();
                        format!("{name}={}", value.display(ARGUMENT_WIDTH))
                    }));
                }
                format!("callback {serial}: {}({})", callable.display(ARGUMENT_WIDTH), items.join(", "))
            }
            Event::CallbackEnd { serial, raised: false } => format!("callback {serial} returned"),
            Event::CallbackEnd { serial, raised: true } => format!("callback {serial} raised"),
            // A collection is two events: what its finalizers did stands between them.
            Event::Collect { generation: generation @ 0..0x80, .. } => {
                format!("collect generation {}", generation & 3)
            }
            Event::Collect { generation, found, .. } => {
                format!("collected generation {}: {found} unreachable", generation & 3)
            }
            Event::End { status: -1, .. } => "end".to_owned(),
            Event::End { status, .. } => format!("end with status {status}"),
            Event::Stopped(reason) => {
                format!("recording stopped: {}", one_line(&reason.to_string_lossy()))
            }
            Event::Switch { thread, from } => format!("switch to thread {thread} from {}", position_text(from)),
            Event::Thread { serial, error: 0, .. } => format!("thread {serial} is made"),
            Event::Thread { error, .. } => format!("a thread could not be made: error {error}"),
            Event::Busy { tries } => format!("the lock of try {tries} was taken"),
            Event::Retry { tries } => format!("the lock is tried again, as try {tries}, and free"),
            Event::Wait { end: WaitEnd::TimedOut, .. } => "the wait timed out".to_owned(),
            Event::Wait { end: WaitEnd::Interrupted, .. } => "the wait was interrupted by a signal".to_owned(),
            Event::Signal { number, at: Position::Released(_) } => format!("signal {number} is handled in a wait"),
            Event::Signal { number, at } => format!("signal {number} is handled at {}", position_text(at)),
            Event::SignalEnd { raised: false } => "the handler returned".to_owned(),
            Event::SignalEnd { raised: true } => "the handler raised".to_owned(),
            Event::Written { after } => {
                let threads: Vec<String> = after.iter().map(u64::to_string).collect();
                format!("the next call wrote after calls of thread {} that come later", threads.join(", "))
            }
            Event::Forgotten { serials } => {
                let serials: Vec<String> = serials.iter().map(u64::to_string).collect();
                format!("what callback {} returned is let go of", serials.join(", "))
            }
            Event::Dropped { freeing, calls } => {
                let calls: Vec<String> = calls.iter().map(|call| format!("<argument 0 of call {call}>")).collect();
                let place = if freeing.is_some() { "an external object is freed; " } else { "" };
                format!("{place}let go of: {}", if calls.is_empty() { "-".into() } else { calls.join(", ") })
            }
            Event::Output { fd, bytes } => {
                format!("C code wrote {} bytes to descriptor {fd}", bytes.len())
            }
            Event::Fork { pid, .. } => format!("fork -> {pid}"),
            Event::Annotation(call) => format!("in C: {}", self.call_line(call)),
            Event::Released(calls) => format!("without the GIL: {}", self.calls_text(calls)),
            Event::Ended { thread, calls } => format!("thread {thread} has ended: {}", self.calls_text(calls)),
            Event::Pending { thread, number, at } => {
                format!("call {number} that thread {thread} asked for, at {}", position_text(at))
            }
            Event::Warning { handle } => format!("unclosed <#{handle}>"),
            Event::Module { name, file, size, treatment, .. } => {
                let (name, file) = (name.to_string_lossy(), file.to_string_lossy());
                let treatment = treatment.name();
                format!("module {} from {} ({size} bytes), {treatment}", one_line(&name), one_line(&file))
            }
            Event::Divert(n) => format!("divert {n}"),
        }
    }

    /// What an event's bytes are counted under.
    fn size_name(&self, event: &Event) -> String {
        match event {
            Event::Call(call) => one_line(&self.name(call.hook)),
            Event::Annotation(call) => format!("[annotation] {}", one_line(&self.name(call.hook))),
            _ => match event_json(event)["type"].as_str() {
                Some(kind) => format!("[{kind}]"),
                None => String::new(),
            },
        }
    }

    fn calls_text(&self, calls: &[Call]) -> String {
        let lines: Vec<String> = calls.iter().map(|call| self.call_line(call)).collect();
        lines.join("; ")
    }

    fn call_line(&self, call: &Call) -> String {
        let arguments = match &call.arguments {
            Some(arguments) => {
                let items: Vec<String> = arguments.iter().map(|value| value.display(ARGUMENT_WIDTH)).collect();
                items.join(", ")
            }
            None => "…".to_owned(),
        };
        let outcome = match &call.outcome {
            Outcome::None => "-> None".to_owned(),
            Outcome::Float(number) => format!("-> {}", Value::Float(*number)),
            Outcome::Value(value) => format!("-> {}", value.display(RESULT_WIDTH)),
            Outcome::Raised(value) => format!("!{}", value.display(RESULT_WIDTH)),
            Outcome::End => "-> end".to_owned(),
            Outcome::Filled(bytes) => format!("-> {}, wrote as many bytes", bytes.len()),
            Outcome::General(general) => general_text(general),
        };
        let at = if call.at == NO_FRAME { String::new() } else { format!("  @{}", call.at) };
        format!("{}({arguments}) {outcome}{at}", one_line(&self.name(call.hook)))
    }

    fn json(&self, index: EventIndex, event: &Event, place: Place) -> Json {
        let mut object = event_json(event);
        if let Event::Call(call) | Event::Annotation(call) = event {
            object["function"] = self.name(call.hook).into();
            if let Some(hook) = self.hooks.get(&u64::from(call.hook)) {
                object["kind"] = hook.kind.name().into();
            }
        }
        object["index"] = index.0.into();
        object["position"] = place.position.into();
        object["size"] = place.size.into();
        object["running"] = self.thread.into();
        object["depth"] = self.depth().into();
        object["text"] = self.text(event).into();
        object
    }
}

/// Whether the event is a call that ended with an exception.
pub fn raised(event: &Event) -> bool {
    match event {
        Event::Call(Call { outcome: Outcome::Raised(_), .. }) => true,
        Event::Call(Call { outcome: Outcome::General(general), .. }) => general.raised.is_some(),
        _ => false,
    }
}

fn items_of(arguments: &Value) -> Vec<String> {
    match arguments.as_items() {
        Some(items) => items.iter().map(|item| item.display(ARGUMENT_WIDTH)).collect(),
        None => vec![arguments.display(ARGUMENT_WIDTH)],
    }
}

fn general_text(general: &General) -> String {
    let mut text = match (&general.result, &general.raised) {
        (_, Some(value)) => format!("!{}", value.display(RESULT_WIDTH)),
        (Some(value), None) => format!("-> {}", value.display(RESULT_WIDTH)),
        (None, None) => "-> …".to_owned(),
    };
    for buffer in general.buffers.iter().flatten() {
        text.push_str(&format!(", wrote {} bytes", buffer.len()));
    }
    text
}

fn calls_json(calls: &[Call]) -> Json {
    calls.iter().map(|call| event_json(&Event::Call(call.clone()))).collect()
}

fn event_json(event: &Event) -> Json {
    match event {
        Event::Call(call) => {
            let mut object = json!({"type": "call", "hook": call.hook});
            if call.at != NO_FRAME {
                object["at"] = call.at.into();
            }
            if let Some(arguments) = &call.arguments {
                object["arguments"] = arguments.iter().map(Json::from).collect();
            }
            match &call.outcome {
                Outcome::None => object["result"] = Json::Null,
                Outcome::Float(number) => object["result"] = Json::from(&Value::Float(*number)),
                Outcome::Value(value) => object["result"] = value.into(),
                Outcome::Raised(value) => object["raised"] = value.into(),
                Outcome::End => object["ended"] = true.into(),
                Outcome::Filled(bytes) => {
                    object["result"] = bytes.len().into();
                    object["buffers"] = json!([Json::from(&Value::Bytes(bytes.clone()))]);
                }
                Outcome::General(general) => general_json(general, &mut object),
            }
            object
        }
        Event::Start(dict) => json!({"type": "start", "start": Json::from(dict)}),
        Event::Hooks { first, hooks } => {
            let names: Json = hooks.iter().map(|hook| Json::from(&hook.name)).collect();
            json!({"type": "hooks", "first": first, "names": names})
        }
        Event::Callback { serial, callable, arguments, keywords } => {
            json!({"type": "callback", "serial": serial, "callable": Json::from(callable),
                   "arguments": Json::from(arguments), "keywords": Json::from(keywords)})
        }
        Event::CallbackEnd { serial, raised } => {
            json!({"type": "callback end", "serial": serial, "raised": raised})
        }
        Event::Collect { generation, found, .. } => {
            json!({"type": "collect", "generation": generation, "found": found})
        }
        Event::End { status, unrecorded } => {
            let unrecorded = unrecorded.iter().map(Str::to_string_lossy);
            json!({"type": "end", "status": status, "unrecorded": unrecorded.collect::<Json>()})
        }
        Event::Stopped(reason) => json!({"type": "stopped", "reason": Json::from(reason)}),
        Event::Switch { thread, from } => {
            json!({"type": "switch", "thread": thread, "from": position_text(from)})
        }
        Event::Thread { serial, ident, kind, error } => {
            json!({"type": "thread", "serial": serial, "ident": ident, "kind": kind, "error": error})
        }
        Event::Busy { tries } => json!({"type": "busy", "try": tries}),
        Event::Retry { tries } => json!({"type": "retry", "try": tries}),
        Event::Wait { end, releases } => {
            json!({"type": "wait", "timed_out": *end == WaitEnd::TimedOut, "releases": releases})
        }
        Event::Signal { number, at } => json!({"type": "signal", "number": number, "at": position_text(at)}),
        Event::SignalEnd { raised } => json!({"type": "signal end", "raised": raised}),
        Event::Fork { serial, pid } => json!({"type": "fork", "serial": serial, "pid": pid}),
        Event::Annotation(call) => {
            let mut object = event_json(&Event::Call(call.clone()));
            object["type"] = "annotation".into();
            object
        }
        Event::Released(calls) => json!({"type": "released", "calls": calls_json(calls)}),
        Event::Written { after } => json!({"type": "written", "after": after}),
        Event::Output { fd, bytes } => {
            json!({"type": "output", "fd": fd, "text": String::from_utf8_lossy(bytes)})
        }
        Event::Forgotten { serials } => json!({"type": "forgotten", "serials": serials}),
        Event::Dropped { freeing, calls } => {
            json!({"type": "dropped", "freeing": freeing.map(|(number, _)| number), "calls": calls})
        }
        Event::Ended { thread, calls } => json!({"type": "ended", "thread": thread, "calls": calls_json(calls)}),
        Event::Pending { thread, number, at } => {
            json!({"type": "pending call", "thread": thread, "number": number, "at": position_text(at)})
        }
        Event::Warning { handle } => json!({"type": "warning", "handle": handle}),
        Event::Module { name, file, size, hash, treatment, reasons } => {
            json!({"type": "module", "name": Json::from(name), "file": Json::from(file), "size": size,
                   "hash": format!("{hash:016x}"), "treatment": treatment.name(), "imports": Json::from(reasons)})
        }
        Event::Divert(n) => json!({"type": "divert", "n": n}),
    }
}

fn position_text(position: &Position) -> String {
    match position {
        Position::Released(count) => format!("its release {count}"),
        Position::InCall => "inside a call".to_owned(),
        Position::Between(count) => format!("call {count} of a library's code: the turn was taken away"),
        Position::Freeing(count) => format!("the freeing of external object {count}"),
        Position::Freed(count) => format!("the freeing of another object after external object {count}"),
        Position::Check(at) => format!("check {:016x}", at.place),
    }
}

fn general_json(general: &General, object: &mut Json) {
    let values =
        [("result", &general.result), ("raised", &general.raised), ("dict", &general.dict), ("extra", &general.extra)];
    for (key, value) in values {
        if let Some(value) = value {
            object[key] = value.into();
        }
    }
    if let Some(members) = &general.members {
        object["members"] = members.iter().map(Json::from).collect();
    }
    if let Some(scalars) = &general.scalars {
        object["scalars"] = Json::from(&Value::Bytes(scalars.clone()));
    }
    if let Some(buffers) = &general.buffers {
        object["buffers"] = buffers.iter().map(|buffer| Json::from(&Value::Bytes(buffer.clone()))).collect();
    }
}

/// Names come from the recorded program: they must not bring line ends or escape sequences to a terminal.
pub fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// Whether `name` matches `glob`, where `*` stands for any characters and `?` for one.
fn glob_matches(glob: &str, name: &str) -> bool {
    let (glob, name): (Vec<char>, Vec<char>) = (glob.chars().collect(), name.chars().collect());
    let (mut g, mut n) = (0, 0);
    // Where to go on after a mismatch: behind the last `*`, one character further on.
    let mut retry = None;
    while n < name.len() {
        match glob.get(g) {
            Some('*') => {
                g += 1;
                retry = Some((g, n));
            }
            Some(&c) if c == '?' || c == name[n] => {
                g += 1;
                n += 1;
            }
            _ => match retry {
                Some((star, from)) => {
                    (g, n) = (star, from + 1);
                    retry = Some((star, n));
                }
                None => return false,
            },
        }
    }
    glob[g..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_as_in_a_shell() {
        for (glob, name, expected) in [
            ("posix.*", "posix.read", true),
            ("posix.*", "posixpath.join", false),
            ("*.recv*", "_socket.socket.recv_into", true),
            ("time.time", "time.time_ns", false),
            ("time.????", "time.time", true),
            ("*a*b", "aab", true),
            ("*a*b", "aba", false),
            ("", "", true),
            ("*", "", true),
        ] {
            assert_eq!(glob_matches(glob, name), expected, "{glob} {name}");
        }
    }

    #[test]
    fn lines_name_the_function_and_the_outcome() {
        let mut listing = Listing::default();
        let hook = Hook { name: "posix.read".into(), kind: retrace_replay::HookKind::Function };
        listing.before(&Event::Hooks { first: 3, hooks: vec![hook] });
        let call = |hook, outcome| {
            Event::Call(Call { hook, at: 24, arguments: Some(vec![Value::Int(3), Value::Int(100)]), outcome })
        };
        let line = |event| listing.line(EventIndex(7), &event);
        let read = call(3, Outcome::Value(Value::Bytes(b"x\n".to_vec())));
        assert_eq!(line(read), "       7  posix.read(3, 100) -> b'x\\n'  @24");
        let type_ = Value::Global { module: "builtins".into(), name: "OSError".into() };
        let raised = Value::Exception(Box::new([type_, Value::Tuple(vec![Value::Int(9)]), Value::Null]));
        assert_eq!(line(call(4, Outcome::Raised(raised))), "       7  hook 4(3, 100) !OSError(9)  @24");
    }
}
