//! Moving through a replay. Its checkpoints cut it into *windows*; a position is a window and the number of ticks (lines)
//! since its checkpoint. Near the present there are more copies to start from, so that a step costs the same wherever it
//! is: those at halves, quarters and so on of the way to a position, left behind by the run that went there.

mod changes;
mod instructions;
mod lineages;
mod said;
mod tally;

use std::collections::VecDeque;
use std::thread::available_parallelism;
use std::time::Duration;

use retrace_replay::debug_protocol::{
    At, Cause, Command, Find, Found, Goal, Leave, Place, Raise, Report, Run, Stack, Step, Stopped, Stops, Window,
};
use serde_json::Value;

use super::engine::{Cancel, Engine, Failure, Process, Result, message};
use changes::changed_between;
use lineages::Lineage;
use said::{Kept, Said};
use tally::Tallies;

/// The most processes there are at a time.
const PROCESSES: usize = 32;
/// Copies on the way to a position, and the shortest way on which one is left.
const COPIES: u32 = 5;
const SHORT: u64 = 2000;
/// So many lines from its checkpoint the first line of all is surely in the first window.
const NEAR: u64 = 1000;
/// The most windows that are searched at a time.
const AT_A_TIME: usize = 4;
/// Questions that show values, and run nothing that the user wrote for it.
const READING: [&str; 10] = [
    "threads",
    "stack",
    "scopes",
    "variables",
    "lines",
    "functions",
    "frozen_functions",
    "locations",
    "calls",
    "disassemble",
];

/// A point of the replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    pub window: usize,
    pub tick: u64,
    /// The number of the raise since that tick, or 0.
    pub raise: u32,
    /// The number of the instruction since that tick, or 0.
    pub instruction: u32,
}

impl Position {
    /// A line.
    pub fn line(window: usize, tick: u64) -> Position {
        Position { window, tick, raise: 0, instruction: 0 }
    }

    /// Where a run has stopped in a window.
    pub fn of(window: usize, at: &Stopped) -> Position {
        Position { window, tick: at.tick, raise: at.raise, instruction: at.instruction }
    }
}

struct Stretch {
    checkpoint: Process,
    place: Place,
    stacks: Vec<Stack>,
    /// How many ticks it has, once it has been run through.
    ticks: Option<u64>,
    /// The run that knows its ticks.
    index: Option<Process>,
    /// Copies, by tick.
    copies: Vec<Process>,
    /// Copies that may still be on their way.
    coming: Vec<u64>,
    crashes: Vec<Raise>,
    raised: Vec<Stopped>,
    /// Whether those are all.
    knows_raised: bool,
    /// It has been said that it does not end where the next one begins.
    is_warned: bool,
}

impl Stretch {
    fn new(checkpoint: Process, place: Place, stacks: Vec<Stack>) -> Stretch {
        Stretch {
            checkpoint,
            place,
            stacks,
            ticks: None,
            index: None,
            copies: Vec::new(),
            coming: Vec::new(),
            crashes: Vec::new(),
            raised: Vec::new(),
            knows_raised: false,
            is_warned: false,
        }
    }
}

/// Where the debugger stands.
pub struct Present {
    pub window: usize,
    pub at: Stopped,
    /// The recording's end: all that follows is behind the debugger.
    is_end: bool,
    process: Process,
    /// A copy that answers questions, made for the first of them; and the number of one that was asked for before.
    reader: Option<Process>,
    coming: Option<u64>,
    /// A copy that was changed.
    diverted: Option<Process>,
}

impl Present {
    pub fn position(&self) -> Position {
        Position::of(self.window, &self.at)
    }
}

// The engine is last: it is dropped when all processes have been.
pub struct Timeline {
    windows: Vec<Stretch>,
    present: Option<Present>,
    /// Where the exception was raised that ended the program, once that has been looked for.
    crash: Option<Option<(usize, Stopped)>>,
    said: Vec<Said>,
    /// What to tell the user about, once.
    pub warnings: Vec<String>,
    /// Windows that are searched at a time.
    at_a_time: usize,
    /// The replay is still running: only its first checkpoint is known.
    is_partial: bool,
    /// Whether the first line that one went to was to be the user's.
    first_is_mine: bool,
    /// Is told while something takes long how much of it has been done, of how much.
    pub progress: Option<Box<dyn FnMut(usize, usize)>>,
    done: (usize, usize),
    tallies: Tallies,
    lineages: Vec<Lineage>,
    /// Copies that were to answer questions, and that nobody has asked.
    unasked: Vec<u64>,
    engine: Engine,
}

/// Which way a movement goes, and how far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    Over,
    In,
    /// Out of so many frames.
    Out(u32),
}

impl StepKind {
    /// How many frames more or less than now a step back may end at; 1: any.
    fn change(self) -> i32 {
        match self {
            StepKind::Over => 0,
            StepKind::In => 1,
            StepKind::Out(frames) => -(frames as i32),
        }
    }
}

