//! What the debugger and the processes of a replayed timeline say to each other: JSON in frames, over a socket that each
//! process opens for itself. A process ends when its socket does, so that none is left behind.
#![forbid(unsafe_code)]

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The variable that names the debugger's socket to the replaying interpreter.
pub const SOCKET_VARIABLE: &str = "RETRACE_DEBUG";

/// A longer frame is not one of ours.
const LONGEST: u32 = 256 << 20;

/// Where a checkpoint stands: enough to notice it when another copy of the replay comes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The process of the trace, and the event that comes next in it.
    pub process: u32,
    /// The event that comes next.
    pub event: u64,
    /// Allocations of the program so far.
    pub clock: u64,
    /// The hash of the innermost frame alone, which costs the same however deep the stack is.
    pub near: u64,
    /// The hashes of a `Fingerprint`; zeros where no Python frame has begun.
    pub hashes: [u64; 3],
}

/// The frames of a thread.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// The thread's number in the trace.
    pub thread: u32,
    /// Of its outermost frames, a number each that no other call's frame ever has, or 0.
    pub marks: Vec<u64>,
}

impl Stack {
    /// How many of its frames were there all the time from an earlier stack to this one, at least.
    pub fn kept_since(&self, earlier: &Stack) -> u32 {
        let is_kept = |place: &usize| self.marks[*place] != 0 && earlier.marks.get(*place) == Some(&self.marks[*place]);
        (0..self.marks.len()).rev().find(is_kept).map_or(0, |place| place as u32 + 1)
    }
}

/// The first message of a process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// The operating system's number of the process.
    pub pid: i32,
    /// What it is.
    pub role: Role,
}

/// What a process of the timeline is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Role {
    /// The replay itself, which runs to its end and leaves checkpoints.
    Main,
    /// A copy of it that waits.
    Checkpoint {
        /// How many there were before it.
        number: u32,
        /// Where.
        place: Place,
        /// What the threads that had begun are in.
        stacks: Vec<Stack>,
    },
    /// A copy that was asked for.
    Asked {
        /// By what number.
        request: u64,
        /// Lines since the checkpoint it comes from.
        tick: u64,
    },
}

/// What a waiting process is asked to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Command {
    /// Make a copy that runs on.
    Run {
        /// What the copy calls itself.
        request: u64,
        /// Its way.
        run: Box<Run>,
    },
    /// Make a copy that can be changed.
    Divert {
        /// What the copy calls itself.
        request: u64,
    },
    /// Answer a question about the state: in a copy, or here.
    Inspect {
        /// What `inspect.py` answers.
        question: Value,
        /// Without a copy: what it changes stays changed.
        here: bool,
    },
    /// Look into the recorded ticks.
    Find(Find),
}

/// How a copy runs on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Run {
    /// Where the next checkpoint is: the end of the window. None: the end of the recording.
    pub until: Option<Place>,
    /// Where to stop.
    pub goal: Goal,
    /// Copies to leave on the way.
    pub leave: Vec<Leave>,
    /// Keep what each tick was, for `Find`.
    pub record: bool,
}

/// A copy to leave on the way.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Leave {
    /// At the first tick that is not before.
    pub at: At,
    /// What the copy calls itself.
    pub request: u64,
}

/// A point of a window.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum At {
    /// Lines since the window's checkpoint.
    Tick(u64),
    /// The program's allocations.
    Clock(u64),
}

/// Where a run ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Goal {
    /// At a tick, or at the raise or the instruction of that number that follows it.
    Tick {
        /// Lines since the window's checkpoint.
        tick: u64,
        /// From 1; 0 for the tick itself.
        raise: u32,
        /// From 1; 0 for the tick itself, or the raise.
        instruction: u32,
    },
    /// At the first stop.
    First(Stops),
    /// At the window's end, to say which stop was the last.
    Last(Stops),
    /// At a position, to say which instruction before it is in reach.
    Before(Before),
}

