//! A recording that is open in the debugger: where it stands, how it moves, and what is shown of it, whoever shows it.

use retrace_replay::Trace;
use retrace_replay::debug_protocol::{Cause, FunctionBreakpoint, Step, Stops, Target, Watch, WatchFrame};
use serde_json::{Value, json};

use super::engine::{Cancel, Engine, Output, Result, message};
use super::sources::{Mapping, Sources};
use super::timeline::{Position, StepKind, Timeline, reason, step_of};
use crate::cli::ReplayArguments;
use crate::error::CliError;

pub struct Debuggee {
    pub timeline: Timeline,
    pub trace: Trace,
    pub process: u32,
    pub sources: Sources,
    /// Library code is passed over.
    pub mine_only: bool,
    /// Output up to here has been shown.
    shown: usize,
    /// Where a change was stopped at or could have been, and of what: it is stopped at once.
    seen_at: Option<(Position, Vec<String>)>,
}

/// A movement to a stop that is not known beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    Step(StepKind, u32),
    /// Like a step over, or out of so many frames, but not to a line of that frame before this one.
    Until(u32, u32, u32),
    StepBack(StepKind, u32),
    /// By instructions.
    StepInstruction(StepKind, u32),
    StepBackInstruction(StepKind, u32),
    /// Into what a thread's frame, by its depth, calls with one of some instructions.
    StepInto(u32, u32, Target),
    Continue,
    ReverseContinue,
}

/// A place that has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landmark {
    Start,
    End,
    Crash,
}

/// Why the debugger stands where it does, in DAP's word, and what is to be said of it.
pub struct Stop {
    pub reason: &'static str,
    pub text: String,
}

/// What came of an evaluation.
pub struct Evaluation {
    /// What `inspect.py` answered. Its `raised` is the exception that there was instead of a value.
    pub answer: Value,
    /// It has begun a diversion.
    pub is_new_diversion: bool,
}

/// A place in a source for a breakpoint. Columns are the client's, from 1.
pub struct Location {
    pub line: u32,
    pub column: u32,
    pub end_line: u32,
    pub end_column: u32,
    /// The column of its first instruction, in bytes; None where that begins the line.
    pub inside: Option<u32>,
}

/// What is said at the recording's end.
pub const THE_END: &str = "The end of the recording";

/// What the user is told when a diversion begins.
pub const DIVERSION: &str = "this is changed in a diversion from the recording, which ends with the next movement";

impl Debuggee {
    /// Opens a recording, whose replay has begun then.
    pub fn open(arguments: &ReplayArguments, mappings: Vec<Mapping>, cancel: Cancel) -> Result<Debuggee> {
        let engine = Engine::launch(arguments, cancel)?;
        let trace = Trace::open(&arguments.file).map_err(CliError::from)?;
        let sources = Sources::of(&trace, arguments.process, mappings);
        let timeline = Timeline::new(engine);
        let process = arguments.process;
        Ok(Debuggee { timeline, trace, process, sources, mine_only: true, shown: 0, seen_at: None })
    }

    /// Waits until the replay has ended. What it wrote to its stderr.
    pub fn finish(&mut self) -> Result<String> {
        self.timeline.complete()?;
        Ok(std::mem::take(&mut self.timeline.warnings).concat())
    }

    /// The recorded output up to the present, once.
    pub fn new_output(&mut self) -> &[Output] {
        let Ok(event) = self.timeline.present().map(|present| present.at.event) else { return &[] };
        let begin = self.shown;
        let outputs = &self.timeline.engine().outputs;
        let end = begin + outputs[begin..].iter().take_while(|output| output.event <= event).count();
        self.shown = end;
        &self.timeline.engine().outputs[begin..end]
    }

    // ---- movement ----

    /// Moves to the next stop, or to the recording's beginning or end. `uncaught`: the exception that ended the program
    /// is one to stop at.
    pub fn go(&mut self, movement: Movement, stops: Stops, uncaught: bool) -> Result<Stop> {
        let watched = stops.watches.iter().map(|watch| watch.expression.clone()).collect();
        let behind = if movement == Movement::ReverseContinue { self.change_behind(&stops)? } else { None };
        let stop = match behind {
            Some(stop) => stop,
            None => self.move_on(movement, stops, uncaught)?,
        };
        self.seen_at = Some((self.timeline.present()?.position(), watched));
        Ok(stop)
    }