impl Timeline {
    /// A timeline of a replay that has begun.
    pub fn new(engine: Engine) -> Timeline {
        Timeline {
            windows: Vec::new(),
            present: None,
            crash: None,
            said: Vec::new(),
            warnings: Vec::new(),
            at_a_time: available_parallelism().map_or(1, |cores| cores.get().min(AT_A_TIME)),
            is_partial: true,
            first_is_mine: false,
            progress: None,
            done: (0, 0),
            tallies: Tallies::default(),
            lineages: Vec::new(),
            unasked: Vec::new(),
            engine,
        }
    }

    /// Waits for the replay to end. Whatever else is done takes all checkpoints.
    pub fn complete(&mut self) -> Result<()> {
        if !self.is_partial {
            return Ok(());
        }
        let progress = &mut self.progress;
        let mut tell = || {
            if let Some(progress) = progress {
                progress(0, 0);
            }
        };
        let is_new = self.engine.finish(&mut tell)?;
        self.is_partial = false;
        let stood = self.present.is_some();
        if is_new {
            (self.present, self.windows) = (None, Vec::new());
        }
        for checkpoint in std::mem::take(&mut self.engine.checkpoints) {
            if let Some(process) = checkpoint.process {
                self.windows.push(Stretch::new(process, checkpoint.place, checkpoint.stacks));
            }
        }
        self.warnings.extend(Some(self.engine.said()).filter(|said| !said.is_empty()));
        let Some(tick) = self.present.as_ref().filter(|_| stood && !is_new).map(|present| present.at.tick) else {
            if stood {
                self.forward(Stops { any: true, mine_only: self.first_is_mine, ..Stops::default() })?;
            }
            return Ok(());
        };
        // A line has one position: one that was shown before the windows were known stays in the first.
        self.index(0)?;
        while self.windows.len() > 1 && self.windows[0].ticks.is_some_and(|ticks| tick > ticks) {
            self.windows.remove(1);
            self.windows[0].knows_raised = false;
            self.forget_copies(0);
            self.index(0)?;
        }
        Ok(())
    }

    /// Goes to the first line of all, without waiting for the end of the replay.
    pub fn go_to_first(&mut self, mine_only: bool) -> Result<bool> {
        (self.present, self.first_is_mine) = (None, mine_only);
        let is_its_own = self.engine.begins_as_it_ends();
        if self.is_partial
            && is_its_own
            && self.windows.is_empty()
            && let Some(checkpoint) = self.engine.checkpoints.first_mut()
            && let Some(process) = checkpoint.process.take()
        {
            self.windows.push(Stretch::new(process, checkpoint.place, checkpoint.stacks.clone()));
        }
        let stops = Stops { any: true, mine_only, ..Stops::default() };
        if !self.is_partial || self.windows.is_empty() {
            return self.forward(stops);
        }
        let run = Run { until: None, goal: Goal::First(stops.clone()), leave: Vec::new(), record: false };
        let process = self.engine.run(&self.windows[0].checkpoint, run)?;
        match self.outcome(0, &process)? {
            // What is far from the first checkpoint may be in another one's window.
            Report::Stopped(at) if at.tick <= NEAR => {
                self.arrive(0, *at, process);
                Ok(true)
            }
            _ => self.forward(stops),
        }
    }

    /// Takes in what the replay does while nobody wants anything. False where it has ended.
    pub fn pump(&mut self) -> bool {
        while self.is_partial && self.engine.pump(Duration::ZERO) {}
        self.is_partial && !self.engine.is_over()
    }

    pub fn engine(&mut self) -> &mut Engine {
        &mut self.engine
    }

    pub fn present(&self) -> Result<&Present> {
        self.present.as_ref().ok_or_else(|| Failure::Message("the debugger stands nowhere yet".to_owned()))
    }

    /// Where the debugger stands is the recording's end.
    pub fn set_end(&mut self) {
        if let Some(present) = &mut self.present {
            present.is_end = true;
        }
    }

    /// Why the debugger stands where it does.
    pub fn set_cause(&mut self, cause: Cause) {
        if let Some(present) = &mut self.present {
            present.at.cause = cause;
        }
    }

    fn cancel(&self) -> Cancel {
        self.engine.cancel.clone()
    }

    /// Where a window ends: the next checkpoint, or the recording's end.
    fn until(&self, window: usize) -> Option<Place> {
        self.windows.get(window + 1).map(|next| next.place)
    }

    /// The next report of a run that is not something a breakpoint says.
    fn outcome(&mut self, window: usize, process: &Process) -> Result<Report> {
        let cancel = self.cancel();
        let mut said = Kept::of_run();
        let outcome = loop {
            match process.receive_soon(&cancel) {
                Ok(Some(Report::Said { id, tick, text, failure })) => {
                    said.push(Said { window, tick, until: tick, id, text, failure });
                    // There may always be more of it.
                    if cancel.is_set() {
                        break Err(Failure::Cancelled);
                    }
                    self.tell();
                }
                Ok(Some(report)) => break Ok(report),
                Ok(None) => self.tell(),
                Err(failure) => break Err(failure),
            }
        };
        self.said.extend(said.all());
        outcome
    }