/// The last instruction of a thread before a position that is not deeper than it is, as `Find::Back` for lines.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Before {
    /// Instructions are looked at from this tick on.
    pub from: u64,
    /// The position's tick, raise and instruction. None: the window's end.
    pub to: Option<(u64, u32, u32)>,
    /// The thread's number in the trace.
    pub thread: u32,
    /// The most frames allowed, where that is known already.
    pub depth: Option<u32>,
    /// How many frames more or less than at the position are allowed.
    pub change: i32,
    /// Library code is passed over.
    pub mine_only: bool,
}

/// What to stop at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stops {
    /// Not at this tick or before it.
    pub after: u64,
    /// Nor at this instruction of it, or before that.
    pub after_instruction: u32,
    /// Not at this tick or after it.
    pub before: Option<u64>,
    /// But at it, where it is not 0, and at its instructions before this one.
    pub before_instruction: u32,
    /// And up to this raise at it, where that is not 0.
    pub before_raise: u32,
    /// A step's end.
    pub step: Option<Step>,
    /// Lines.
    pub breakpoints: Vec<Breakpoint>,
    /// Functions, by name.
    pub functions: Vec<FunctionBreakpoint>,
    /// How often each line, then each function and then each watched value has been hit before the run begins; what is
    /// missing at the end: never.
    pub hits: Vec<u64>,
    /// Say where all the stops were, not only which was the last.
    pub list: bool,
    /// Exceptions.
    pub exceptions: Option<Exceptions>,
    /// The line that comes to an event.
    pub event: Option<u64>,
    /// Where a value changes.
    pub watches: Vec<Watch>,
    /// Library code is passed over.
    pub mine_only: bool,
    /// The first line of all.
    pub any: bool,
}

impl Stops {
    /// Whether looking for them runs code that the program never ran: then the run may not be gone on with.
    pub fn evaluates(&self) -> bool {
        !self.watches.is_empty()
            || self.breakpoints.iter().any(|b| b.condition.is_some() || b.log.is_some())
            || self.functions.iter().any(|f| f.condition.is_some())
    }

    /// How many things there are whose hits are counted.
    pub fn places(&self) -> usize {
        self.breakpoints.len() + self.functions.len() + self.watches.len()
    }

    /// Whether they are also inside of lines.
    pub fn has_instructions(&self) -> bool {
        self.step.as_ref().is_some_and(|step| step.is_instruction)
            || self.breakpoints.iter().any(|b| b.column.is_some())
    }
}

/// The end of a step: the first line of a thread that is not deeper than allowed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Step {
    /// The thread's number in the trace.
    pub thread: u32,
    /// The most frames it may have.
    pub depth: u32,
    /// With that many frames, no line before this one.
    pub line: u32,
    /// Where the frames of generators lie that it may end in too, where the run begins at a checkpoint.
    pub generators: Vec<u64>,
    /// Where the frame of the generator lies with whose end the user's code is left, where the run begins at a checkpoint.
    pub outermost: Option<u64>,
    /// The first instruction counts, not only the first line.
    pub is_instruction: bool,
    /// Or the first line of what is called where that many frames have come to.
    pub into: Option<Target>,
    /// Where the thread has had fewer frames than this, any line of it ends the step: none of the user's code is left.
    pub leaves: u32,
}

/// A call that is stepped into, by offsets in its frame's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Where the frame stands. Lines between that and the call are part of what is called, as its arguments are.
    pub from: i32,
    /// The instruction that calls.
    pub begin: i32,
    /// The one behind it.
    pub end: i32,
}

impl Step {
    /// The thread has had so few frames that the step ends there at the latest.
    pub fn lower(&mut self, depth: u32) {
        // A thread without frames runs nothing.
        let depth = depth.max(1);
        if depth < self.leaves {
            self.end_anywhere();
        } else if depth < self.depth {
            (self.depth, self.line, self.into) = (depth, 0, None);
        }
    }

