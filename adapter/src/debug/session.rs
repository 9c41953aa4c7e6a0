//! A session of the Debug Adapter Protocol.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use retrace_replay::Trace;
use retrace_replay::debug_protocol::{
    Breakpoint, Cause, Exceptions, FunctionBreakpoint, Hits, Stopped, Stops, Watch, WatchFrame,
};
use retrace_replay::event::Event;
use serde_json::{Value, json};

use super::engine::{Cancel, Engine, Failure, Result, message};
use super::protocol::{self, Incoming, Request, Writer};
use super::sources::{Mapping, Sources};
use super::timeline::{Position, StepKind, Timeline, reason, step_stops};
use crate::cli::ReplayArguments;

/// Serves one client until it leaves. Whatever it leaves behind ends then.
pub fn serve(from: impl Read + Send + 'static, to: impl Write) {
    let cancel = Cancel::default();
    let seen = cancel.clone();
    let incoming = protocol::read(from, move |incoming| match incoming {
        // A movement in progress ends; the request itself waits for its turn.
        Incoming::Request(request) if matches!(&*request.command, "pause" | "cancel" | "disconnect" | "terminate") => {
            seen.set(true);
        }
        Incoming::Gone => seen.set(true),
        _ => {}
    });
    Session::new(Writer::new(to), cancel).run(&incoming);
}

/// What a `variablesReference` stands for.
#[derive(Clone)]
struct Reference {
    thread: u32,
    frame: u64,
    root: String,
    expression: Option<String>,
    steps: Value,
    /// How the user would write it.
    name: Option<String>,
    lazy: bool,
}

/// A launched recording.
struct Debuggee {
    timeline: Timeline,
    trace: Trace,
    process: u32,
    sources: Sources,
    mine_only: bool,
    /// Output up to here has been shown.
    shown: usize,
    frames: Vec<(u32, u64)>,
    references: Vec<Reference>,
}

#[derive(Default)]
struct Breakpoints {
    lines: Vec<(String, Breakpoint)>,
    functions: Vec<FunctionBreakpoint>,
    exceptions: Exceptions,
    watches: Vec<Watch>,
    next: i64,
}

struct Session<W> {
    to: Writer<W>,
    cancel: Cancel,
    debuggee: Option<Debuggee>,
    breakpoints: Breakpoints,
    stop_on: Option<String>,
    configured: bool,
    /// Breakpoints that were set before there was a recording: what the client asked for.
    waiting: Vec<Request>,
}

impl<W: Write> Session<W> {
    fn new(to: Writer<W>, cancel: Cancel) -> Session<W> {
        Session {
            to,
            cancel,
            debuggee: None,
            breakpoints: Breakpoints { next: 1, ..Breakpoints::default() },
            stop_on: None,
            configured: false,
            waiting: Vec::new(),
        }
    }

    fn run(mut self, incoming: &Receiver<Incoming>) {
        for incoming in incoming {
            match incoming {
                Incoming::Gone => return,
                Incoming::Malformed(what) => self.say("important", &format!("retrace: {what}\n")),
                Incoming::Request(request) => {
                    let is_last = matches!(&*request.command, "disconnect" | "terminate");
                    if let Err(failure) = self.handle(&request) {
                        self.to.fail(&request, &failure.to_string());
                    }
                    if is_last {
                        self.debuggee = None;
                        self.to.event("terminated", json!({}));
                        if request.command == "disconnect" {
                            return;
                        }
                    }
                }
            }
        }
    }

    fn say(&mut self, category: &str, text: &str) {
        self.to.event("output", json!({ "category": category, "output": text }));
    }

    fn debuggee(&mut self) -> Result<&mut Debuggee> {
        self.debuggee.as_mut().ok_or_else(|| Failure::Message("no recording has been launched".to_owned()))
    }

    fn handle(&mut self, request: &Request) -> Result<()> {
        let body = match &*request.command {
            "initialize" => {
                self.to.respond(request, capabilities());
                self.to.event("initialized", json!({}));
                return Ok(());
            }
            "launch" | "attach" => return self.launch(request),
            "configurationDone" => return self.configuration_done(request),
            "disconnect" | "terminate" | "cancel" | "pause" => {
                self.cancel.set(false);
                json!({})
            }
            "setBreakpoints" => self.set_breakpoints(request)?,
            "setFunctionBreakpoints" => self.set_function_breakpoints(request),
            "setExceptionBreakpoints" => self.set_exception_breakpoints(request),
            "dataBreakpointInfo" => self.data_breakpoint_info(request)?,
            "setDataBreakpoints" => self.set_data_breakpoints(request)?,
            "continue" | "next" | "stepIn" | "stepOut" | "stepBack" | "reverseContinue" | "reverseStepIn"
            | "reverseStepOut" | "gotoPosition" | "lastChange" => return self.movement(request),
            "threads" => self.threads()?,
            "stackTrace" => self.stack_trace(request)?,
            "scopes" => self.scopes(request)?,
            "variables" => self.variables(request)?,
            "evaluate" => self.evaluate(request)?,
            "setVariable" => self.set_variable(request)?,
            "setExpression" => self.set_expression(request)?,
            "completions" => self.completions(request)?,
            "exceptionInfo" => self.exception_info()?,
            "source" => self.source(request)?,
            "loadedSources" => {
                let sources = &self.debuggee()?.sources;
                json!({ "sources": sources.all().map(|path| sources.describe(path)).collect::<Vec<_>>() })
            }
            "modules" => self.modules()?,
            "breakpointLocations" => self.breakpoint_locations(request)?,
            "processes" => self.processes()?,
            "timeline" => self.timeline(request)?,
            other => return message(format!("the request {other} is not supported")),
        };
        self.to.respond(request, body);
        Ok(())
    }