    /// What breakpoints have said on the way, once.
    pub fn take_said(&mut self) -> Vec<Said> {
        said::of_movement(std::mem::take(&mut self.said))
    }

    fn tell(&mut self) {
        let (done, all) = self.done;
        if let Some(progress) = &mut self.progress {
            progress(done, all);
        }
    }

    /// So much of a search has been done.
    fn has_done(&mut self, done: usize, all: usize) {
        self.done = (done, all);
        self.tell();
    }

    /// Takes in copies that have arrived.
    fn collect(&mut self, window: usize) {
        let coming = std::mem::take(&mut self.windows[window].coming);
        for request in coming {
            match self.engine.take_early(request) {
                Some(process) => self.windows[window].copies.push(process),
                None => self.windows[window].coming.push(request),
            }
        }
        self.windows[window].copies.sort_by_key(|process| process.tick);
    }

    /// Makes room for so many processes, near `window` and `tick` last.
    fn make_room(&mut self, wanted: usize, window: usize, tick: u64) {
        let count = |windows: &[Stretch]| -> usize {
            windows.iter().map(|w| 1 + w.copies.len() + w.coming.len() + usize::from(w.index.is_some())).sum()
        };
        // The present, and what looks into it.
        let most = PROCESSES - 4 - wanted;
        let mut order: Vec<usize> = (0..self.windows.len()).filter(|other| *other != window).collect();
        order.sort_by_key(|other| std::cmp::Reverse(other.abs_diff(window)));
        for other in order {
            if count(&self.windows) <= most {
                return;
            }
            self.collect(other);
            self.windows[other].copies.clear();
            if count(&self.windows) > most {
                self.windows[other].index = None;
            }
        }
        while count(&self.windows) > most && !self.windows[window].copies.is_empty() {
            let copies = &mut self.windows[window].copies;
            let far = (0..copies.len()).max_by_key(|place| copies[*place].tick.abs_diff(tick)).unwrap_or(0);
            copies.remove(far);
        }
    }

    /// Goes to a position.
    pub fn go_to(&mut self, to: Position) -> Result<()> {
        self.complete()?;
        match self.go_by_copies(to) {
            Err(Failure::Gone(_)) => {
                self.forget_copies(to.window);
                self.present = None;
                self.go_by_copies(to)
            }
            went => went,
        }
    }

    fn go_by_copies(&mut self, to: Position) -> Result<()> {
        self.collect(to.window);
        let window = &self.windows[to.window];
        let near = window.copies.iter().filter(|copy| copy.tick <= to.tick).max_by_key(|copy| copy.tick);
        let mut base = near.map_or(0, |copy| copy.tick);
        let from_present = self.present.as_ref().is_some_and(|present| {
            let here = present.position();
            let is_line = here.raise == 0 && here.instruction == 0;
            here.window == to.window && is_line && here.tick <= to.tick && here.tick > base
        });
        if from_present {
            base = self.present()?.at.tick;
        }
        let way = to.tick - base;
        let mut leave = Vec::new();
        if way > 4 * SHORT {
            self.make_room(COPIES as usize, to.window, to.tick);
            for half in 1..=COPIES {
                if way >> half >= SHORT {
                    leave.push(Leave { at: At::Tick(to.tick - (way >> half)), request: self.engine.request() });
                }
            }
        }
        self.windows[to.window].coming.extend(leave.iter().map(|leave| leave.request));
        let goal = Goal::Tick { tick: to.tick, raise: to.raise, instruction: to.instruction };
        let run = Run { until: self.until(to.window), goal, leave, record: false };
        let process = if from_present {
            let present = self.present.take();
            let process = present.as_ref().map(|present| self.engine.run(&present.process, run));
            self.present = present;
            process.unwrap_or_else(|| message("the debugger stands nowhere"))?
        } else {
            // Room may have been made where the copy was.
            let copies = &self.windows[to.window].copies;
            let near = copies.iter().filter(|copy| copy.tick <= to.tick).max_by_key(|copy| copy.tick);
            let from = near.unwrap_or(&self.windows[to.window].checkpoint);
            self.engine.run(from, run)?
        };
        match self.outcome(to.window, &process)? {
            Report::Stopped(at) => {
                self.arrive(to.window, *at, process);
                Ok(())
            }
            _ => message("the replay did not come to that position again"),
        }
    }

    fn arrive(&mut self, window: usize, at: Stopped, process: Process) {
        self.present = Some(Present { window, at, is_end: false, process, reader: None, coming: None, diverted: None });
    }

