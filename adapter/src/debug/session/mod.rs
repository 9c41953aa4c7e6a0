//! A session of the Debug Adapter Protocol: its beginning and end, and which request is answered where.

mod breakpoints;
mod code;
mod movement;
mod progress;
mod recording;
mod state;

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use retrace_replay::Trace;
use retrace_replay::debug_protocol::{Cause, Stopped};
use serde_json::{Value, json};

use super::debuggee::{Debuggee, Landmark, THE_END};
use super::engine::{Cancel, Failure, Result, message};
use super::protocol::{self, Incoming, Request, Writer};
use super::sources::Mapping;
use crate::cli::{PATIENCE, ReplayArguments};
use crate::error::CliError;
use breakpoints::Breakpoints;
use progress::Progress;
use state::Handles;

/// How often it is looked what a replay does that still runs.
const MEANWHILE: Duration = Duration::from_millis(20);

/// Output of the program that is sent at a time, unless it was written at once.
const OUTPUT: usize = 32 << 10;

/// What the reader of requests and the session know of each other.
#[derive(Clone, Default)]
struct Shared {
    cancel: Cancel,
    /// Requests that wait for their turn.
    waiting: Arc<AtomicUsize>,
    turn: Arc<Mutex<Turn>>,
}

/// Whose turn it is.
#[derive(Default)]
struct Turn {
    /// The request that is being answered.
    current: Option<i64>,
    /// It is not to be answered any more.
    is_given_up: bool,
    /// Requests to come that are not to be answered either.
    cancelled: HashSet<i64>,
}

impl Shared {
    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request has come.
    fn see(&self, request: &mut Request) {
        match &*request.command {
            "pause" | "disconnect" | "terminate" => {
                request.has_asked = true;
                self.cancel.ask();
            }
            "cancel" => {
                let mut turn = self.turn();
                let is_current = match request.int("requestId") {
                    Some(id) if turn.current != Some(id) => {
                        turn.cancelled.insert(id);
                        false
                    }
                    Some(_) => true,
                    None => turn.current.is_some_and(|id| request.text("progressId") == progress::id_of(id)),
                };
                if is_current && !std::mem::replace(&mut turn.is_given_up, true) {
                    self.cancel.ask();
                }
            }
            _ => {}
        }
    }

    /// A request's turn begins. False where it was cancelled.
    fn begin(&self, request: &Request) -> bool {
        if request.has_asked {
            self.cancel.answer();
        }
        let mut turn = self.turn();
        turn.current = Some(request.seq);
        let is_cancelled = turn.cancelled.remove(&request.seq);
        turn.cancelled.retain(|other| *other > request.seq);
        !is_cancelled
    }

    fn end(&self) {
        let mut turn = self.turn();
        turn.current = None;
        if std::mem::take(&mut turn.is_given_up) {
            self.cancel.answer();
        }
    }
}

/// Serves one client until it leaves. Whatever it leaves behind ends then.
pub fn serve(from: impl Read + Send + 'static, to: impl Write + Send + 'static) {
    let shared = Shared::default();
    let seen = shared.clone();
    let (incoming, to) = protocol::connect(from, to, move |incoming| {
        seen.waiting.fetch_add(1, Ordering::Relaxed);
        match incoming {
            // A movement in progress ends; the request itself waits for its turn.
            Incoming::Request(request) => seen.see(request),
            Incoming::Gone => seen.cancel.ask(),
            Incoming::Malformed(_) => {}
        }
    });
    Session::new(to.clone(), shared).run(&incoming);
    to.close();
}

struct Session {
    to: Writer,
    shared: Shared,
    progress: Rc<RefCell<Progress>>,
    debuggee: Option<Debuggee>,
    handles: Handles,
    breakpoints: Breakpoints,
    stop_on: StopOn,
    configured: bool,
    /// Breakpoints that were set before there was a recording: what the client asked for.
    waiting: Vec<Request>,
}

impl Session {
    fn new(to: Writer, shared: Shared) -> Session {
        let progress = Rc::new(RefCell::new(Progress::new(to.clone())));
        Session {
            to,
            shared,
            progress,
            debuggee: None,
            handles: Handles::default(),
            breakpoints: Breakpoints::default(),
            stop_on: StopOn::Crash,
            configured: false,
            waiting: Vec::new(),
        }
    }