    // ---- the beginning ----

    fn launch(&mut self, request: &Request) -> Result<()> {
        let path = request.text("recording");
        if path.is_empty() {
            return message("launch: \"recording\" must name a recording");
        }
        let arguments = ReplayArguments {
            file: PathBuf::from(path),
            process: request.int("process").and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            python: request.get("python").as_str().map(PathBuf::from),
            strict: false,
            quiet: true,
        };
        let mappings = request.get("pathMappings").as_array().into_iter().flatten().filter_map(|mapping| {
            let (local, remote) = (mapping["localRoot"].as_str()?, mapping["remoteRoot"].as_str()?);
            Some(Mapping { local: local.to_owned(), remote: remote.to_owned() })
        });
        self.cancel.set(false);
        let (engine, said, trace) = Engine::launch(&arguments, self.cancel.clone())?;
        let mut sources = Sources::of(&trace, arguments.process, mappings.collect());
        add_main_source(&trace, arguments.process, &mut sources);
        self.debuggee = Some(Debuggee {
            timeline: Timeline::new(engine),
            trace,
            process: arguments.process,
            sources,
            mine_only: request.get("justMyCode").as_bool().unwrap_or(true),
            shown: 0,
            frames: Vec::new(),
            references: Vec::new(),
        });
        self.stop_on = request.get("stopOn").as_str().map(str::to_owned);
        self.to.respond(request, json!({}));
        if !said.is_empty() {
            self.say("console", &said);
        }
        self.to.event("process", json!({ "name": path, "startMethod": "launch", "isLocalProcess": true }));
        for request in std::mem::take(&mut self.waiting) {
            let body = self.set_breakpoints(&request)?;
            for breakpoint in body["breakpoints"].as_array().into_iter().flatten() {
                self.to.event("breakpoint", json!({ "reason": "changed", "breakpoint": breakpoint }));
            }
        }
        if self.configured { self.first_stop() } else { Ok(()) }
    }

    fn configuration_done(&mut self, request: &Request) -> Result<()> {
        self.configured = true;
        self.to.respond(request, json!({}));
        if self.debuggee.is_some() { self.first_stop() } else { Ok(()) }
    }

    fn first_stop(&mut self) -> Result<()> {
        let stop_on = self.stop_on.take().unwrap_or_else(|| "crash".to_owned());
        let went = self.go_to_named(&stop_on, true);
        let text = match &went {
            Ok(text) => text.clone(),
            Err(failure) => format!("nothing to stop at: {failure}"),
        };
        self.stopped("entry", &text)
    }

    /// Goes to the start, the end or the crash; the crash falls back to the end at the session's start.
    fn go_to_named(&mut self, name: &str, lenient: bool) -> Result<String> {
        let debuggee = self.debuggee()?;
        let mine_only = debuggee.mine_only;
        let timeline = &mut debuggee.timeline;
        if name == "crash" {
            if let Some(position) = timeline.crash()? {
                timeline.go_to(position)?;
                return Ok("The exception that ended the program".to_owned());
            }
            if !lenient {
                return message("no exception ended this program");
            }
        }
        if name == "start" || name == "entry" {
            let stops = Stops { any: true, mine_only, ..Stops::default() };
            timeline.go_to_beginning();
            if timeline.forward(stops)? {
                return Ok("The start of the recording".to_owned());
            }
            return message("no line of the program's own code was run");
        }
        let position = match timeline.end_of(0, mine_only)? {
            None => timeline.end_of(0, false)?,
            found => found,
        };
        let Some(position) = position else { return message("no line of Python was run") };
        timeline.go_to(position)?;
        Ok("The end of the recording".to_owned())
    }

    /// Says that the debugger stands somewhere.
    fn stopped(&mut self, why: &str, text: &str) -> Result<()> {
        let debuggee = self.debuggee()?;
        debuggee.frames.clear();
        debuggee.references.clear();
        let said = std::mem::take(&mut debuggee.timeline.said);
        let warnings = std::mem::take(&mut debuggee.timeline.warnings);
        let present = debuggee.timeline.present().ok().map(|present| (present.window, present.at.clone()));
        for said in said {
            let text = match said.failure {
                true => format!("retrace: breakpoint {}: {}\n", said.id, said.text),
                false => format!("{}\n", said.text),
            };
            self.say(if said.failure { "important" } else { "console" }, &text);
        }
        for warning in warnings {
            self.say("console", &format!("retrace: {warning}\n"));
        }
        let Some((window, at)) = present else {
            self.say("important", &format!("retrace: {text}\n"));
            self.to.event("terminated", json!({}));
            return Ok(());
        };
        self.show_output(&at);
        let why = match (&at.cause, why) {
            (_, "entry") if at.raise > 0 => "exception",
            (Cause::Exception { .. }, _) => "exception",
            _ => why,
        };
        let hit = match at.cause {
            Cause::Breakpoint(id) => json!([id]),
            _ => json!([]),
        };
        self.to.event(
            "stopped",
            json!({
                "reason": why, "description": text, "text": text, "threadId": at.thread + 1,
                "allThreadsStopped": true, "hitBreakpointIds": hit,
            }),
        );
        let position = position_json(window, &at);
        self.to.event("positionChanged", json!({ "position": position, "thread": at.thread + 1 }));
        Ok(())
    }