    /// Runs a window through and keeps the run, which knows its ticks.
    fn index(&mut self, window: usize) -> Result<()> {
        if self.windows[window].index.is_some() {
            return Ok(());
        }
        let begin = self.windows[window].place.clock;
        let until = self.until(window);
        let end = until.map_or(self.engine.ended.clock, |place| place.clock);
        let mut leave = Vec::new();
        self.make_room(COPIES as usize + 1, window, u64::MAX);
        if self.windows[window].copies.is_empty() && self.windows[window].coming.is_empty() && end > begin {
            for half in 1..=COPIES {
                let request = self.engine.request();
                leave.push(Leave { at: At::Clock(end - ((end - begin) >> half)), request });
                self.windows[window].coming.push(request);
            }
        }
        let run = Run { until, goal: Goal::Last(Stops::default()), leave, record: true };
        let process = self.engine.run(&self.windows[window].checkpoint, run)?;
        match self.outcome(window, &process)? {
            Report::Window(found) => {
                self.note(window, &found);
                self.windows[window].index = Some(process);
                Ok(())
            }
            _ => message("the replay did not run through"),
        }
    }

    fn note(&mut self, window: usize, found: &Window) {
        self.warn(window, found);
        let stretch = &mut self.windows[window];
        stretch.ticks = Some(found.ticks);
        stretch.crashes.clone_from(&found.crashes);
        self.note_raised(window, found);
    }

    fn note_raised(&mut self, window: usize, found: &Window) {
        let stretch = &mut self.windows[window];
        if !stretch.knows_raised {
            stretch.raised.clone_from(&found.raised);
            stretch.knows_raised = true;
        }
    }

    /// Says it, once, if a run through a window did not come to the next checkpoint.
    fn warn(&mut self, window: usize, found: &Window) {
        let is_last = window + 1 == self.windows.len();
        // Where the replay itself has left the recording, that has been said.
        if found.matched || is_last && self.engine.ended.diverged {
            return;
        }
        let divergence = found.divergence.clone().or(self.engine.divergence());
        if !std::mem::replace(&mut self.windows[window].is_warned, true) {
            let what = if is_last { "the recording's end was not met" } else { "a checkpoint was not met again" };
            let mut text = format!("{what}; what is found near it may be off by some lines");
            if let Some(divergence) = divergence {
                text = format!("{text}\n{divergence}");
            }
            self.warnings.push(text);
        }
    }

    fn find(&mut self, window: usize, find: Find) -> Result<Found> {
        match self.find_in_index(window, find.clone()) {
            Err(Failure::Gone(_)) => {
                self.forget_copies(window);
                self.find_in_index(window, find)
            }
            found => found,
        }
    }

    fn find_in_index(&mut self, window: usize, find: Find) -> Result<Found> {
        self.index(window)?;
        let Some(index) = &self.windows[window].index else { return message("the window is not known") };
        index.send(&Command::Find(find))?;
        match index.receive(&self.engine.cancel) {
            Ok(Report::Found(found)) => Ok(found),
            Ok(_) => message("the window does not answer"),
            Err(error) => {
                // The answer may still come, and is none to the next question.
                self.windows[window].index = None;
                Err(error)
            }
        }
    }

    /// One of them has gone.
    fn forget_copies(&mut self, window: usize) {
        let window = &mut self.windows[window];
        window.index = None;
        window.copies.clear();
        window.coming.clear();
    }

    /// The last tick of a thread before a position that is in reach.
    fn find_back(
        &mut self,
        from: Position,
        thread: Option<u32>,
        mut depth: Option<u32>,
        mut change: i32,
        mine_only: bool,
        leaves: u32,
    ) -> Result<Option<Position>> {
        let mut before = Some(from.tick);
        let mut window = from.window;
        let mut generators = Vec::new();
        loop {
            let find = Find::Back { thread, before, depth, change, mine_only, generators, leaves };
            let found = self.find(window, find)?;
            if let Some(tick) = found.tick {
                return Ok(Some(Position::line(window, tick)));
            }
            if window == 0 || thread.is_some_and(|thread| self.begins_in(window, thread)) {
                return Ok(None);
            }
            (before, depth) = (None, found.depth);
            if depth.is_none() {
                change = 1;
            }
            window -= 1;
            generators = if found.generators.is_empty() {
                Vec::new()
            } else {
                let earlier = self.find(window, Find::Generators)?.generators;
                let later = all_generators(&self.windows[window + 1].checkpoint)?;
                translated(&found.generators, &later, &earlier)
            };
            let allowed = depth.unwrap_or(u32::MAX);
            let kept = |window| thread.map_or(0, |thread| self.kept_frames(window, thread));
            while generators.is_empty() && window > 0 && kept(window) > allowed {
                window -= 1;
            }
        }
    }

    /// Whether a thread that is there in a window is not there at its beginning.
    fn begins_in(&self, window: usize, thread: u32) -> bool {
        let stacks = &self.windows[window].stacks;
        !stacks.is_empty() && !stacks.iter().any(|stack| stack.thread == thread)
    }