    fn has_seen(&self, expression: &String) -> bool {
        let (Ok(present), Some((at, seen))) = (self.timeline.present(), &self.seen_at) else { return false };
        let came_by_itself = matches!(present.at.cause, Cause::Goal | Cause::Step);
        present.position() == *at && !came_by_itself && seen.contains(expression)
    }

    /// The line behind a change is where it is stopped at. Where the debugger has come there by another way, it is the first
    /// to be met backwards.
    fn change_behind(&mut self, stops: &Stops) -> Result<Option<Stop>> {
        let watches = stops.watches.iter().filter(|watch| !self.has_seen(&watch.expression)).cloned();
        let behind = Stops { watches: watches.collect(), ..Stops::default() };
        if behind.watches.is_empty() {
            return Ok(None);
        }
        let Some(cause) = self.timeline.change_at_present(behind)? else { return Ok(None) };
        let stop = Stop { reason: reason(&cause), text: describe(&cause) };
        self.timeline.set_cause(cause);
        Ok(Some(stop))
    }

    fn move_on(&mut self, movement: Movement, stops: Stops, uncaught: bool) -> Result<Stop> {
        let timeline = &mut self.timeline;
        let (from, at) = (timeline.present()?.position(), timeline.present()?.at.clone());
        let step = |kind, thread, line| Step { line, ..step_of(kind, &at, thread, self.mine_only) };
        let stepping = |step| Stops { step: Some(step), mine_only: self.mine_only, ..stops.clone() };
        let came = match movement {
            Movement::StepBack(kind, thread) | Movement::StepBackInstruction(kind, thread) => {
                let came = match movement {
                    Movement::StepBack(..) => timeline.step_back(kind, thread, self.mine_only)?,
                    _ => timeline.step_back_instruction(kind, thread, self.mine_only)?,
                };
                if came {
                    return Ok(Stop { reason: "step", text: String::new() });
                }
                if thread != 0 {
                    // At the recording's start the main thread would be shown, and this place be lost.
                    return Ok(Stop { reason: "step", text: "The thread begins here".to_owned() });
                }
                came
            }
            Movement::ReverseContinue => {
                let came = timeline.backward(stops)?;
                uncaught && timeline.stop_at_crash(from, came, false)? || came
            }
            forwards => {
                let came = timeline.forward(match forwards {
                    Movement::Step(kind, thread) => stepping(step(kind, thread, 0)),
                    Movement::StepInstruction(kind, thread) => {
                        stepping(Step { is_instruction: true, leaves: 0, ..step(kind, thread, 0) })
                    }
                    Movement::StepInto(thread, depth, target) => {
                        stepping(Step { thread, depth, into: Some(target), ..Step::default() })
                    }
                    Movement::Until(frames, thread, line) => stepping(step(StepKind::Out(frames), thread, line)),
                    _ => stops,
                })?;
                uncaught && timeline.stop_at_crash(from, came, true)? || came
            }
        };
        if came {
            let cause = &timeline.present()?.at.cause;
            return Ok(Stop { reason: reason(cause), text: describe(cause) });
        }
        let (landmark, reason) = match movement {
            Movement::StepBack(..) | Movement::StepBackInstruction(..) | Movement::ReverseContinue => {
                (Landmark::Start, "entry")
            }
            _ => (Landmark::End, "step"),
        };
        if landmark == Landmark::End && self.end()?.is_some_and(|end| end < from) {
            // What has been come to behind the last line is not led back before it.
            self.timeline.set_end();
            return Ok(Stop { reason, text: THE_END.to_owned() });
        }
        let text = self.go_to_landmark(landmark)?.to_owned();
        Ok(Stop { reason, text })
    }