    /// The recorded output up to here, once.
    fn show_output(&mut self, at: &Stopped) {
        let Some(debuggee) = &mut self.debuggee else { return };
        let outputs = &debuggee.timeline.engine().outputs;
        let new = outputs[debuggee.shown..].iter().take_while(|output| output.event <= at.event);
        let new: Vec<(&'static str, String)> =
            new.map(|output| (if output.stream == 2 { "stderr" } else { "stdout" }, output.text.clone())).collect();
        debuggee.shown += new.len();
        for (category, text) in new {
            self.say(category, &text);
        }
    }

    // ---- movement ----

    fn movement(&mut self, request: &Request) -> Result<()> {
        self.debuggee()?.timeline.present()?;
        self.cancel.set(false);
        if request.command == "lastChange" {
            return self.last_change(request);
        }
        let body = if request.command == "continue" { json!({ "allThreadsContinued": true }) } else { json!({}) };
        self.to.respond(request, body);
        let id = format!("movement-{}", request.seq);
        self.to.event(
            "progressStart",
            json!({ "progressId": id, "title": "Replaying", "requestId": request.seq, "cancellable": true }),
        );
        let moved = self.go(request);
        self.to.event("progressEnd", json!({ "progressId": id }));
        match moved {
            Ok((why, text)) => self.stopped(&why, &text),
            Err(Failure::Cancelled) => self.stopped("pause", "Paused where the movement began"),
            Err(failure) => {
                self.say("important", &format!("retrace: {failure}\n"));
                self.stopped("step", &failure.to_string())
            }
        }
    }

    fn go(&mut self, request: &Request) -> Result<(String, String)> {
        let stops = self.stops()?;
        let uncaught = self.breakpoints.exceptions.uncaught;
        let debuggee = self.debuggee()?;
        let mine_only = debuggee.mine_only;
        let timeline = &mut debuggee.timeline;
        let (from, at) = (timeline.present()?.position(), timeline.present()?.at.clone());
        let thread = request.int("threadId").and_then(|id| u32::try_from(id - 1).ok()).unwrap_or(at.thread);
        let kind = match &*request.command {
            "next" | "stepBack" => StepKind::Over,
            "stepIn" | "reverseStepIn" => StepKind::In,
            _ => StepKind::Out,
        };
        let came = match &*request.command {
            "gotoPosition" => {
                let text = self.go_to_position(request.get("position"))?;
                return Ok(("goto".to_owned(), text));
            }
            "next" | "stepIn" | "stepOut" => {
                let step = step_stops(kind, &at, thread, mine_only);
                timeline.forward(Stops { step: step.step, mine_only, ..stops })?
            }
            "stepBack" | "reverseStepIn" | "reverseStepOut" => {
                let came = timeline.step_back(kind, thread, mine_only)?;
                if came {
                    return Ok(("step".to_owned(), String::new()));
                }
                came
            }
            "continue" => {
                let came = timeline.forward(stops)?;
                uncaught && timeline.stop_at_crash(from, came, true)? || came
            }
            _ => {
                let came = timeline.backward(stops)?;
                uncaught && timeline.stop_at_crash(from, came, false)? || came
            }
        };
        if came {
            let cause = timeline.present()?.at.cause.clone();
            return Ok((reason(&cause).to_owned(), describe(&cause)));
        }
        let (name, why) = match &*request.command {
            "stepBack" | "reverseStepIn" | "reverseStepOut" | "reverseContinue" => ("start", "entry"),
            _ => ("end", "step"),
        };
        let text = self.go_to_named(name, true)?;
        Ok((why.to_owned(), text))
    }

    fn go_to_position(&mut self, position: &Value) -> Result<String> {
        if let Some(name) = position.as_str() {
            return self.go_to_named(name, false);
        }
        let timeline = &mut self.debuggee()?.timeline;
        let number = |key: &str| position[key].as_u64();
        let to = match (number("window"), number("tick")) {
            (Some(window), Some(tick)) => {
                let raise = number("raise").unwrap_or(0) as u32;
                timeline.check(Position { window: window as usize, tick, raise })?
            }
            _ => {
                let Some(event) = number("event") else { return message("gotoPosition: no position is given") };
                let mut to = timeline.position_of_event(event)?;
                if let Some(ticks) = number("ticks").filter(|ticks| *ticks > 0) {
                    to.tick += ticks;
                    to = timeline.check(to)?;
                }
                to
            }
        };
        timeline.go_to(to)?;
        Ok(format!("Event {}", timeline.present()?.at.event))
    }

    fn last_change(&mut self, request: &Request) -> Result<()> {
        let watch = self.watch_of(request, 0)?;
        let name = watch.expression.clone();
        let stops = Stops { watches: vec![watch], ..Stops::default() };
        let timeline = &mut self.debuggee()?.timeline;
        if !timeline.backward(stops)? {
            return message(format!("{name} has not changed before"));
        }
        let cause = timeline.present()?.at.cause.clone();
        self.to.respond(request, json!({}));
        let text = match &cause {
            Cause::Change { before, after, .. } => format!("{name}: {before} -> {after}"),
            other => describe(other),
        };
        self.stopped("data breakpoint", &text)
    }

    /// All breakpoints.
    fn stops(&mut self) -> Result<Stops> {
        let exceptions = &self.breakpoints.exceptions;
        Ok(Stops {
            breakpoints: self.breakpoints.lines.iter().map(|(_, breakpoint)| breakpoint.clone()).collect(),
            functions: self.breakpoints.functions.clone(),
            exceptions: exceptions.raised.then(|| exceptions.clone()),
            watches: self.breakpoints.watches.clone(),
            mine_only: self.debuggee.as_ref().is_some_and(|debuggee| debuggee.mine_only),
            ..Stops::default()
        })
    }

    // ---- breakpoints ----

    fn new_id(&mut self) -> i64 {
        self.breakpoints.next += 1;
        self.breakpoints.next - 1
    }

    fn set_breakpoints(&mut self, request: &Request) -> Result<Value> {
        let wanted = request.get("breakpoints").as_array().cloned().unwrap_or_default();
        if self.debuggee.is_none() {
            // They are checked when there is a recording.
            self.waiting.retain(|earlier| earlier.get("source")["path"] != request.get("source")["path"]);
            self.waiting.push(request.clone());
            let unverified = wanted.iter().map(|wanted| {
                json!({ "verified": false, "line": wanted["line"], "message": "the recording is not open yet" })
            });
            return Ok(json!({ "breakpoints": unverified.collect::<Vec<_>>() }));
        }
        let debuggee = self.debuggee()?;
        let Some(path) = debuggee.sources.path_of(request.get("source")) else {
            return message("setBreakpoints: the source has no path");
        };
        let lines = self.lines_of(&path);
        self.breakpoints.lines.retain(|(other, _)| *other != path);
        let mut answers = Vec::new();
        for wanted in &wanted {
            let id = self.new_id();
            let line = wanted["line"].as_u64().unwrap_or(0) as u32;
            // Where a line has no code, the next one that has.
            let place = match &lines {
                Some(lines) => lines.iter().copied().find(|code| *code >= line),
                None => Some(line),
            };
            let Some(place) = place else {
                answers.push(
                    json!({ "id": id, "verified": false, "line": line, "message": "no code at or after this line" }),
                );
                continue;
            };
            let text = |name: &str| wanted[name].as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned);
            let hits = match text("hitCondition").map(|text| parse_hits(&text)) {
                Some(None) => {
                    let what = "a hit condition is a number, `>= number` or `% number`";
                    answers.push(json!({ "id": id, "verified": false, "line": line, "message": what }));
                    continue;
                }
                Some(hits) => hits,
                None => None,
            };
            let breakpoint = Breakpoint {
                id,
                path: path.clone(),
                line: place,
                condition: text("condition"),
                log: text("logMessage"),
                hits,
            };
            self.breakpoints.lines.push((path.clone(), breakpoint));
            let mut answer = json!({ "id": id, "verified": lines.is_some(), "line": place });
            if lines.is_none() {
                answer["message"] = "the recording has no source of this file: the program did not load it".into();
            } else if place != line {
                answer["message"] = format!("line {line} has no code; this is the next one that has").into();
            }
            answers.push(answer);
        }
        Ok(json!({ "breakpoints": answers }))
    }

