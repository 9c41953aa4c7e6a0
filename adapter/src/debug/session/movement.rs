//! Going forwards and backwards, to a stop or to a place.

use std::io::Write;

use retrace_replay::debug_protocol::{Cause, Stops};
use serde_json::{Value, json};

use super::Session;
use crate::debug::engine::{Failure, Result, message};
use crate::debug::protocol::Request;
use crate::debug::timeline::{Position, StepKind, reason, step_stops};

impl<W: Write> Session<W> {
    pub(super) fn movement(&mut self, request: &Request) -> Result<()> {
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

    /// Goes to the start, the end or the crash; the crash falls back to the end at the session's start.
    pub(super) fn go_to_named(&mut self, name: &str, lenient: bool) -> Result<String> {
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
}

fn describe(cause: &Cause) -> String {
    match cause {
        Cause::Exception { class, .. } => class.clone(),
        Cause::Change { before, after, .. } => format!("{before} -> {after}"),
        _ => String::new(),
    }
}