    /// Any line of the thread ends it from now on.
    pub fn end_anywhere(&mut self) {
        (self.depth, self.line, self.into, self.leaves) = (u32::MAX, 0, None, 0);
    }
}

/// A breakpoint on a line.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Breakpoint {
    /// The debugger's number.
    pub id: i64,
    /// As the program knows the file.
    pub path: String,
    /// The line.
    pub line: u32,
    /// The column in bytes, from 0, where it is not the line's beginning that is meant.
    pub column: Option<u32>,
    /// Stop only where this is true.
    pub condition: Option<String>,
    /// Do not stop, but say this.
    pub log: Option<String>,
    /// Stop only at these hits.
    pub hits: Option<Hits>,
}

/// Which hits of a breakpoint count.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub enum Hits {
    /// That one.
    Equal(u64),
    /// That one and later ones.
    AtLeast(u64),
    /// Every one of so many.
    Every(u64),
}

/// A breakpoint on a function's beginning.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FunctionBreakpoint {
    /// The debugger's number.
    pub id: i64,
    /// A name, a qualified one, or that one after its module's.
    pub name: String,
    /// Only what has that qualified name in this file.
    pub file: Option<String>,
    /// Stop only where this is true.
    pub condition: Option<String>,
    /// Stop only at these hits.
    pub hits: Option<Hits>,
    /// Not in library code.
    pub mine_only: bool,
}

impl FunctionBreakpoint {
    /// Whether it is on some code, by the code's file and names.
    pub fn is_on(&self, path: &str, name: &str, qualified_name: &str) -> bool {
        if let Some(file) = &self.file {
            return self.name == qualified_name && file == path;
        }
        if self.name == name || self.name == qualified_name {
            return true;
        }
        let module = self.name.strip_suffix(qualified_name).and_then(|rest| rest.strip_suffix('.'));
        let Some(module) = module.filter(|module| !module.is_empty()) else { return false };
        if let Some(frozen) = path.strip_prefix("<frozen ").and_then(|rest| rest.strip_suffix('>')) {
            return frozen.strip_suffix(module).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        }
        let is_of = |file: &str| file.strip_suffix(&*module.replace('.', "/")).is_some_and(is_folder);
        [".py", "/__init__.py"].into_iter().filter_map(|end| path.strip_suffix(end)).any(is_of)
    }
}

fn is_folder(path: &str) -> bool {
    path.is_empty() || path.ends_with('/')
}

/// Which exceptions to stop at.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Exceptions {
    /// Every one, where it is raised.
    pub raised: bool,
    /// Those that end the program.
    pub uncaught: bool,
    /// Those that leave the user's code for a library's, where they last were in the user's.
    pub user_unhandled: bool,
    /// Of those that are raised only these classes, by name; all where empty.
    pub classes: Vec<String>,
    /// And of those that leave the user's code.
    pub user_classes: Vec<String>,
}

/// A value that is compared at each line.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Watch {
    /// The debugger's number.
    pub id: i64,
    /// What is watched.
    pub expression: String,
    /// The thread, and how many frames it has where the expression has its meaning; None for a global one.
    pub frame: Option<WatchFrame>,
    /// The module whose global it is.
    pub module: Option<String>,
    /// The beginning of the frame counts as a change: a parameter gets its value there.
    pub from_call: bool,
    /// Its text at the end of the window before.
    pub text: Option<String>,
    /// Stop only where this is true, which has its meaning where the expression has.
    pub condition: Option<String>,
    /// Stop only at these changes.
    pub hits: Option<Hits>,
}

impl Watch {
    /// The generator that it has its meaning in, as the run's own window knows it.
    pub fn generator(&self) -> Option<Generator> {
        self.frame.as_ref()?.here
    }
}

/// Where a watched expression has its meaning.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct WatchFrame {
    /// The thread's number in the trace.
    pub thread: u32,
    /// The frame's number from below, from 1.
    pub depth: u32,
    /// The function's qualified name.
    pub function: String,
    /// The generator or coroutine whose frame it is: then it is that one's, on whatever thread and at whatever depth.
    pub generator: Option<InWindow>,
    /// The same one as the run's own window knows it.
    pub here: Option<Generator>,
}