    /// The lines of a recorded source that have code. `None` where the recording has no such source.
    fn lines_of(&mut self, path: &str) -> Option<Vec<u32>> {
        let debuggee = self.debuggee.as_mut()?;
        let source = debuggee.sources.contents(path)?;
        if debuggee.timeline.present().is_err() {
            // Code is compiled by the recorded interpreter, which has to stand somewhere.
            let mine_only = debuggee.mine_only;
            let position = debuggee.timeline.end_of(0, mine_only).ok().flatten()?;
            debuggee.timeline.go_to(position).ok()?;
        }
        let question = json!({ "ask": "lines", "source": source, "path": path });
        let lines = debuggee.timeline.ask(question, false).ok()?;
        Some(lines.as_array()?.iter().filter_map(|line| Some(line.as_u64()? as u32)).collect())
    }

    fn set_function_breakpoints(&mut self, request: &Request) -> Value {
        self.breakpoints.functions.clear();
        let mut answers = Vec::new();
        for wanted in request.get("breakpoints").as_array().into_iter().flatten() {
            let id = self.new_id();
            self.breakpoints.functions.push(FunctionBreakpoint {
                id,
                name: wanted["name"].as_str().unwrap_or_default().to_owned(),
                condition: wanted["condition"].as_str().filter(|text| !text.is_empty()).map(str::to_owned),
            });
            answers.push(json!({ "id": id, "verified": true }));
        }
        json!({ "breakpoints": answers })
    }

    fn set_exception_breakpoints(&mut self, request: &Request) -> Value {
        let mut exceptions = Exceptions::default();
        let mut set = |name: &str, condition: Option<&str>| {
            match name {
                "raised" => exceptions.raised = true,
                "uncaught" | "unhandled" => exceptions.uncaught = true,
                _ => return,
            }
            let classes = condition.unwrap_or_default().split(',').map(str::trim).filter(|class| !class.is_empty());
            exceptions.classes.extend(classes.map(str::to_owned));
        };
        let filters = request.get("filters").as_array().into_iter().flatten();
        filters.filter_map(Value::as_str).for_each(|name| set(name, None));
        for option in request.get("filterOptions").as_array().into_iter().flatten() {
            set(option["filterId"].as_str().unwrap_or_default(), option["condition"].as_str());
        }
        for option in request.get("exceptionOptions").as_array().into_iter().flatten() {
            let path = option["path"].as_array().into_iter().flatten();
            for name in path.flat_map(|part| part["names"].as_array().into_iter().flatten()).filter_map(Value::as_str) {
                let mode = option["breakMode"].as_str().unwrap_or("always");
                set(if mode == "always" { "raised" } else { mode }, Some(name));
            }
        }
        self.breakpoints.exceptions = exceptions;
        json!({})
    }

