//! `retrace info`: what a recording holds.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use retrace_replay::event::{Event, ModuleTreatment};
use retrace_replay::start::Start;
use retrace_replay::trace_reader::ProcessSummary;
use retrace_replay::unrecorded::{self, ByThreads};
use retrace_replay::value::Str;
use retrace_replay::{EventIndex, Trace, TraceWriter};
use serde_json::{Value as Json, json};

use crate::cli::InfoArguments;
use crate::doctor::BOUNDARY_ADVICE;
use crate::error::CliError;
use crate::events::{one_line, raised};
use crate::unstored::Unstored;

/// What walking a process's events tells.
struct Process {
    summary: ProcessSummary,
    events: u64,
    hooks: u64,
    /// Calls that ended with an exception.
    raised: u64,
    threads: Vec<Thread>,
    modules: Vec<Module>,
    unstored: Unstored,
    /// Functions of the C library that were called and not recorded.
    unrecorded: Vec<String>,
    by_threads: Option<ByThreads>,
    sources: usize,
    ending: Ending,
}

struct Module {
    name: String,
    treatment: ModuleTreatment,
    /// What decided that, where no boundary file did.
    imports: String,
}

impl Module {
    /// Whether somebody may want to say in a boundary file how it is treated.
    fn is_guessed(&self) -> bool {
        self.treatment == ModuleTreatment::Libc && !self.imports.is_empty()
    }

    /// Which of its imports are recorded when it calls them.
    fn recorded(&self) -> String {
        let recorded: Vec<&str> = self.imports.split(' ').filter(|name| !unrecorded::has(name)).collect();
        recorded.join(" ")
    }
}

struct Thread {
    serial: u64,
    /// None: it ran when the recording of this process began.
    made_at: Option<EventIndex>,
    events: u64,
}

/// A process's threads while its events are walked.
struct Threads {
    found: BTreeMap<u64, Thread>,
    running: u64,
}

impl Threads {
    fn begin() -> Threads {
        Threads { found: BTreeMap::new(), running: 0 }
    }

    fn see(&mut self, index: EventIndex, event: &Event) {
        let thread = |serial, made_at| Thread { serial, made_at, events: 0 };
        self.found.entry(self.running).or_insert_with(|| thread(self.running, None)).events += 1;
        match event {
            Event::Thread { serial, error: 0, .. } => {
                self.found.insert(*serial, thread(*serial, Some(index)));
            }
            Event::Switch { thread, .. } => self.running = *thread,
            _ => {}
        }
    }
}

enum Ending {
    Exited(i32),
    Stopped(String),
    /// Neither an `end` nor a `stopped` event.
    Abrupt,
    /// As above, but somebody still writes to the trace.
    Running,
    /// It became that process by exec.
    Replaced(u32),
}

impl Ending {
    fn text(&self) -> String {
        match self {
            Ending::Exited(-1) => "ended".to_owned(),
            Ending::Exited(status) => format!("exited with status {status}"),
            Ending::Stopped(reason) => format!("recording stopped: {}", one_line(reason)),
            Ending::Abrupt => "ended abruptly".to_owned(),
            Ending::Running => "still recording".to_owned(),
            Ending::Replaced(by) => format!("replaced by process {by}"),
        }
    }

    fn json(&self) -> Json {
        match self {
            Ending::Exited(status) => json!({"kind": "exited", "status": status}),
            Ending::Stopped(reason) => json!({"kind": "stopped", "reason": reason}),
            Ending::Abrupt => json!({"kind": "abrupt"}),
            Ending::Running => json!({"kind": "recording"}),
            Ending::Replaced(by) => json!({"kind": "replaced", "by": by}),
        }
    }
}