    /// How many frames of a thread are there throughout a window, at least.
    fn kept_frames(&self, window: usize, thread: u32) -> u32 {
        let stack = |window: &Stretch| window.stacks.iter().find(|stack| stack.thread == thread).cloned();
        let (begin, end) = (stack(&self.windows[window]), self.windows.get(window + 1).and_then(stack));
        end.zip(begin).map_or(0, |(end, begin)| end.kept_since(&begin))
    }

    /// The last line of all, of whatever thread: where the main one waits for a server's, those have run since. It is the
    /// crash where no line follows that: who has come to it is not led back before it.
    pub fn end(&mut self, mine_only: bool) -> Result<Option<Position>> {
        self.complete()?;
        let window = self.windows.len() - 1;
        self.index(window)?;
        let after = self.windows[window].ticks.unwrap_or(0) + 1;
        let last = self.find_back(Position::line(window, after), None, None, 1, mine_only, 0)?;
        Ok(last.max(self.crash()?))
    }

    /// Where the exception was raised that ended the program.
    pub fn crash(&mut self) -> Result<Option<Position>> {
        if self.crash.is_none() {
            self.crash = Some(self.find_crash()?);
        }
        let crash = self.crash.iter().flatten().next();
        Ok(crash.map(|(window, at)| Position::of(*window, at)))
    }

    /// Goes back to the crash where a movement has passed it. `came`: it has led to a stop, not to the recording's end.
    pub fn stop_at_crash(&mut self, from: Position, came: bool, forwards: bool) -> Result<bool> {
        let Some(crash) = self.crash()? else { return Ok(false) };
        let to = self.present().ok().filter(|_| came).map(Present::position);
        let passed = match forwards {
            true => from < crash && to.is_none_or(|to| crash < to),
            false => crash < from && to.is_none_or(|to| to < crash),
        };
        if passed {
            self.go_to(crash)?;
            let crash = (crash.window, crash.tick);
            self.said.retain(|said| {
                let (at, until) = ((said.window, said.tick), (said.window, said.until));
                if forwards { at <= crash } else { until >= crash }
            });
        }
        Ok(passed)
    }

    /// The window in which it was reported need not be the one in which the exception was raised.
    fn find_crash(&mut self) -> Result<Option<(usize, Stopped)>> {
        self.complete()?;
        let Some(report) = self.engine.ended.crash else { return Ok(None) };
        let last = self.windows.iter().rposition(|window| window.place.clock <= report.clock).unwrap_or(0);
        let mut crash: Option<Raise> = None;
        for window in (0..=last).rev() {
            self.index(window)?;
            if crash.is_none() {
                let reported = &self.windows[window].crashes;
                crash = reported.iter().find(|raise| raise.in_thread == report.in_thread).cloned();
            }
            let Some(crash) = &mut crash else { continue };
            if let Some(at) = self.find(window, Find::Raise(crash.clone()))?.raise {
                return Ok(Some((window, *at)));
            }
            crash.address = None;
        }
        Ok(None)
    }

    /// Whether the crash ended a thread and not the program.
    pub fn crashed_in_thread(&self) -> bool {
        self.engine.ended.crash.is_some_and(|crash| crash.in_thread)
    }

    /// Steps backwards. False where there is nothing before.
    pub fn step_back(&mut self, kind: StepKind, thread: u32, mine_only: bool) -> Result<bool> {
        self.complete()?;
        let present = self.present()?;
        let (mut from, at) = (present.position(), present.at.clone());
        let change = kind.change();
        let mut depth = None;
        if thread != at.thread {
            // Another thread's last line before now is where it is.
            depth = Some(u32::MAX);
        } else if at.instruction > 0 {
            // The beginning of its own line may be in reach.
            from.tick += 1;
            depth = Some(at.depth.saturating_add_signed(change.min(0)));
        } else if at.raise > 0 && at.depth != at.tick_depth {
            // A call of the line that raises has ended, and that line comes first.
            from.tick += 1;
            depth = Some(at.depth.saturating_add_signed(change.min(0)));
        }
        let leaves = leaves(kind, &at, thread, mine_only);
        let Some(to) = self.find_back(from, Some(thread), depth, change, mine_only, leaves)? else { return Ok(false) };
        self.go_to(to)?;
        Ok(true)
    }

