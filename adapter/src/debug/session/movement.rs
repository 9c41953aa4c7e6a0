//! Going forwards and backwards, to a stop or to a place.

use serde_json::{Value, json};

use super::Session;
use crate::debug::debuggee::{Landmark, Movement, Stop};
use crate::debug::engine::{Failure, Result, message};
use crate::debug::protocol::Request;
use crate::debug::timeline::{Position, StepKind};

impl Session {
    pub(super) fn movement(&mut self, request: &Request) -> Result<()> {
        self.debuggee()?.timeline.present()?;
        if request.command == "lastChange" {
            return self.last_change(request);
        }
        let body = if request.command == "continue" { json!({ "allThreadsContinued": true }) } else { json!({}) };
        self.to.respond(request, body);
        let moved = self.go(request);
        self.progress.borrow_mut().end();
        match moved {
            Ok(stop) => self.stopped(stop.reason, &stop.text),
            Err(Failure::Cancelled) => self.stopped("pause", "Paused where the movement began"),
            Err(failure) => {
                self.say("important", &format!("retrace: {failure}\n"));
                self.stopped("step", &failure.to_string())
            }
        }
    }

    fn go(&mut self, request: &Request) -> Result<Stop> {
        let stops = self.stops();
        let uncaught = self.breakpoints.exceptions.uncaught;
        if request.command == "gotoPosition" {
            let text = self.go_to_position(request.get("position"))?;
            return Ok(Stop { reason: "goto", text });
        }
        let debuggee = self.debuggee()?;
        let here = debuggee.timeline.present()?.at.thread;
        let thread = request.int("threadId").and_then(|id| u32::try_from(id - 1).ok()).unwrap_or(here);
        let by_instruction = request.text("granularity") == "instruction";
        let movement = match &*request.command {
            "stepIn" if request.int("targetId").is_some() => {
                let target = request.int("targetId").unwrap_or(0);
                let (thread, depth, target) = self.handles.target(target)?;
                Movement::StepInto(thread, depth, target)
            }
            "next" if by_instruction => Movement::StepInstruction(StepKind::Over, thread),
            "stepIn" if by_instruction => Movement::StepInstruction(StepKind::In, thread),
            "stepOut" if by_instruction => Movement::StepInstruction(StepKind::Out(1), thread),
            "stepBack" if by_instruction => Movement::StepBackInstruction(StepKind::Over, thread),
            "reverseStepIn" if by_instruction => Movement::StepBackInstruction(StepKind::In, thread),
            "reverseStepOut" if by_instruction => Movement::StepBackInstruction(StepKind::Out(1), thread),
            "next" => Movement::Step(StepKind::Over, thread),
            "stepIn" => Movement::Step(StepKind::In, thread),
            "stepOut" => Movement::Step(StepKind::Out(1), thread),
            "stepBack" => Movement::StepBack(StepKind::Over, thread),
            "reverseStepIn" => Movement::StepBack(StepKind::In, thread),
            "reverseStepOut" => Movement::StepBack(StepKind::Out(1), thread),
            "continue" => Movement::Continue,
            _ => Movement::ReverseContinue,
        };
        self.debuggee()?.go(movement, stops, uncaught)
    }

    fn go_to_position(&mut self, position: &Value) -> Result<String> {
        let debuggee = self.debuggee()?;
        if let Some(name) = position.as_str() {
            let landmark = match name {
                "crash" => Landmark::Crash,
                "start" | "entry" => Landmark::Start,
                "end" => Landmark::End,
                _ => return message(format!("gotoPosition: {name} is no place; start, end and crash are")),
            };
            return Ok(debuggee.go_to_landmark(landmark)?.to_owned());
        }
        let timeline = &mut debuggee.timeline;
        let number = |key: &str| position[key].as_u64();
        let to = match (number("window"), number("tick")) {
            (Some(window), Some(tick)) => {
                let raise = number("raise").unwrap_or(0) as u32;
                let instruction = number("instruction").unwrap_or(0) as u32;
                timeline.check(Position { window: window as usize, tick, raise, instruction })?
            }
            _ => {
                let Some(event) = number("event") else { return message("gotoPosition: no position is given") };
                let to = timeline.position_of_event(event)?;
                match number("ticks") {
                    None | Some(0) => to,
                    Some(ticks) => timeline.later(to, ticks)?,
                }
            }
        };
        timeline.go_to(to)?;
        Ok(format!("Event {}", timeline.present()?.at.event))
    }

    fn last_change(&mut self, request: &Request) -> Result<()> {
        let watch = self.watch_of(request, 0)?;
        let text = self.debuggee()?.go_to_last_change(watch)?;
        self.to.respond(request, json!({}));
        self.stopped("data breakpoint", &text)
    }
}