    fn data_breakpoint_info(&mut self, request: &Request) -> Result<Value> {
        let watch = self.watch_of(request, 0)?;
        let id = serde_json::to_string(&watch).unwrap_or_default();
        Ok(json!({ "dataId": id, "description": watch.expression, "accessTypes": ["write"], "canPersist": false }))
    }

    fn set_data_breakpoints(&mut self, request: &Request) -> Result<Value> {
        self.breakpoints.watches.clear();
        let mut answers = Vec::new();
        for wanted in request.get("breakpoints").as_array().into_iter().flatten() {
            let id = self.new_id();
            match serde_json::from_str::<Watch>(wanted["dataId"].as_str().unwrap_or_default()) {
                Ok(watch) => {
                    self.breakpoints.watches.push(Watch { id, ..watch });
                    answers.push(json!({ "id": id, "verified": true }));
                }
                Err(_) => answers.push(json!({ "id": id, "verified": false, "message": "unknown data" })),
            }
        }
        Ok(json!({ "breakpoints": answers }))
    }

    /// What is watched: an expression in a frame, or a variable.
    fn watch_of(&mut self, request: &Request, id: i64) -> Result<Watch> {
        let debuggee = self.debuggee()?;
        let (thread, frame, expression) = match request.int("variablesReference").filter(|n| *n > 0) {
            Some(reference) => {
                let parent = debuggee.reference(reference)?;
                let name = request.text("name");
                let question = parent.question("variables");
                let children = debuggee.timeline.ask(question, false)?;
                let child = children.as_array().into_iter().flatten().find(|child| child["name"] == name);
                let Some(expression) = child.and_then(|child| child["evaluateName"].as_str()) else {
                    return message(format!("{name} is nothing that can be watched"));
                };
                (parent.thread, Some(parent.frame), expression.to_owned())
            }
            None => {
                let expression = match request.text("expression") {
                    "" => request.text("name"),
                    expression => expression,
                };
                match request.int("frameId") {
                    Some(id) => {
                        let (thread, frame) = debuggee.frame(id)?;
                        (thread, Some(frame), expression.to_owned())
                    }
                    None => (debuggee.timeline.present()?.at.thread, None, expression.to_owned()),
                }
            }
        };
        let frame = match frame {
            None => None,
            Some(frame) => {
                let stack = debuggee.timeline.ask(json!({ "ask": "stack", "thread": thread }), false)?;
                let entries = stack.as_array().cloned().unwrap_or_default();
                let entry = entries.iter().find(|entry| entry["frame"].as_u64() == Some(frame));
                let function = entry.map_or("", |entry| entry["name"].as_str().unwrap_or_default()).to_owned();
                Some(WatchFrame { thread, depth: frame as u16 + 1, function })
            }
        };
        Ok(Watch { id, expression, frame, text: None })
    }

    fn breakpoint_locations(&mut self, request: &Request) -> Result<Value> {
        let Some(path) = self.debuggee()?.sources.path_of(request.get("source")) else {
            return message("breakpointLocations: the source has no path");
        };
        let first = request.int("line").unwrap_or(1);
        let last = request.int("endLine").unwrap_or(first);
        let lines = self.lines_of(&path).unwrap_or_default();
        let lines = lines.into_iter().filter(|line| (first..=last).contains(&i64::from(*line)));
        Ok(json!({ "breakpoints": lines.map(|line| json!({ "line": line })).collect::<Vec<_>>() }))
    }

    // ---- state ----

    fn threads(&mut self) -> Result<Value> {
        let Some(debuggee) = &mut self.debuggee else { return Ok(json!({ "threads": [] })) };
        if debuggee.timeline.present().is_err() {
            return Ok(json!({ "threads": [{ "id": 1, "name": "MainThread" }] }));
        }
        let threads = debuggee.timeline.ask(json!({ "ask": "threads" }), false)?;
        let threads = threads.as_array().into_iter().flatten();
        let threads =
            threads.map(|thread| json!({ "id": thread["thread"].as_i64().unwrap_or(0) + 1, "name": thread["name"] }));
        Ok(json!({ "threads": threads.collect::<Vec<_>>() }))
    }