    /// Steps forwards, or runs on, to the first of the stops. False at the recording's end.
    pub fn forward(&mut self, mut stops: Stops) -> Result<bool> {
        self.complete()?;
        if self.present.as_ref().is_some_and(|present| present.is_end) {
            return Ok(false);
        }
        self.count_until(self.present.as_ref().map(Present::position), &mut stops)?;
        let (mut window, mut from_present) = (0, false);
        if let Some(present) = &self.present {
            (window, from_present) = (present.window, true);
            (stops.after, stops.after_instruction) = (present.at.tick, present.at.instruction);
        }
        // Where an exception leaves the user's code, the stop has passed.
        let has_passed = stops.exceptions.as_ref().is_some_and(|exceptions| exceptions.user_unhandled);
        let evaluates = stops.evaluates() || has_passed;
        loop {
            self.place_generators(window, &mut stops)?;
            let run =
                Run { until: self.until(window), goal: Goal::First(stops.clone()), leave: Vec::new(), record: false };
            let process = match &self.present {
                Some(present) if from_present => self.engine.run(&present.process, run)?,
                _ => self.engine.run(&self.windows[window].checkpoint, run)?,
            };
            match self.outcome(window, &process)? {
                Report::Stopped(at) => {
                    let cause = at.cause.clone();
                    if evaluates {
                        drop(process);
                        self.go_to(Position::of(window, &at))?;
                    } else {
                        self.arrive(window, *at, process);
                    }
                    self.set_cause(cause);
                    return Ok(true);
                }
                Report::Window(mut found) => {
                    self.warn(window, &found);
                    self.has_done(window + 1, self.windows.len());
                    stops.hits = std::mem::take(&mut found.hits);
                    if let (Some(step), Some(depth)) = (&mut stops.step, found.step_depth) {
                        let frames: Vec<u64> =
                            found.step_generators.iter().copied().chain(found.step_outermost).collect();
                        if !frames.is_empty() {
                            step.leaves = 0;
                        }
                        match depth {
                            u32::MAX => step.end_anywhere(),
                            _ => step.lower(depth),
                        }
                        (step.generators, step.outermost) = (Vec::new(), None);
                        if let (Some(next), false) = (self.windows.get(window + 1), frames.is_empty()) {
                            let (earlier, later) = (all_generators(&process)?, all_generators(&next.checkpoint)?);
                            step.generators = translated(&found.step_generators, &earlier, &later);
                            step.outermost = translated(found.step_outermost.as_slice(), &earlier, &later).pop();
                        }
                    }
                    if !from_present {
                        self.windows[window].ticks.get_or_insert(found.ticks);
                    }
                    for (watch, text) in stops.watches.iter_mut().zip(found.last_watched) {
                        watch.text = text;
                    }
                    window += 1;
                    if window == self.windows.len() {
                        return Ok(false);
                    }
                    (stops.after, stops.after_instruction, from_present) = (0, 0, false);
                }
                _ => return message("the replay does not answer"),
            }
        }
    }

    /// Runs backwards to the last of the stops before the present. False where there is none.
    pub fn backward(&mut self, stops: Stops) -> Result<bool> {
        self.run_back(stops, false)
    }

    /// As [`Self::backward`], to the last one up to the present: what a line has changed is seen at the next one, which the
    /// present may be.
    pub fn backward_from_present(&mut self, stops: Stops) -> Result<bool> {
        self.run_back(stops, true)
    }

    fn run_back(&mut self, stops: Stops, with_present: bool) -> Result<bool> {
        let came = self.search_back(stops, with_present)?;
        // Windows are run through forwards, and to their ends.
        let stop = self.present.as_ref().filter(|_| came).map_or((0, 0), |present| (present.window, present.at.tick));
        self.said.retain(|said| (said.window, said.until) >= stop);
        self.said.sort_by_key(|said| (said.window, said.tick));
        self.said.reverse();
        Ok(came)
    }

    fn search_back(&mut self, mut stops: Stops, with_present: bool) -> Result<bool> {
        self.complete()?;
        if self.present()?.is_end && self.search_behind(&stops)? {
            return Ok(true);
        }
        let here = self.present()?.position();
        let begins = self.hits_at_windows(here.window, &stops)?;
        let watched = self.watched_at_windows(here.window, &stops)?;
        (stops.before, stops.before_instruction, stops.before_raise) = match () {
            _ if with_present => (Some(here.tick + 1), 0, 0),
            // The line that raises has begun before.
            _ if here.raise > 0 => (Some(here.tick), u32::MAX, here.raise),
            _ => (Some(here.tick), here.instruction, 0),
        };
        let mut later: Vec<Option<(usize, Stopped, String)>> = vec![None; stops.watches.len()];
        let mut running = VecDeque::new();
        let mut next = Some(here.window);
        loop {
            // A window further back may turn out to be of no interest, but a core that idles is of no use.
            while let (Some(window), true) = (next, running.len() < self.at_a_time) {
                stops.hits = begins.get(window).cloned().unwrap_or_default();
                if let Some(watched) = watched.get(window) {
                    watched.put_into(&mut stops);
                }
                self.place_generators(window, &mut stops)?;
                let goal = Goal::Last(stops.clone());
                let run = Run { until: self.until(window), goal, leave: Vec::new(), record: false };
                running.push_back((window, self.engine.run(&self.windows[window].checkpoint, run)?));
                next = window.checked_sub(1);
                stops.before = None;
            }
            let Some((window, process)) = running.pop_front() else { return Ok(false) };
            let Report::Window(found) = self.outcome(window, &process)? else {
                return message("the replay does not answer");
            };
            drop(process);
            self.warn(window, &found);
            self.has_done(here.window - window + 1, here.window + 1);
            if let Some(last) = found.last.clone().filter(|last| with_present || Position::of(window, last) != here) {
                running.clear();
                self.go_to(Position::of(window, &last))?;
                self.set_cause(last.cause);
                return Ok(true);
            }
            if watched.is_empty()
                && let Some((in_window, at, cause)) = changed_between(&stops, &later, &found)
            {
                running.clear();
                self.go_to(Position::line(in_window, at.tick))?;
                self.set_cause(cause);
                return Ok(true);
            }
            for ((later, first), begun) in later.iter_mut().zip(found.first_watched).zip(found.begun_watched) {
                if let Some((at, text)) = first {
                    *later = Some((window, at, text));
                }
                if begun {
                    *later = None;
                }
            }
        }
    }