/// A generator or coroutine, as all runs through a window know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Generator {
    /// Its frame lies there where the window begins, and for as long as there is one.
    There(u64),
    /// It is the n-th, from 1, that begins in the window.
    Begins(u64),
    /// It has not begun before the window's end, or is gone before its beginning.
    Gone,
}

/// What a generator or coroutine is in one of the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct InWindow {
    /// The window's number.
    pub window: usize,
    /// What it is there.
    pub is: Generator,
}

/// A question about recorded ticks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Find {
    /// The last tick of a thread before another that is not deeper than it is, frames that ended in between aside.
    Back {
        /// The thread's number in the trace. None: any, at whatever depth.
        thread: Option<u32>,
        /// Where to begin: below this tick. None: at the window's end.
        before: Option<u64>,
        /// The most frames allowed, where that is known from a later window already.
        depth: Option<u32>,
        /// How many frames more or less than at that tick are allowed.
        change: i32,
        /// Library code is passed over.
        mine_only: bool,
        /// Where, at the window's end, the frames of generators lie that may be gone back to.
        generators: Vec<u64>,
        /// Where the thread has had fewer frames than this, any line before is meant.
        leaves: u32,
    },
    /// Where the frames of all generators lie.
    Generators,
    /// The generator whose frame one of a thread's is.
    GeneratorOf {
        /// The thread's number in the trace.
        thread: u32,
        /// The frame's number from below, from 1.
        depth: u32,
    },
    /// A generator by its place among all.
    GeneratorAt {
        /// From 0.
        place: usize,
        /// How many there have to be.
        of: usize,
    },
    /// The place of a generator among all.
    PlaceOf(Generator),
    /// How many lines have run since the last event at a tick.
    Since {
        /// The tick.
        tick: u64,
    },
    /// Where an exception was raised.
    Raise(Raise),
}

/// An exception, by where its traceback says that it was raised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raise {
    /// Its address, which means something only in the run that says it.
    pub address: Option<u64>,
    /// It ended a thread, not the program.
    pub in_thread: bool,
    /// The class's name.
    pub class: String,
    /// The code's file.
    pub path: String,
    /// The code's qualified name.
    pub function: String,
    /// The instruction.
    pub offset: i32,
}

/// What a process says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Report {
    /// The replay passed output of the recorded program.
    Output {
        /// The event that comes next.
        event: u64,
        /// 1 or 2.
        stream: u8,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// The replay has ended.
    Ended(Ended),
    /// A run stands at its goal.
    Stopped(Box<Stopped>),
    /// A run has come to the end of its window.
    Window(Box<Window>),
    /// A breakpoint's message, or that its condition failed.
    Said {
        /// The debugger's number.
        id: i64,
        /// The tick.
        tick: u64,
        /// The text.
        text: String,
        /// It is about the breakpoint, not from it.
        failure: bool,
    },
    /// The answer to a question about the state.
    Answer(Value),
    /// The answer to `Find`.
    Found(Found),
}

/// How the replay ended.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Ended {
    /// The exit status.
    pub status: i32,
    /// It has left the recording.
    pub diverged: bool,
    /// The process of the trace, and the event that would come next.
    pub process: u32,
    /// The event that would come next.
    pub event: u64,
    /// Allocations in all.
    pub clock: u64,
    /// How many checkpoints have been made.
    pub checkpoints: u32,
    /// The report of an exception that nobody caught: the one that ended the program, else the first that ended a thread.
    pub crash: Option<Crash>,
}

/// Where an uncaught exception was reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// The program's allocations.
    pub clock: u64,
    /// It ended a thread, not the program.
    pub in_thread: bool,
}