    fn stack_trace(&mut self, request: &Request) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let thread = request.int("threadId").and_then(|id| u32::try_from(id - 1).ok()).unwrap_or(0);
        let stack = debuggee.timeline.ask(json!({ "ask": "stack", "thread": thread }), false)?;
        let entries = stack.as_array().cloned().unwrap_or_default();
        let start = request.int("startFrame").unwrap_or(0).max(0) as usize;
        let levels = request.int("levels").filter(|levels| *levels > 0).map_or(usize::MAX, |levels| levels as usize);
        let mut frames = Vec::new();
        for entry in entries.iter().skip(start).take(levels) {
            let path = entry["path"].as_str().unwrap_or_default();
            debuggee.frames.push((thread, entry["frame"].as_u64().unwrap_or(0)));
            let mut frame = json!({
                "id": debuggee.frames.len(),
                "name": entry["name"],
                "source": debuggee.sources.describe(path),
                "line": entry["line"],
                "column": entry["column"].as_i64().unwrap_or(1),
                "moduleId": entry["module"],
            });
            if path.starts_with("<frozen ") {
                frame["presentationHint"] = "subtle".into();
            }
            frames.push(frame);
        }
        Ok(json!({ "stackFrames": frames, "totalFrames": entries.len() }))
    }

    fn scopes(&mut self, request: &Request) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let (thread, frame) = debuggee.frame(request.int("frameId").unwrap_or(0))?;
        let scopes = debuggee.timeline.ask(json!({ "ask": "scopes", "thread": thread, "frame": frame }), false)?;
        let mut answers = Vec::new();
        for scope in scopes.as_array().into_iter().flatten() {
            let root = scope["root"].as_str().unwrap_or_default();
            let reference = debuggee.add(Reference {
                thread,
                frame,
                root: root.to_owned(),
                expression: None,
                steps: json!([]),
                name: None,
                lazy: false,
            });
            let mut answer =
                json!({ "name": scope["name"], "variablesReference": reference, "expensive": root == "globals" });
            if root == "locals" {
                answer["presentationHint"] = "locals".into();
            }
            answers.push(answer);
        }
        Ok(json!({ "scopes": answers }))
    }

    fn variables(&mut self, request: &Request) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let parent = debuggee.reference(request.int("variablesReference").unwrap_or(0))?;
        let mut question = parent.question(if parent.lazy { "lazy" } else { "variables" });
        for name in ["start", "count", "filter"] {
            question[name] = request.get(name).clone();
        }
        let children = debuggee.timeline.ask(question, false)?;
        let variables = children.as_array().into_iter().flatten();
        let variables: Vec<Value> = variables.map(|child| debuggee.variable(child, &parent)).collect();
        Ok(json!({ "variables": variables }))
    }

    fn evaluate(&mut self, request: &Request) -> Result<Value> {
        let context = request.text("context").to_owned();
        let expression = request.text("expression").to_owned();
        let debuggee = self.debuggee()?;
        let frame = match request.int("frameId") {
            Some(id) => Some(debuggee.frame(id)?),
            None => None,
        };
        let at = debuggee.timeline.present()?.at.thread;
        let (thread, number) = frame.map_or((at, Value::Null), |(thread, frame)| (thread, json!(frame)));
        let lasting = context == "repl";
        let question = json!({
            "ask": "evaluate", "thread": thread, "frame": number, "expression": expression,
            "statements": lasting, "full": context == "clipboard",
        });
        let was_diverted = debuggee.timeline.is_diverted();
        // An expression leaves no trace; a statement is there to leave one, in the diversion.
        let answer = match debuggee.timeline.ask(question.clone(), false) {
            Ok(answer) if lasting && answer["statement"] == true => debuggee.timeline.ask(question, true)?,
            other => other?,
        };
        let is_new = debuggee.timeline.is_diverted() && !was_diverted;
        let reference = match (answer["children"].as_bool(), frame) {
            (Some(true), Some((thread, frame))) => debuggee.add(Reference {
                thread,
                frame,
                root: "expression".to_owned(),
                expression: Some(expression.clone()),
                steps: json!([]),
                name: Some(expression),
                lazy: false,
            }),
            _ => 0,
        };
        let output = answer["output"].as_str().unwrap_or_default().to_owned();
        if !output.is_empty() && lasting {
            self.say("console", &output);
        }
        if is_new {
            self.say("console", DIVERSION);
        }
        let mut body = json!({ "result": answer["value"], "type": answer["type"], "variablesReference": reference });
        if answer["indexed"].is_u64() {
            body["indexedVariables"] = answer["indexed"].clone();
        }
        Ok(body)
    }

    fn set_variable(&mut self, request: &Request) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let parent = debuggee.reference(request.int("variablesReference").unwrap_or(0))?;
        let mut question = parent.question("assign");
        question["name"] = request.get("name").clone();
        question["value"] = request.get("value").clone();
        self.change(question)
    }

    fn set_expression(&mut self, request: &Request) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let (thread, frame) = debuggee.frame(request.int("frameId").unwrap_or(0))?;
        self.change(json!({
            "ask": "set_expression", "thread": thread, "frame": frame,
            "expression": request.get("expression"), "value": request.get("value"),
        }))
    }

    fn change(&mut self, question: Value) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let was_diverted = debuggee.timeline.is_diverted();
        let answer = debuggee.timeline.ask(question, true)?;
        if !was_diverted {
            self.say("console", DIVERSION);
        }
        Ok(json!({ "value": answer["value"], "type": answer["type"], "variablesReference": 0 }))
    }

    fn completions(&mut self, request: &Request) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let at = debuggee.timeline.present()?.at.thread;
        let (thread, frame) = match request.int("frameId") {
            Some(id) => debuggee.frame(id).map(|(thread, frame)| (thread, json!(frame)))?,
            None => (at, Value::Null),
        };
        let column = (request.int("column").unwrap_or(1).max(1) - 1) as usize;
        let text: String = request.text("text").chars().take(column).collect();
        let question = json!({ "ask": "completions", "thread": thread, "frame": frame, "text": text });
        let targets = debuggee.timeline.ask(question, false).unwrap_or_else(|_| json!([]));
        Ok(json!({ "targets": targets }))
    }

    fn exception_info(&mut self) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let info = debuggee.timeline.ask(json!({ "ask": "exception" }), false)?;
        if info.is_null() {
            return message("no exception passes here");
        }
        let position = debuggee.timeline.present()?.position();
        let uncaught = debuggee.timeline.crash().ok().flatten() == Some(position);
        Ok(json!({
            "exceptionId": info["class"], "description": info["message"],
            "breakMode": if uncaught { "unhandled" } else { "always" },
            "details": {
                "message": info["message"], "typeName": info["class"], "fullTypeName": info["class"],
                "stackTrace": info["stack"],
            },
        }))
    }

    fn source(&mut self, request: &Request) -> Result<Value> {
        let sources = &self.debuggee()?.sources;
        let mut source = request.get("source").clone();
        if source.is_null() {
            source = json!({ "sourceReference": request.get("sourceReference") });
        }
        match sources.path_of(&source).and_then(|path| sources.contents(&path)) {
            Some(content) => Ok(json!({ "content": content, "mimeType": "text/x-python" })),
            None => message("the recording has no such source"),
        }
    }

    fn modules(&mut self) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let modules = debuggee.timeline.ask(json!({ "ask": "modules" }), false)?;
        let modules: Vec<Value> = modules
            .as_array()
            .into_iter()
            .flatten()
            .map(|module| {
                json!({ "id": module["name"], "name": module["name"], "path": module["path"], "version": module["version"] })
            })
            .collect();
        Ok(json!({ "modules": modules, "totalModules": modules.len() }))
    }

    // ---- the recording ----

    fn processes(&mut self) -> Result<Value> {
        let trace = &self.debuggee()?.trace;
        let processes = trace.processes().into_iter().map(|summary| {
            let start = summary.start.as_ref();
            let argv = start.and_then(|start| start.arguments("argv")).unwrap_or_default();
            let argv: Vec<String> = argv.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect();
            json!({
                "number": summary.index,
                "pid": start.and_then(|start| start.int("pid")),
                "parent": start.and_then(|start| start.parent()),
                "argv": argv,
                "forked": start.is_some_and(|start| start.forked().is_some()),
                "end": end_of(trace, summary.index),
            })
        });
        Ok(json!({ "processes": processes.collect::<Vec<_>>() }))
    }

    fn timeline(&mut self, request: &Request) -> Result<Value> {
        let start = request.int("start").unwrap_or(0).max(0) as u64;
        let count = request.int("count").filter(|count| *count >= 0).map(|count| count as u64);
        let detail = request.int("detail").filter(|detail| *detail > 0).unwrap_or(2000) as usize;
        let debuggee = self.debuggee()?;
        let (end, events) = list_events(&debuggee.trace, debuggee.process, start, count, detail);
        let threads = self.threads()?["threads"].clone();
        let debuggee = self.debuggee()?;
        debuggee.timeline.crash()?;
        let exceptions: Vec<Value> = debuggee
            .timeline
            .raised()
            .map(|(window, at, uncaught)| {
                let class = match &at.cause {
                    Cause::Exception { class, .. } => class.as_str(),
                    _ => "",
                };
                json!({
                    "event": at.event, "thread": at.thread + 1, "type": class, "message": "",
                    "uncaught": uncaught, "position": position_json(window, at),
                })
            })
            .collect();
        let current = debuggee.timeline.present().ok().map(|present| {
            json!({ "position": position_json(present.window, &present.at), "thread": present.at.thread + 1 })
        });
        Ok(json!({
            "end": end, "threads": threads, "events": events, "exceptions": exceptions, "hits": [], "current": current,
        }))
    }
}