    /// Goes to the crash, or to the end where there was none.
    pub fn go_to_crash_or_end(&mut self) -> Result<&'static str> {
        let has_crashed = self.timeline.crash()?.is_some();
        self.go_to_landmark(if has_crashed { Landmark::Crash } else { Landmark::End })
    }

    /// Goes to a place that has a name, and says what it is.
    pub fn go_to_landmark(&mut self, landmark: Landmark) -> Result<&'static str> {
        let mine_only = self.mine_only;
        let timeline = &mut self.timeline;
        match landmark {
            Landmark::Crash => {
                let Some(position) = timeline.crash()? else { return message("no exception ended this program") };
                timeline.go_to(position)?;
                let in_thread = timeline.crashed_in_thread();
                Ok(if in_thread { "The exception that ended a thread" } else { "The exception that ended the program" })
            }
            Landmark::Start => {
                if timeline.go_to_first(mine_only)? {
                    return Ok("The start of the recording");
                }
                message("no line of the program's own code was run")
            }
            Landmark::End => {
                let Some(position) = self.end()? else { return message("no line of Python was run") };
                self.timeline.go_to(position)?;
                self.timeline.set_end();
                Ok(THE_END)
            }
        }
    }

    fn end(&mut self) -> Result<Option<Position>> {
        match self.timeline.end(self.mine_only)? {
            None => self.timeline.end(false),
            found => Ok(found),
        }
    }

    /// Runs backwards to the line after which the value was what it is now: the one behind the line that changed it, which
    /// may be the present one. Asked again there, it goes to the change before. Says the change.
    pub fn go_to_last_change(&mut self, watch: Watch) -> Result<String> {
        let name = watch.expression.clone();
        let stops = Stops { watches: vec![Watch { from_call: true, ..watch }], ..Stops::default() };
        let found = match self.has_seen(&name) {
            true => self.timeline.backward(stops)?,
            false => self.timeline.backward_from_present(stops)?,
        };
        if !found {
            return message(format!("{name} has not changed before"));
        }
        self.seen_at = Some((self.timeline.present()?.position(), vec![name.clone()]));
        Ok(match &self.timeline.present()?.at.cause {
            change @ Cause::Change { .. } => format!("{name}: {}", describe(change)),
            other => describe(other),
        })
    }

    // ---- what is shown ----

    /// A thread's frames, innermost first, as `inspect.py` describes them.
    pub fn stack(&mut self, thread: u32) -> Result<Vec<Value>> {
        let stack = self.timeline.ask(json!({ "ask": "stack", "thread": thread }), false)?;
        Ok(stack.as_array().cloned().unwrap_or_default())
    }

    /// An expression as something to watch: in a frame, or a global one.
    pub fn watch(&mut self, id: i64, expression: String, thread: u32, frame: Option<u64>) -> Result<Watch> {
        let mut place = None;
        if let Some(frame) = frame {
            let question = json!({ "ask": "owner", "thread": thread, "frame": frame, "expression": expression });
            let frame = self.timeline.ask(question, false)?.as_u64().unwrap_or(frame);
            let stack = self.stack(thread)?;
            let entry = stack.iter().find(|entry| entry["frame"].as_u64() == Some(frame));
            let function = entry.map_or("", |entry| entry["name"].as_str().unwrap_or_default()).to_owned();
            let depth = entry.and_then(|entry| entry["depth"].as_u64()).unwrap_or(frame + 1) as u32;
            let generator = self.timeline.generator_of(thread, depth)?;
            place = Some(WatchFrame { thread, depth, function, generator, here: None });
        }
        Ok(Watch { id, expression, frame: place, ..Watch::default() })
    }

    /// A global of the module that a frame's code is of, or that of the thread's newest frame.
    pub fn watch_global(&mut self, id: i64, expression: String, thread: u32, frame: Option<u64>) -> Result<Watch> {
        let stack = self.stack(thread)?;
        let entry = stack.iter().find(|entry| frame.is_none() || entry["frame"].as_u64() == frame);
        let module = entry.and_then(|entry| entry["module"].as_str()).unwrap_or("__main__").to_owned();
        Ok(Watch { id, expression, module: Some(module), ..Watch::default() })
    }

    /// Evaluates as a question says. An expression leaves no trace, unless it may be there for what it does; a statement is
    /// there to leave one, in the diversion.
    pub fn evaluate(&mut self, question: Value) -> Result<Evaluation> {
        let answer = self.timeline.ask(question.clone(), false)?;
        if answer["lasts"] != true {
            return Ok(Evaluation { answer, is_new_diversion: false });
        }
        self.change(question)
    }

    /// Changes something, in the diversion.
    pub fn change(&mut self, question: Value) -> Result<Evaluation> {
        let was_diverted = self.timeline.is_diverted();
        let answer = self.timeline.ask(question, true)?;
        Ok(Evaluation { answer, is_new_diversion: !was_diverted })
    }

    /// The lines of a recorded source that have code. `None` where the recording has no such source.
    pub fn lines_with_code(&mut self, path: &str) -> Option<Vec<u32>> {
        let lines = self.ask_about_source(path, json!({ "ask": "lines" }))?;
        Some(lines.as_array()?.iter().filter_map(|line| Some(line.as_u64()? as u32)).collect())
    }

    /// Whether the recording's sources have what a breakpoint is on, or the interpreter has it in itself. What is in `__main__`
    /// is in the main program's file from then on. Where library code is passed over, and the user's has a function of that
    /// name, it is on that one only.
    pub fn has_function(&mut self, breakpoint: &mut FunctionBreakpoint) -> bool {
        if let (Some(name), Some(main)) = (breakpoint.name.strip_prefix("__main__."), &self.sources.main) {
            (breakpoint.name, breakpoint.file) = (name.to_owned(), Some(main.clone()));
        }
        let last = breakpoint.name.rsplit('.').next().unwrap_or_default();
        // What does not have the name in it need not be compiled. A lambda has none there.
        let may_have = |contents: String| last.starts_with('<') || !last.is_empty() && contents.contains(last);
        let paths: Vec<String> =
            self.sources.all().filter(|path| self.sources.contents(path).is_some_and(may_have)).cloned().collect();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut is_in_source = false;
        for path in &paths {
            let found = self.ask_about_source(path, json!({ "ask": "functions" })).unwrap_or_default();
            let is_it = |code: &&Value| breakpoint.is_on(path, &text(&code[0]), &text(&code[1]));
            let Some(code) = found.as_array().into_iter().flatten().find(is_it) else { continue };
            is_in_source = true;
            breakpoint.mine_only = self.mine_only && code[2] == true;
            if breakpoint.mine_only || !self.mine_only {
                break;
            }
        }
        if is_in_source || !self.stands_somewhere() {
            return is_in_source;
        }
        let frozen = self.timeline.ask(json!({ "ask": "frozen_functions" }), false).unwrap_or_default();
        let mut frozen = frozen.as_array().into_iter().flatten();
        frozen.any(|code| breakpoint.is_on(&text(&code[0]), &text(&code[1]), &text(&code[2])))
    }

    /// Where in some lines a breakpoint can be.
    pub fn locations(&mut self, path: &str, first: u32, last: u32) -> Option<Vec<Location>> {
        let found = self.ask_about_source(path, json!({ "ask": "locations", "first": first, "last": last }))?;
        let number = |value: &Value| value.as_u64().map(|number| number as u32);
        let location = |entry: &Value| {
            Some(Location {
                line: number(&entry[0])?,
                column: number(&entry[1])? + 1,
                end_column: number(&entry[2])? + 1,
                inside: number(&entry[3]),
                end_line: number(&entry[4])?,
            })
        };
        Some(found.as_array()?.iter().filter_map(location).collect())
    }

    /// Code is compiled by the recorded interpreter, which has to stand somewhere. Goes to the first line if need be.
    fn stands_somewhere(&mut self) -> bool {
        self.timeline.present().is_ok() || self.timeline.go_to_first(false).unwrap_or(false)
    }

    fn ask_about_source(&mut self, path: &str, mut question: Value) -> Option<Value> {
        let source = self.sources.contents(path)?;
        if !self.stands_somewhere() {
            return None;
        }
        (question["source"], question["path"]) = (source.into(), path.into());
        self.timeline.ask(question, false).ok()
    }
}

fn describe(cause: &Cause) -> String {
    match cause {
        Cause::Exception { class, .. } => class.clone(),
        Cause::Change { before, after, .. } if before.is_empty() => format!("{after}, given by the call"),
        Cause::Change { before, after, .. } => format!("{before} -> {after}"),
        _ => String::new(),
    }
}