    fn run(mut self, incoming: &Receiver<Incoming>) {
        loop {
            // While the replay still runs, what it does is taken in.
            let is_partial = self.debuggee.as_mut().is_some_and(|debuggee| debuggee.timeline.pump());
            let incoming = match is_partial {
                true => incoming.recv_timeout(MEANWHILE),
                false => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let incoming = match incoming {
                Ok(incoming) => incoming,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            match incoming {
                Incoming::Gone => return,
                Incoming::Malformed(what) => self.say("important", &format!("retrace: {what}\n")),
                Incoming::Request(request) => {
                    if self.take(&request) {
                        return;
                    }
                }
            }
        }
    }

    /// Answers a request. True where it was the last one.
    fn take(&mut self, request: &Request) -> bool {
        let is_wanted = self.shared.begin(request);
        self.progress.borrow_mut().begin(request.seq);
        let result = if is_wanted { self.handle(request) } else { Err(Failure::Cancelled) };
        self.progress.borrow_mut().end();
        self.shared.end();
        if let Err(failure) = result {
            self.to.fail(request, &failure.to_string());
        }
        if request.is_last() {
            self.debuggee = None;
            self.to.event("terminated", json!({}));
        }
        request.command == "disconnect"
    }

    fn say(&mut self, category: &str, text: &str) {
        self.to.event("output", json!({ "category": category, "output": text }));
    }

    fn debuggee(&mut self) -> Result<&mut Debuggee> {
        Ok(self.parts()?.0)
    }

    fn parts(&mut self) -> Result<(&mut Debuggee, &mut Handles)> {
        match &mut self.debuggee {
            Some(debuggee) => Ok((debuggee, &mut self.handles)),
            None => message("no recording has been launched"),
        }
    }

    fn handle(&mut self, request: &Request) -> Result<()> {
        if !(request.arguments.is_null() || request.arguments.is_object()) {
            return message(format!("{}: the arguments must be an object", request.command));
        }
        let body = match &*request.command {
            "initialize" => {
                self.progress.borrow_mut().is_wanted = request.get("supportsProgressReporting") == true;
                self.to.respond(request, capabilities());
                self.to.event("initialized", json!({}));
                return Ok(());
            }
            "launch" | "attach" => return self.launch(request),
            "configurationDone" => return self.configuration_done(request),
            "disconnect" | "terminate" | "cancel" | "pause" => json!({}),
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
            "stepInTargets" => self.step_in_targets(request)?,
            "disassemble" => self.disassemble(request)?,
            "breakpointLocations" => self.breakpoint_locations(request)?,
            "processes" => self.processes()?,
            "timeline" => self.timeline(request)?,
            other => return message(format!("the request {other} is not supported")),
        };
        self.to.respond(request, body);
        Ok(())
    }

    fn launch(&mut self, request: &Request) -> Result<()> {
        let path = request.text("recording");
        if path.is_empty() {
            return message("launch: \"recording\" must name a recording");
        }
        let python = request.get("python");
        if !(python.is_null() || python.is_string()) {
            return message("launch: \"python\" must be a path");
        }
        let mine_only = request.get("justMyCode");
        if !(mine_only.is_null() || mine_only.is_boolean()) {
            return message("launch: \"justMyCode\" must be true or false");
        }
        let stop_on = StopOn::of(request)?;
        let mappings = mappings_of(request)?;
        let arguments = ReplayArguments {
            file: PathBuf::from(path),
            process: process_of(request, path)?,
            python: python.as_str().map(PathBuf::from),
            strict: false,
            quiet: true,
            patience: PATIENCE,
        };
        // Another recording's processes would be too many.
        self.debuggee = None;
        let mut debuggee = Debuggee::open(&arguments, mappings, self.shared.cancel.clone())?;
        debuggee.mine_only = mine_only.as_bool().unwrap_or(true);
        let progress = Rc::clone(&self.progress);
        debuggee.timeline.progress = Some(Box::new(move |done, all| progress.borrow_mut().tell(done, all)));
        self.stop_on = stop_on;
        // The beginning is there while the replay still runs.
        let said = if stop_on == StopOn::Entry { String::new() } else { debuggee.finish()? };
        self.debuggee = Some(debuggee);
        self.handles = Handles::default();
        self.to.respond(request, json!({}));
        if !said.is_empty() {
            self.say("console", &said);
        }
        let method = if request.command == "attach" { "attach" } else { "launch" };
        self.to.event("process", json!({ "name": path, "startMethod": method, "isLocalProcess": true }));
        for request in std::mem::take(&mut self.waiting) {
            let body = match &*request.command {
                "setFunctionBreakpoints" => self.set_function_breakpoints(&request),
                _ => self.set_breakpoints(&request)?,
            };
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
        let stop_on = self.stop_on;
        let debuggee = self.debuggee()?;
        let went = match stop_on {
            StopOn::Crash => debuggee.go_to_crash_or_end(),
            StopOn::Entry => debuggee.go_to_landmark(Landmark::Start),
            StopOn::End => debuggee.go_to_landmark(Landmark::End),
        };
        let text = match went {
            Ok(text) => text.to_owned(),
            Err(failure) => format!("nothing to stop at: {failure}"),
        };
        self.stopped("entry", &text)
    }

    /// Says that the debugger stands somewhere.
    fn stopped(&mut self, why: &str, text: &str) -> Result<()> {
        let (debuggee, handles) = self.parts()?;
        *handles = Handles::default();
        debuggee.timeline.expect_questions();
        let said = debuggee.timeline.take_said();
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
            let warning = warning.trim_start_matches("retrace: ").trim_end();
            self.say("console", &format!("retrace: {warning}\n"));
        }
        let Some((window, at)) = present else {
            self.say("important", &format!("retrace: {text}\n"));
            self.to.event("terminated", json!({}));
            return Ok(());
        };
        self.show_output();
        let why = match (&at.cause, why) {
            // Though it may be the crash: who goes on while there are exceptions comes to an end.
            _ if text == THE_END => why,
            (_, "entry") if at.raise > 0 => "exception",
            (Cause::Exception { .. }, _) => "exception",
            (Cause::Breakpoint(id), "breakpoint") if self.breakpoints.is_on_function(*id) => "function breakpoint",
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
    fn show_output(&mut self) {
        let Some(debuggee) = &mut self.debuggee else { return };
        // What a program writes piece by piece is not worth a message each.
        let mut pieces = debuggee.new_output().iter().peekable();
        while let Some(first) = pieces.next() {
            let mut text = first.text.clone();
            while let Some(more) = pieces.next_if(|more| more.stream == first.stream && text.len() < OUTPUT) {
                text.push_str(&more.text);
            }
            let category = if first.stream == 2 { "stderr" } else { "stdout" };
            self.to.event("output", json!({ "category": category, "output": text }));
        }
    }
}

/// Where a session stops first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopOn {
    /// Or at the end, where there was none.
    Crash,
    Entry,
    End,
}

impl StopOn {
    fn of(request: &Request) -> Result<StopOn> {
        match request.get("stopOn") {
            Value::Null => Ok(StopOn::Crash),
            wanted => match wanted.as_str() {
                Some("crash") => Ok(StopOn::Crash),
                Some("entry" | "start") => Ok(StopOn::Entry),
                Some("end") => Ok(StopOn::End),
                _ => message("launch: \"stopOn\" must be \"crash\", \"entry\" or \"end\""),
            },
        }
    }
}

/// Where the recorded folders are here.
fn mappings_of(request: &Request) -> Result<Vec<Mapping>> {
    let wanted = request.get("pathMappings");
    let root = |mapping: &Value, name: &str| {
        mapping[name].as_str().filter(|root| !root.is_empty()).map(|root| root.trim_end_matches('/').to_owned())
    };
    let mapping = |mapping| Some(Mapping { local: root(mapping, "localRoot")?, remote: root(mapping, "remoteRoot")? });
    let mappings = match wanted {
        Value::Null => Some(Vec::new()),
        wanted => wanted.as_array().and_then(|all| all.iter().map(mapping).collect()),
    };
    let what = "launch: \"pathMappings\" must be a list of {\"localRoot\": folder, \"remoteRoot\": folder}";
    mappings.map_or_else(|| message(what), Ok)
}

/// The process that is to be debugged: by its number in the recording, or by the pid that it had.
fn process_of(request: &Request, path: &str) -> Result<u32> {
    let wanted = request.get("process");
    if !wanted.is_null() {
        let number = wanted.as_u64().and_then(|number| u32::try_from(number).ok());
        return number.map_or_else(|| message("launch: \"process\" must be the number of a process"), Ok);
    }
    let wanted = request.get("processId");
    if wanted.is_null() {
        return Ok(0);
    }
    let Some(pid) = wanted.as_i64() else {
        return message("launch: \"processId\" must be the pid of a recorded process");
    };
    let trace = Trace::open(Path::new(path)).map_err(CliError::from)?;
    let is_it = |start: &retrace_replay::start::Start| start.int("pid") == Some(pid);
    let found = trace.processes().into_iter().find(|process| process.start.as_ref().is_some_and(is_it));
    found.map_or_else(|| message(format!("no process of {path} had the pid {pid}")), |process| Ok(process.index))
}

fn position_json(window: usize, at: &Stopped) -> Value {
    json!({
        "event": at.event, "ticks": at.since, "window": window, "tick": at.tick, "raise": at.raise,
        "instruction": at.instruction,
    })
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
        "supportsSteppingGranularity": true,
        "supportsStepInTargetsRequest": true,
        "supportsDisassembleRequest": true,
        "supportsSetVariable": true,
        "supportsSetExpression": true,
        "supportsCompletionsRequest": true,
        "completionTriggerCharacters": ["."],
        "supportsModulesRequest": true,
        "supportsLoadedSourcesRequest": true,
        "supportsExceptionOptions": true,
        "supportsExceptionFilterOptions": true,
        "supportsExceptionInfoRequest": true,
        "supportsValueFormattingOptions": true,
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
            { "filter": "userUnhandled", "label": "User Uncaught Exceptions", "supportsCondition": true,
              "description": "Where an exception leaves the program's own code for a library's",
              "conditionDescription": "Classes, separated by commas" },
        ],
    })
}