/// Prints what the trace holds.
pub fn run(arguments: &InfoArguments) -> Result<ExitCode, CliError> {
    let trace = Trace::open(&arguments.file)?;
    let live = TraceWriter::is_being_recorded(&arguments.file);
    let mut processes = Vec::new();
    for summary in trace.processes() {
        processes.push(walk(&trace, summary, live)?);
    }
    find_replaced(&mut processes);
    let mut out = io::stdout().lock();
    match arguments.json {
        true => writeln!(out, "{:#}", json(&trace, &processes))?,
        false => write_text(&mut out, &trace, &processes)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn walk(trace: &Trace, summary: ProcessSummary, live: bool) -> Result<Process, CliError> {
    let ending = if live { Ending::Running } else { Ending::Abrupt };
    let mut sources = 0;
    for source in trace.sources(summary.index)? {
        source?;
        sources += 1;
    }
    let mut stream = trace.events(summary.index)?;
    let mut threads = Threads::begin();
    let (threads_found, modules, unstored, unrecorded) = (Vec::new(), Vec::new(), Unstored::default(), Vec::new());
    let mut process = Process {
        summary,
        events: 0,
        hooks: 0,
        raised: 0,
        threads: threads_found,
        modules,
        unstored,
        sources,
        ending,
        unrecorded,
        by_threads: None,
    };
    while let Some((index, event)) = stream.next_event()? {
        process.events += 1;
        process.raised += u64::from(raised(&event));
        threads.see(index, &event);
        process.unstored.see(&event);
        match event {
            Event::Hooks { hooks, .. } => process.hooks += hooks.len() as u64,
            Event::Module { name, treatment, reasons, .. } => {
                let (name, imports) = (name.to_string_lossy(), reasons.to_string_lossy());
                process.modules.push(Module { name, treatment, imports });
            }
            Event::End { status, unrecorded } => {
                process.ending = Ending::Exited(status);
                for said in unrecorded.iter().map(Str::to_string_lossy) {
                    match ByThreads::parse(&said) {
                        Some(by_threads) => process.by_threads = Some(by_threads),
                        None => process.unrecorded.push(said),
                    }
                }
            }
            Event::Stopped(reason) => process.ending = Ending::Stopped(reason.to_string_lossy()),
            _ => {}
        }
    }
    process.threads = threads.found.into_values().collect();
    Ok(process)
}

/// A process that started another with its own pid, and has no end, went on as that one.
fn find_replaced(processes: &mut [Process]) {
    let field = |process: &Process, key| process.summary.start.as_ref()?.int(key);
    let started: Vec<(i64, Option<i64>, u32)> = processes
        .iter()
        .filter(|process| field(process, "forked_at").is_none())
        .filter_map(|process| Some((field(process, "parent")?, field(process, "pid"), process.summary.index)))
        .collect();
    for process in processes {
        let pid = field(process, "pid");
        let by = |(parent, child_pid, _): &&(i64, Option<i64>, u32)| {
            *parent == i64::from(process.summary.index) && *child_pid == pid && pid.is_some()
        };
        if let (Ending::Abrupt | Ending::Running, Some((_, _, by))) = (&process.ending, started.iter().find(by)) {
            process.ending = Ending::Replaced(*by);
        }
    }
}

/// The processes in the order of the tree, with their depths: after each those that it started.
fn tree(processes: &[Process]) -> Vec<(usize, &Process)> {
    let parent = |process: &Process| process.summary.start.as_ref().and_then(Start::parent);
    let known = |index: u32| processes.iter().any(|process| process.summary.index == index);
    // A process has a smaller index than those that it starts: anything else is a damaged trace's.
    let is_root = |process: &&Process| parent(process).is_none_or(|p| p >= process.summary.index || !known(p));
    let mut found = Vec::new();
    let mut left: Vec<(usize, &Process)> = processes.iter().filter(is_root).map(|root| (0, root)).rev().collect();
    while let Some((depth, process)) = left.pop() {
        found.push((depth, process));
        let is_child = |other: &&Process| !is_root(other) && parent(other) == Some(process.summary.index);
        left.extend(processes.iter().filter(is_child).map(|child| (depth + 1, child)).rev());
    }
    found
}

fn created(trace: &Trace) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_nanos(trace.header().created_ns));
    time.map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default()
}

/// What was run, as a shell would show it.
pub fn command(start: &Start) -> String {
    let arguments = start.arguments("orig_argv").or_else(|| start.arguments("argv")).unwrap_or_default();
    let quoted: Vec<String> = arguments.iter().map(|argument| quote(&String::from_utf8_lossy(argument))).collect();
    quoted.join(" ")
}

fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    let argument = one_line(argument);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument;
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

/// So much of a command that a line holds it.
pub fn shortened(command: &str) -> String {
    let most = 80;
    match command.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &command[..end]),
        None => command.to_owned(),
    }
}

fn human_size(bytes: u64) -> String {
    let units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut size = bytes as f64;
    let mut unit = 0;
    while size >= 1024.0 && unit + 1 < units.len() {
        size /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} bytes") } else { format!("{size:.1} {}", units[unit]) }
}

fn write_text(out: &mut impl Write, trace: &Trace, processes: &[Process]) -> io::Result<()> {
    let header = trace.header();
    let field = |name: &str, value: Option<String>| match value {
        Some(value) => format!("{name:<12} {}\n", one_line(&value)),
        None => String::new(),
    };
    let root = processes.iter().find_map(|process| process.summary.start.as_ref());
    let of_root = |key| root.and_then(|start| start.string(key));
    let mut text = field("trace", Some(trace.path().display().to_string()));
    text += &field("size", Some(human_size(trace.size())));
    text += &field("recorded", Some(created(trace)));
    text += &field("host", of_root("hostname"));
    text += &field("folder", of_root("cwd"));
    text += &field("command", root.map(command));
    text += &field("interpreter", of_root("executable"));
    let version = of_root("version").unwrap_or_else(|| format!("{}.{}", header.python >> 8, header.python & 0xff));
    text += &field("python", Some(version));
    text += &field("platform", of_root("platform"));
    if header.unrecorded > 0 {
        text += &field("missing", Some(unrecorded::children_message(header.unrecorded)));
    }
    if header.unrecorded_programs > 0 {
        text += &field("missing", Some(unrecorded::programs_message(header.unrecorded_programs)));
    }
    out.write_all(text.as_bytes())?;
    if processes.len() > 1 {
        writeln!(out, "\nprocesses")?;
        for (depth, process) in tree(processes) {
            let command = process.summary.start.as_ref().map(command).unwrap_or_default();
            let shown = format!("{:depth$}{}", "", process.summary.index, depth = 2 * depth);
            writeln!(out, "  {shown:<6} {}: {}", process.ending.text(), shortened(&command))?;
        }
    }
    for process in processes {
        let summary = &process.summary;
        let start = summary.start.as_ref();
        let pid = start.and_then(|start| start.int("pid")).map(|pid| format!(", pid {pid}")).unwrap_or_default();
        let parent = start.and_then(Start::parent).map(|parent| {
            let fork = start.and_then(|start| start.int("forked_at"));
            match fork {
                Some(fork) => format!(", forked from process {parent} by its fork {fork}"),
                None => format!(", started by process {parent}"),
            }
        });
        writeln!(out, "\nprocess {}{pid}{}: {}", summary.index, parent.unwrap_or_default(), process.ending.text())?;
        if let Some(start) = start {
            writeln!(out, "  command    {}", command(start))?;
        }
        writeln!(out, "  events     {} ({})", process.events, human_size(summary.event_bytes))?;
        writeln!(out, "  sources    {} ({})", process.sources, human_size(summary.source_bytes))?;
        writeln!(out, "  hooks      {}", process.hooks)?;
        if !process.modules.is_empty() {
            let names: Vec<&str> = process.modules.iter().map(|module| module.name.as_str()).collect();
            writeln!(out, "  extensions {}", one_line(&names.join(", ")))?;
        }
        for line in process.unstored.lines() {
            writeln!(out, "  {}: a replay that needs it stops there", one_line(&line))?;
        }
        let by_threads = process.by_threads.as_ref().map(ByThreads::message);
        for line in by_threads.into_iter().chain(unrecorded_lines(&process.unrecorded, processes)) {
            writeln!(out, "  {}", one_line(&line))?;
        }
        for module in process.modules.iter().filter(|module| module.is_guessed()) {
            let (name, imports) = (one_line(&module.name), one_line(&module.recorded()));
            writeln!(out, "  {name} does I/O of its own: what it calls of the C library is recorded ({imports})")?;
        }
        if process.modules.iter().any(Module::is_guessed) {
            writeln!(out, "  {BOUNDARY_ADVICE}")?;
        }
    }
    if processes.is_empty() {
        writeln!(out, "\nno process left anything")?;
    }
    Ok(())
}