    /// Goes to the last of the stops that lie behind the last line, where the debugger stands at the recording's end: the
    /// exception that this line raises, or what the library does then.
    fn search_behind(&mut self, stops: &Stops) -> Result<bool> {
        let here = self.present()?.position();
        let mut stops = Stops { watches: Vec::new(), ..stops.clone() };
        if stops.exceptions.is_none() && stops.places() == 0 {
            return Ok(false);
        }
        let begins = self.hits_at_windows(self.windows.len() - 1, &stops)?;
        for window in (here.window..self.windows.len()).rev() {
            stops.hits = begins.get(window).cloned().unwrap_or_default();
            if window == here.window {
                self.count_until(Some(here), &mut stops)?;
                (stops.after, stops.after_instruction) = (here.tick, here.instruction);
            }
            let goal = Goal::Last(stops.clone());
            let run = Run { until: self.until(window), goal, leave: Vec::new(), record: false };
            let process = self.engine.run(&self.windows[window].checkpoint, run)?;
            let Report::Window(found) = self.outcome(window, &process)? else {
                return message("the replay does not answer");
            };
            drop(process);
            self.warn(window, &found);
            if let Some(last) = found.last.filter(|last| Position::of(window, last) > here) {
                self.go_to(Position::of(window, &last))?;
                self.set_cause(last.cause);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The line that comes to an event.
    pub fn position_of_event(&mut self, event: u64) -> Result<Position> {
        self.complete()?;
        let last = self.engine.ended.event;
        if event > last {
            let diverged = if self.engine.ended.diverged { " (the replay left the recording there)" } else { "" };
            return message(format!("there is no event {event}: the last one is {last}{diverged}"));
        }
        let window = self.windows.iter().rposition(|window| window.place.event <= event).unwrap_or(0);
        let stops = Stops { event: Some(event), ..Stops::default() };
        for window in (0..=window).rev() {
            let goal = Goal::Last(stops.clone());
            let run = Run { until: self.until(window), goal, leave: Vec::new(), record: false };
            let process = self.engine.run(&self.windows[window].checkpoint, run)?;
            let Report::Window(found) = self.outcome(window, &process)? else {
                return message("the replay does not answer");
            };
            if let Some(last) = found.last {
                return Ok(Position::line(window, last.tick));
            }
        }
        message(format!("no line of Python has run before event {event}"))
    }

    /// The line that comes so many lines after one, in whichever window.
    pub fn later(&mut self, from: Position, ticks: u64) -> Result<Position> {
        self.complete()?;
        let (mut window, mut tick) = (from.window, from.tick.saturating_add(ticks));
        while window < self.windows.len() {
            self.index(window)?;
            let has = self.windows[window].ticks.unwrap_or(0);
            if tick <= has {
                return self.check(Position::line(window, tick));
            }
            (window, tick) = (window + 1, tick - has);
        }
        message("there is no such position")
    }

    /// Whether a position is one: a client may ask for any.
    pub fn check(&mut self, to: Position) -> Result<Position> {
        self.complete()?;
        if to.window >= self.windows.len() {
            return message("there is no such position");
        }
        self.index(to.window)?;
        let ticks = self.windows[to.window].ticks.unwrap_or(0);
        // An exception may be raised before the window's first line.
        if (to.tick, to.raise, to.instruction) == (0, 0, 0) || to.tick > ticks {
            return message("there is no such position");
        }
        Ok(to)
    }

    /// Where exceptions were raised, as far as is known, and whether it is the one that ended the program. A window lists
    /// only so many, but that one is always there.
    pub fn raised(&self) -> impl Iterator<Item = (usize, &Stopped, bool)> {
        let crash = self.crash.iter().flatten().map(|(window, at)| (*window, at));
        let key = |(window, at): (usize, &Stopped)| (window, at.tick, at.raise);
        let last = crash.clone().next().map(key);
        let listed = self.windows.iter().enumerate();
        let listed = listed.flat_map(|(window, stretch)| stretch.raised.iter().map(move |at| (window, at)));
        let listed = listed.filter(move |at| Some(key(*at)) != last).map(|(window, at)| (window, at, false));
        listed.chain(crash.map(|(window, at)| (window, at, true)))
    }

    /// Asks about the state at the present. `lasting`: in the copy that is changed, which is made if need be.
    pub fn ask(&mut self, mut question: Value, lasting: bool) -> Result<Value> {
        let is_reading = !lasting && !self.is_diverted();
        // Where the code of a value's `__repr__` may run, but nothing of the user's, one copy serves all questions.
        let is_shown = READING.contains(&question["ask"].as_str().unwrap_or_default());
        let here = lasting || is_reading && is_shown && question["expression"].is_null();
        let answer = self.ask_copy(&question, is_reading, here);
        match answer {
            Err(Failure::Gone(_)) if here && is_reading => {}
            Err(Failure::Ended(_)) if !here && is_shown => {}
            answer => return answer,
        }
        // One of the values has no end. Each in a copy of its own, the others are shown.
        question["apart"] = true.into();
        self.ask_copy(&question, is_reading, false)
    }

    fn ask_copy(&mut self, question: &Value, is_reading: bool, here: bool) -> Result<Value> {
        let request = self.engine.request();
        let Some(present) = &mut self.present else { return message("the debugger stands nowhere yet") };
        let copy = if is_reading { &mut present.reader } else { &mut present.diverted };
        let process = match copy {
            Some(process) => process,
            None => {
                let coming = if is_reading { present.coming.take() } else { None };
                if coming.is_none() {
                    present.process.send(&Command::Divert { request })?;
                }
                let request = coming.unwrap_or(request);
                self.unasked.retain(|other| *other != request);
                copy.insert(self.engine.take(request)?)
            }
        };
        process.send(&Command::Inspect { question: question.clone(), here })?;
        match process.receive(&self.engine.cancel) {
            Ok(Report::Answer(answer)) => match answer["error"].as_str() {
                Some(error) if answer["ended"] == true => Err(Failure::Ended(error.to_owned())),
                Some(error) => message(error),
                None => Ok(answer),
            },
            Ok(_) => message("the replay does not answer"),
            Err(error) => {
                // It is not there any more, or still at it.
                if here || matches!(error, Failure::Cancelled) {
                    *copy = None;
                }
                Err(error)
            }
        }
    }

    /// Has the copy made that answers questions, which come next: so that it is there by then.
    pub fn expect_questions(&mut self) {
        // Of places that are left.
        let coming = self.present.as_ref().and_then(|present| present.coming);
        for request in std::mem::take(&mut self.unasked) {
            if Some(request) == coming || self.engine.take_early(request).is_none() {
                self.unasked.push(request);
            }
        }
        let request = self.engine.request();
        let Some(present) = &mut self.present else { return };
        // If it can't be made, the first question says so.
        if present.reader.is_none()
            && present.coming.is_none()
            && present.process.send(&Command::Divert { request }).is_ok()
        {
            present.coming = Some(request);
            self.unasked.push(request);
        }
    }

    /// Whether what is shown now was changed.
    pub fn is_diverted(&self) -> bool {
        self.present.as_ref().is_some_and(|present| present.diverted.is_some())
    }
}

/// Where the frames of all generators lie where a process stands.
fn all_generators(process: &Process) -> Result<Vec<u64>> {
    process.send(&Command::Find(Find::Generators))?;
    match process.receive(&Cancel::default())? {
        Report::Found(found) => Ok(found.generators),
        _ => message("the replay does not answer"),
    }
}

/// Where generators lie in another process that stands at the same place; `from` and `to` are all there are, in one order.
fn translated(generators: &[u64], from: &[u64], to: &[u64]) -> Vec<u64> {
    if from.len() != to.len() {
        return Vec::new();
    }
    let place = |frame: &u64| from.iter().position(|other| other == frame);
    generators.iter().filter_map(|frame| Some(to[place(frame)?])).collect()
}

/// Below so many frames a step has left the user's code, as where a framework calls it, and ends in any of its lines.
fn leaves(kind: StepKind, at: &Stopped, thread: u32, mine_only: bool) -> u32 {
    if mine_only && thread == at.thread && kind != StepKind::In { at.mine } else { 0 }
}

/// The end of a step forwards.
pub fn step_of(kind: StepKind, at: &Stopped, thread: u32, mine_only: bool) -> Step {
    let depth = match kind {
        _ if thread != at.thread => u32::MAX,
        StepKind::In => u32::MAX,
        StepKind::Over => at.depth,
        // Nothing is below the outermost frame: with it the thread ends.
        StepKind::Out(frames) => at.depth.saturating_sub(frames),
    };
    Step { thread, depth, leaves: leaves(kind, at, thread, mine_only), ..Step::default() }
}

/// What DAP calls the reason of a stop.
pub fn reason(cause: &Cause) -> &'static str {
    match cause {
        Cause::Goal => "goto",
        Cause::Step => "step",
        Cause::Breakpoint(_) => "breakpoint",
        Cause::Exception { .. } => "exception",
        Cause::Change { .. } => "data breakpoint",
    }
}