const DIVERSION: &str =
    "retrace: this is changed in a diversion from the recording, which ends with the next movement\n";

impl Debuggee {
    fn frame(&self, id: i64) -> Result<(u32, u64)> {
        let frame = usize::try_from(id - 1).ok().and_then(|place| self.frames.get(place));
        frame.copied().ok_or_else(|| Failure::Message("that frame is not there any more".to_owned()))
    }

    fn reference(&self, number: i64) -> Result<Reference> {
        let reference = usize::try_from(number - 1).ok().and_then(|place| self.references.get(place));
        reference.cloned().ok_or_else(|| Failure::Message("that variable is not there any more".to_owned()))
    }

    fn add(&mut self, reference: Reference) -> usize {
        self.references.push(reference);
        self.references.len()
    }

    /// DAP's form of an entry of `inspect.py`.
    fn variable(&mut self, child: &Value, parent: &Reference) -> Value {
        let mut variable = json!({ "name": child["name"], "value": child["value"], "type": child["type"] });
        let lazy = child["lazy"] == true;
        let mut reference = 0;
        if child["children"] == true {
            reference = self.add(Reference {
                steps: child["steps"].clone(),
                name: child["evaluateName"].as_str().map(str::to_owned),
                lazy,
                ..parent.clone()
            });
        }
        variable["variablesReference"] = reference.into();
        for (from, to) in [("evaluateName", "evaluateName"), ("indexed", "indexedVariables")] {
            if !child[from].is_null() {
                variable[to] = child[from].clone();
            }
        }
        if lazy || !child["attributes"].is_null() {
            variable["presentationHint"] = json!({ "lazy": lazy, "attributes": child["attributes"] });
            if child["attributes"].is_null() {
                variable["presentationHint"] = json!({ "lazy": true });
            }
        }
        variable
    }
}