/// One for each module of the recording that may have called one of these functions; a forked process's were loaded before.
fn unrecorded_lines(called: &[String], processes: &[Process]) -> Vec<String> {
    let mut by_module = BTreeMap::new();
    let mut left: Vec<&str> = called.iter().map(String::as_str).collect();
    for module in processes.iter().flat_map(|process| &process.modules) {
        let imports = |name: &&str| {
            module.treatment == ModuleTreatment::Libc && unrecorded::among(&module.imports).any(|i| i == *name)
        };
        let found: Vec<&str> = called.iter().map(String::as_str).filter(imports).collect();
        left.retain(|name| !found.contains(name));
        if !found.is_empty() {
            by_module.insert(module.name.as_str(), found);
        }
    }
    let mut lines: Vec<String> = by_module.iter().map(|(name, found)| unrecorded::message(name, found)).collect();
    if !left.is_empty() {
        let left = left.join(", ");
        lines.push(format!("a library called {left}, which is not recorded: a replay may differ from there"));
    }
    lines
}

fn json(trace: &Trace, processes: &[Process]) -> Json {
    let header = trace.header();
    let id: String = header.recording_id.iter().map(|byte| format!("{byte:02x}")).collect();
    let process = |process: &Process| {
        let summary = &process.summary;
        json!({
            "index": summary.index,
            "events": process.events,
            "event_bytes": summary.event_bytes,
            "sources": process.sources,
            "source_bytes": summary.source_bytes,
            "extents": summary.extents,
            "hooks": process.hooks,
            "raised": process.raised,
            "threads": process.threads.iter().map(thread_json).collect::<Json>(),
            "modules": process.modules.iter().map(|module| &module.name).collect::<Vec<_>>(),
            "treatments": process.modules.iter().map(|module| {
                json!({"name": module.name, "treatment": module.treatment.name(), "imports": module.imports})
            }).collect::<Json>(),
            "unstored": process.unstored.json(),
            "unrecorded": process.unrecorded,
            "by_threads": process.by_threads.as_ref().map(|by| json!({"modules": by.modules, "functions": by.functions})),
            "ending": process.ending.json(),
            "start": summary.start.as_ref().map(start_json),
        })
    };
    json!({
        "path": trace.path().display().to_string(),
        "size": trace.size(),
        "format": header.version,
        "recording_id": id,
        "created_ns": header.created_ns,
        "created": created(trace),
        "python": format!("{}.{}", header.python >> 8, header.python & 0xff),
        "size_limit": header.size_limit,
        "unrecorded_children": header.unrecorded,
        "unrecorded_programs": header.unrecorded_programs,
        "extent_size": header.extent_size,
        "processes": processes.iter().map(process).collect::<Json>(),
    })
}

fn thread_json(thread: &Thread) -> Json {
    json!({"serial": thread.serial, "made_at": thread.made_at.map(|index| index.0), "events": thread.events})
}

/// The start dict's fields under their names, but for the secrets: the environment and the hash secret.
fn start_json(start: &Start) -> Json {
    let keys = [
        "pid",
        "ppid",
        "parent",
        "forked_at",
        "time_ns",
        "version",
        "hexversion",
        "executable",
        "argv",
        "orig_argv",
        "prefix",
        "base_prefix",
        "cwd",
        "run",
        "main",
        "platform",
        "hostname",
    ];
    let fields = keys.iter().filter_map(|key| Some(((*key).to_owned(), Json::from(start.get(key)?))));
    Json::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        assert_eq!(human_size(0), "0 bytes");
        assert_eq!(human_size(1536), "1.5 KiB");
        assert_eq!(human_size(5 << 30), "5.0 GiB");
    }

    #[test]
    fn arguments_are_quoted_where_needed() {
        assert_eq!(quote("app.py"), "app.py");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