/// A position, with what a debugger shows of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Stopped {
    /// Lines since the window's checkpoint.
    pub tick: u64,
    /// The number of the raise since that tick, or 0.
    pub raise: u32,
    /// The number of the instruction since that tick, or 0.
    pub instruction: u32,
    /// The thread's number in the trace.
    pub thread: u32,
    /// How many frames it has.
    pub depth: u32,
    /// How many it had at the tick, where an exception passes now.
    pub tick_depth: u32,
    /// How many it has up to the outermost one of the user's own code; 0 where there is none. Of a stop that is stood at.
    pub mine: u32,
    /// The event that comes next.
    pub event: u64,
    /// Lines since the event before it, or since the window's checkpoint.
    pub since: u64,
    /// The code's file.
    pub path: String,
    /// The line.
    pub line: u32,
    /// Why.
    pub cause: Cause,
}

/// Why a run stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// It came to the tick.
    #[default]
    Goal,
    /// A step ended.
    Step,
    /// A breakpoint.
    Breakpoint(i64),
    /// An exception was raised.
    Exception {
        /// The class's name.
        class: String,
        /// It leaves the user's code.
        user_unhandled: bool,
    },
    /// A watched value changed. `before` is empty where a call has given it.
    Change {
        /// The debugger's number.
        id: i64,
        /// Its text before.
        before: String,
        /// Its text after.
        after: String,
    },
}

/// What the user sees of a watched value's text. Behind it may be what else tells it from another.
pub fn shown(text: &str) -> &str {
    text.split(['\0', '\u{1}']).next().unwrap_or_default()
}

/// What there was in a window.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Window {
    /// How many ticks it has.
    pub ticks: u64,
    /// Its end is the place that was named, or the recording's end.
    pub matched: bool,
    /// The report, where the run has left the recording.
    pub divergence: Option<String>,
    /// The last stop.
    pub last: Option<Stopped>,
    /// Of each watched value, where it first had a meaning and its text there.
    pub first_watched: Vec<Option<(Stopped, String)>>,
    /// Whether that is in a call that began in the window: what was before has nothing to do with it.
    pub begun_watched: Vec<bool>,
    /// And its text at the window's end.
    pub last_watched: Vec<Option<String>>,
    /// What is left of the depth that a step may end at.
    pub step_depth: Option<u32>,
    /// Where the frames of generators lie now that the step may end in.
    pub step_generators: Vec<u64>,
    /// Where that of the generator lies with whose end the user's code is left.
    pub step_outermost: Option<u64>,
    /// The last exception that nobody caught in the main program, and in another thread: which may have been raised in a
    /// window before.
    pub crashes: Vec<Raise>,
    /// How often lines and functions have been hit since the recording's beginning, as `Stops::hits`.
    pub hits: Vec<u64>,
    /// All stops, thinned evenly where they are many.
    pub stops: Vec<Stopped>,
    /// Where exceptions were raised.
    pub raised: Vec<Stopped>,
}

/// An answer to `Find`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Found {
    /// The tick, where there is one.
    pub tick: Option<u64>,
    /// The instruction that follows it, or 0.
    pub instruction: u32,
    /// What is allowed in the window before.
    pub depth: Option<u32>,
    /// Where the frames of generators lay at the window's beginning that may be gone back to; or of all.
    pub generators: Vec<u64>,
    /// The generator that was asked for; none where the frame is a function's.
    pub generator: Option<Generator>,
    /// Its place among all, and how many there are; none of one that is gone.
    pub place: Option<(usize, usize)>,
    /// The raise that was asked for.
    pub raise: Option<Box<Stopped>>,
}

/// Writes one message.
pub fn send(mut to: impl Write, message: &impl Serialize) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    let mut frame = (body.len() as u32).to_le_bytes().to_vec();
    frame.extend_from_slice(&body);
    to.write_all(&frame)
}

/// Reads one message; an error of kind `UnexpectedEof` where the other side is gone.
pub fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut body = vec![0; length as usize];
    from.read_exact(&mut body)?;
    serde_json::from_slice(&body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