impl Reference {
    fn question(&self, ask: &str) -> Value {
        json!({
            "ask": ask, "thread": self.thread, "frame": self.frame, "root": self.root,
            "expression": self.expression, "steps": self.steps, "name": self.name,
        })
    }
}

fn position_json(window: usize, at: &Stopped) -> Value {
    json!({ "event": at.event, "ticks": at.since, "window": window, "tick": at.tick, "raise": at.raise })
}

fn describe(cause: &Cause) -> String {
    match cause {
        Cause::Exception { class, .. } => class.clone(),
        Cause::Change { before, after, .. } => format!("{before} -> {after}"),
        _ => String::new(),
    }
}

fn parse_hits(text: &str) -> Option<Hits> {
    let text = text.trim();
    for (sign, make) in
        [(">=", Hits::AtLeast as fn(u64) -> Hits), ("==", Hits::Equal), ("=", Hits::Equal), ("%", Hits::Every)]
    {
        if let Some(rest) = text.strip_prefix(sign) {
            return rest.trim().parse().ok().map(make);
        }
    }
    if let Some(rest) = text.strip_prefix('>') {
        return rest.trim().parse::<u64>().ok().map(|n| Hits::AtLeast(n + 1));
    }
    text.parse().ok().map(Hits::Equal)
}

/// The main program's source lies in the start event.
fn add_main_source(trace: &Trace, process: u32, sources: &mut Sources) {
    let Ok(descent) = trace.descent(process) else { return };
    let Some(start) = trace.start(descent.ancestor) else { return };
    if let (Some("file"), Some(main), Some(retrace_replay::Value::Bytes(source))) =
        (start.string("run").as_deref(), start.string("main"), start.get("main_source"))
    {
        sources.add(&main, source);
    }
}

fn end_of(trace: &Trace, process: u32) -> String {
    let mut end = "ended abruptly".to_owned();
    let Ok(mut stream) = trace.events(process) else { return end };
    while let Ok(Some((_, event))) = stream.next_event() {
        match event {
            Event::End { status: -1 } => end = "ended".to_owned(),
            Event::End { status } => end = format!("exited with status {status}"),
            Event::Stopped(reason) => end = format!("recording stopped: {}", reason.to_string_lossy()),
            _ => {}
        }
    }
    end
}

/// The number of events, and calls among them, thinned evenly.
fn list_events(trace: &Trace, process: u32, start: u64, count: Option<u64>, detail: usize) -> (u64, Vec<Value>) {
    let Ok(mut stream) = trace.events(process) else { return (0, Vec::new()) };
    let (mut end, mut thread, mut names, mut events) = (0, 0, std::collections::BTreeMap::new(), Vec::new());
    while let Ok(Some((index, event))) = stream.next_event() {
        end = index.0 + 1;
        let in_range = index.0 >= start && count.is_none_or(|count| index.0 - start < count);
        match event {
            Event::Hooks { first, hooks } => {
                names.extend((first..).zip(hooks.into_iter().map(|hook| hook.name.to_string_lossy())));
            }
            Event::Switch { thread: next, .. } => thread = next,
            Event::Call(call) if in_range => {
                let function = names.get(&u64::from(call.hook)).cloned().unwrap_or_default();
                events.push(json!({ "index": index.0, "thread": thread + 1, "function": function, "kind": "call" }));
            }
            Event::Signal { number, .. } if in_range => {
                let function = format!("signal {number}");
                events.push(json!({ "index": index.0, "thread": thread + 1, "function": function, "kind": "signal" }));
            }
            Event::Fork { .. } if in_range => {
                events.push(json!({ "index": index.0, "thread": thread + 1, "function": "fork", "kind": "fork" }));
            }
            _ => {}
        }
    }
    if events.len() > detail {
        let all = events.len();
        let mut place = 0;
        events.retain(|_| {
            place += 1;
            (place - 1) * detail / all != place * detail / all
        });
    }
    (end, events)
}

fn capabilities() -> Value {
    json!({
        "supportsConfigurationDoneRequest": true,
        "supportsFunctionBreakpoints": true,
        "supportsConditionalBreakpoints": true,
        "supportsHitConditionalBreakpoints": true,
        "supportsLogPoints": true,
        "supportsEvaluateForHovers": true,
        "supportsStepBack": true,
        "supportsSetVariable": true,
        "supportsSetExpression": true,
        "supportsCompletionsRequest": true,
        "completionTriggerCharacters": ["."],
        "supportsModulesRequest": true,
        "supportsLoadedSourcesRequest": true,
        "supportsExceptionOptions": true,
        "supportsExceptionFilterOptions": true,
        "supportsExceptionInfoRequest": true,
        "supportsValueFormattingOptions": false,
        "supportsDelayedStackTraceLoading": true,
        "supportsTerminateRequest": true,
        "supportsDataBreakpoints": true,
        "supportsBreakpointLocationsRequest": true,
        "supportsCancelRequest": true,
        "supportsClipboardContext": true,
        "exceptionBreakpointFilters": [
            { "filter": "raised", "label": "Raised Exceptions", "supportsCondition": true,
              "conditionDescription": "Classes, separated by commas" },
            { "filter": "uncaught", "label": "Uncaught Exceptions", "default": true },
        ],
    })
}
