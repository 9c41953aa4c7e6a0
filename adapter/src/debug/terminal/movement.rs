//! Going forwards and backwards.

use retrace_replay::debug_protocol::Cause;
use serde_json::json;

use super::Terminal;
use crate::debug::debuggee::{Landmark, Movement, Stop, THE_END};
use crate::debug::engine::{Result, message};
use crate::debug::timeline::StepKind;

impl Terminal {
    /// A step of the frame that is looked at: in one that is not the newest, the frames above it end first.
    pub(super) fn step(&mut self, kind: StepKind) -> Result<()> {
        let kind = self.below_selected(kind);
        self.go(Movement::Step(kind, self.thread))
    }

    pub(super) fn step_back(&mut self, kind: StepKind) -> Result<()> {
        let kind = self.below_selected(kind);
        self.go(Movement::StepBack(kind, self.thread))
    }

    fn below_selected(&self, kind: StepKind) -> StepKind {
        let above = self.selected as u32;
        match kind {
            StepKind::In => StepKind::In,
            StepKind::Over if above == 0 => StepKind::Over,
            StepKind::Over => StepKind::Out(above),
            StepKind::Out(frames) => StepKind::Out(frames + above),
        }
    }

    pub(super) fn run_on(&mut self) -> Result<()> {
        self.go(Movement::Continue)
    }

    pub(super) fn run_back(&mut self) -> Result<()> {
        self.go(Movement::ReverseContinue)
    }

    pub(super) fn until(&mut self, line: &str) -> Result<()> {
        let here = self.frame()?.line;
        let line = match line {
            "" => here + 1,
            line => line.parse().or_else(|_| message(format!("{line:?} is no line number")))?,
        };
        if line <= here {
            return message("\"until\" line number is smaller than current line number");
        }
        self.go(Movement::Until(self.selected as u32, self.thread, line))
    }

    fn go(&mut self, movement: Movement) -> Result<()> {
        let is_step = !matches!(movement, Movement::Continue | Movement::ReverseContinue);
        loop {
            let stops = self.stops(is_step);
            match self.debuggee.go(movement, stops, true) {
                Ok(_) if self.is_passed_over()? => {}
                Ok(Stop { text, .. }) => return self.arrive(&text),
                Err(failure) => {
                    self.look()?;
                    return Err(failure);
                }
            }
        }
    }

    pub(super) fn last(&mut self, expression: &str) -> Result<()> {
        if expression.is_empty() {
            return message("last: an expression is wanted");
        }
        // Whether it means anything is found out before the search.
        self.value(expression, "repr")?;
        let frame = self.frame()?.number;
        let watch = self.debuggee.watch(0, expression.to_owned(), self.thread, Some(frame))?;
        let text = self.debuggee.go_to_last_change(watch)?;
        self.arrive(&text)
    }

    pub(super) fn go_to(&mut self, place: &str) -> Result<()> {
        let landmark = match place {
            "start" => Landmark::Start,
            "end" => Landmark::End,
            "crash" => Landmark::Crash,
            event => {
                let Ok(event) = event.parse() else {
                    return message("goto: a number of an event, start, end or crash");
                };
                let position = self.debuggee.timeline.position_of_event(event)?;
                self.debuggee.timeline.go_to(position)?;
                return self.arrive("");
            }
        };
        let text = self.debuggee.go_to_landmark(landmark)?;
        self.arrive(text)
    }

    /// Looks at where the debugger stands.
    fn look(&mut self) -> Result<()> {
        let Ok(present) = self.debuggee.timeline.present() else {
            self.stack.clear();
            return Ok(());
        };
        let thread = present.at.thread;
        self.look_at(thread)
    }

    /// Looks at a thread's newest frame.
    pub(super) fn look_at(&mut self, thread: u32) -> Result<()> {
        let stack = self.debuggee.stack(thread)?;
        self.stack = stack.iter().map(super::Frame::of).collect();
        (self.thread, self.selected, self.to_list) = (thread, 0, None);
        Ok(())
    }

    /// Says where a movement has come to.
    pub(super) fn arrive(&mut self, text: &str) -> Result<()> {
        let thread_before = self.thread;
        self.look()?;
        self.say_on_the_way();
        let at = self.debuggee.timeline.present()?.at.clone();
        if let Cause::Breakpoint(number) = at.cause {
            self.hit(number);
        }
        if at.raise > 0 {
            let info = self.debuggee.timeline.ask(json!({ "ask": "exception" }), false)?;
            let (class, why) = (info["class"].as_str().unwrap_or("?"), info["message"].as_str().unwrap_or_default());
            self.say(format!("{class}: {why}").trim_end_matches([':', ' ']));
        }
        if !text.is_empty() && (at.raise == 0 || text == THE_END) {
            self.say(&format!("[{text}]"));
        }
        if at.thread != thread_before {
            let name = self.name_of_thread(at.thread)?;
            self.say(&format!("[thread {}: {name}]", at.thread));
        }
        self.say_frame();
        self.say_displays()
    }

    /// What the program wrote, and what breakpoints and the replay have to say.
    fn say_on_the_way(&mut self) {
        for said in self.debuggee.timeline.take_said() {
            let failed = if said.failure { "*** condition of " } else { "" };
            self.say(&format!("{failed}breakpoint {}: {}", said.id, said.text));
        }
        for warning in std::mem::take(&mut self.debuggee.timeline.warnings) {
            self.say(&format!("[{warning}]"));
        }
        let output: String = self.debuggee.new_output().iter().map(|output| &*output.text).collect();
        self.say_output(&output);
    }
}
