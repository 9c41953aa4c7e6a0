//! A session of the Debug Adapter Protocol: its beginning and end, and which request is answered where.

mod breakpoints;
mod movement;
mod recording;
mod state;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::mpsc::Receiver;

use retrace_replay::debug_protocol::{Cause, Stopped};
use serde_json::{Value, json};

use super::debuggee::{Debuggee, Landmark};
use super::engine::{Cancel, Result, message};
use super::protocol::{self, Incoming, Request, Writer};
use super::sources::Mapping;
use crate::cli::{PATIENCE, ReplayArguments};
use breakpoints::Breakpoints;
use state::Handles;

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

struct Session<W> {
    to: Writer<W>,
    cancel: Cancel,
    debuggee: Option<Debuggee>,
    handles: Handles,
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
            handles: Handles::default(),
            breakpoints: Breakpoints::default(),
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
        Ok(self.parts()?.0)
    }

    fn parts(&mut self) -> Result<(&mut Debuggee, &mut Handles)> {
        match &mut self.debuggee {
            Some(debuggee) => Ok((debuggee, &mut self.handles)),
            None => message("no recording has been launched"),
        }
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
            patience: PATIENCE,
        };
        let mappings = request.get("pathMappings").as_array().into_iter().flatten().filter_map(|mapping| {
            let (local, remote) = (mapping["localRoot"].as_str()?, mapping["remoteRoot"].as_str()?);
            Some(Mapping { local: local.to_owned(), remote: remote.to_owned() })
        });
        self.cancel.set(false);
        let (mut debuggee, said) = Debuggee::open(&arguments, mappings.collect(), self.cancel.clone())?;
        debuggee.mine_only = request.get("justMyCode").as_bool().unwrap_or(true);
        self.debuggee = Some(debuggee);
        self.handles = Handles::default();
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
        let stop_on = self.stop_on.take();
        let debuggee = self.debuggee()?;
        let went = match stop_on.as_deref() {
            None | Some("crash") => debuggee.go_to_crash_or_end(),
            Some("entry" | "start") => debuggee.go_to_landmark(Landmark::Start),
            Some(_) => debuggee.go_to_landmark(Landmark::End),
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
        self.show_output();
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
    fn show_output(&mut self) {
        let Some(debuggee) = &mut self.debuggee else { return };
        for output in debuggee.new_output() {
            let category = if output.stream == 2 { "stderr" } else { "stdout" };
            self.to.event("output", json!({ "category": category, "output": output.text }));
        }
    }
}

fn position_json(window: usize, at: &Stopped) -> Value {
    json!({ "event": at.event, "ticks": at.since, "window": window, "tick": at.tick, "raise": at.raise })
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
