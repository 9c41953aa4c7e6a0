//! A copy of a checkpoint that runs with line events on, to a goal, and waits there.

use super::depths::Depths;
use super::exceptions::{Asked, Raised};
use super::expressions::{Expression, HERE, diverted_in};
use super::generators::{self, Generators};
use super::instructions::Instructions;
use super::process::{self, Channel, fork};
use super::ticks::{Codes, Tick, find_back, running_codes};
use super::watches::Watched;
use super::{clock, inspect, runner, timeline};
use crate::session::{self, Mode};
use crate::{replay, user_threads};
use pyo3_ffi::*;
use retrace_abi::line_events::{
    depth_of, retrace_frame_above, retrace_has_ended, retrace_is_coroutine_frame, retrace_line_events_check_again,
    retrace_line_events_slack, retrace_offset_above, retrace_watch_end,
};
use retrace_abi::{Frame, ThreadState, gil, innermost_frame};
use retrace_replay::debug_protocol::{
    At, Cause, Command, Find, Found, Goal, Hits, Place, Raise, Report, Role, Run, Stopped, Stops, Target, Window,
};
use retrace_replay::thinned::Thinned;
use std::collections::HashMap;
use std::ffi::c_int;
use std::ptr;

/// So many times the clock's slack behind a place, it is not looked for any more: to stop early would lose ticks.
const MISSED: u64 = 16;
/// Stops that a window lists.
const LISTED: usize = 500;

/// What a runner knows of a thread.
#[derive(Clone, Copy)]
pub(super) struct Actor {
    /// The fewest frames since its last tick, and since its last instruction where those are events.
    low: u32,
    pub(super) low_instruction: u32,
    /// A frame has begun, or gone on, since its last tick.
    pub(super) begun: bool,
    /// The generators that it is in; None until it has done anything here.
    stack: Option<u32>,
}

const NEW: Actor = Actor { low: u32::MAX, low_instruction: u32::MAX, begun: false, stack: None };

pub struct Runner {
    pub(super) run: Run,
    left: usize,
    pub(super) position: Stopped,
    pub(super) codes: Codes,
    actors: Vec<Actor>,
    /// Their frames.
    depths: Vec<Depths>,
    ticks: Vec<Tick>,
    pub(super) generators: Generators,
    /// Those that a step may end in.
    followed: Vec<u32>,
    /// The frame of the generator with whose end the user's code is left.
    outermost: Option<usize>,
    pub(super) last: Option<Stopped>,
    /// The last raise at each address, code and instruction.
    pub(super) origins: HashMap<(usize, usize, c_int), Stopped>,
    pub(super) raised: Vec<Stopped>,
    /// How many of them are the library's, and the user's.
    pub(super) listed: [usize; 2],
    /// See [`Window::crashes`].
    pub(super) crashes: Vec<Raise>,
    /// The exception that was raised in a frame last, by their addresses.
    pub(super) in_flight: HashMap<usize, usize>,
    pub(super) last_raised: Option<Raised>,
    /// Exceptions that C code which asked has got, by thread.
    pub(super) asked: HashMap<u32, Asked>,
    /// The tick and the raise where the run began.
    pub(super) began: (u64, u32),
    hits: Vec<u64>,
    /// Conditions of lines, functions and watched values, by their places in the list, and what lines say.
    conditions: Vec<Expression>,
    messages: Vec<Expression>,
    stops: Thinned<Stopped>,
    watches: Vec<Watched>,
    pub(super) instructions: Instructions,
    pub(super) divergence: Option<String>,
}

/// A check of the eval breaker that line events may lead a thread to more than once. It counts once. Each thread has its
/// own: others run where it is given up at one.
pub struct Check {
    /// The frame that was at one since its last line, and at which instruction.
    at: (usize, c_int),
    is_same: bool,
}

impl Check {
    pub const NONE: Check = Check { at: (0, 0), is_same: false };

    /// The thread has come to one.
    ///
    /// # Safety
    /// Replaying; the GIL's mutex is held.
    pub unsafe fn begin(&mut self, tstate: *mut ThreadState) {
        // SAFETY: by contract.
        unsafe {
            let again = retrace_line_events_check_again(tstate) != 0;
            let at = if again { (innermost_frame(tstate) as usize, retrace_offset_above(tstate, 0)) } else { (0, 0) };
            self.is_same = again && self.at == at;
            self.at = at;
        }
    }

    /// The thread has come to a line.
    pub fn forget_frame(&mut self) {
        (self.at, self.is_same) = ((0, 0), false);
    }

    /// Whether the thread was at this check before.
    pub fn is_same(&self) -> bool {
        self.is_same
    }
}

/// Where the running thread is, between two lines.
unsafe fn standing() -> Stopped {
    // SAFETY: the GIL is held, the thread state set.
    let (thread, depth) = unsafe { (user_threads::running(), depth_of(PyThreadState_Get().cast())) };
    Stopped { thread: thread as u32, depth, ..Stopped::default() }
}

pub(super) fn stops_of(run: &Run) -> Option<&Stops> {
    match &run.goal {
        Goal::First(stops) | Goal::Last(stops) => Some(stops),
        Goal::Tick { .. } | Goal::Before(_) => None,
    }
}

/// Waits for commands. Returns in each copy that is to run on, with its way. `runner`: who waits, where it is one; it is
/// handed through, because nobody else may hold it meanwhile.
///
/// # Safety
/// The GIL is held, this thread the only one.
pub unsafe fn wait(tick: u64, runner: Option<&Runner>) -> Run {
    // SAFETY: by contract.
    unsafe {
        loop {
            match timeline().channel.receive() {
                Command::Run { request, run } => {
                    if fork() == 0 {
                        become_copy(request, tick);
                        process::watch_debugger();
                        // What passes here does not pass where that ends.
                        inspect::set_exception(std::ptr::null_mut());
                        return *run;
                    }
                }
                Command::Divert { request } => {
                    if fork() == 0 {
                        become_copy(request, tick);
                        inspect::divert();
                    }
                }
                Command::Inspect { question, here } => inspect::answer(&timeline().channel, &question, here),
                Command::Find(Find::Generators) => {
                    let found = Found { generators: generators::all(), ..Found::default() };
                    timeline().channel.send(&Report::Found(found));
                }
                Command::Find(find) => {
                    let found = runner.map_or_else(Default::default, |runner| runner.find(&find));
                    timeline().channel.send(&Report::Found(found));
                }
            }
        }
    }
}

unsafe fn become_copy(request: u64, tick: u64) {
    // SAFETY: as in `wait`.
    unsafe {
        process::end_with_parent_channel();
        timeline().channel = Channel::open(&timeline().socket, Role::Asked { request, tick });
    }
}

/// Whether the generator's frame that is watched has ended; not where none is.
fn has_ended(watched: Option<usize>) -> bool {
    // SAFETY: the GIL is held: a runner works while Python runs.
    watched.is_some() && unsafe { retrace_has_ended() != 0 }
}

impl Runner {
    /// A runner that stands at a checkpoint.
    ///
    /// # Safety
    /// Replaying; the GIL is held.
    pub unsafe fn new(run: Run) -> Box<Runner> {
        // SAFETY: by contract.
        let event = unsafe { replay::source() }.index().0;
        let mut runner = Box::new(Runner {
            run: run.clone(),
            left: 0,
            position: Stopped { event, ..Stopped::default() },
            codes: Codes::default(),
            actors: Vec::new(),
            depths: Vec::new(),
            ticks: Vec::new(),
            generators: Generators::default(),
            followed: Vec::new(),
            outermost: None,
            last: None,
            origins: HashMap::new(),
            raised: Vec::new(),
            listed: [0; 2],
            crashes: Vec::new(),
            in_flight: HashMap::new(),
            last_raised: None,
            asked: HashMap::new(),
            began: (0, 0),
            hits: Vec::new(),
            conditions: Vec::new(),
            messages: Vec::new(),
            stops: Thinned::new(LISTED),
            watches: Vec::new(),
            instructions: Instructions::default(),
            divergence: None,
        });
        // SAFETY: by contract.
        unsafe { runner.set(run) };
        runner
    }

    /// Waits at this position; in a copy that runs on, takes its way.
    pub(super) unsafe fn wait(&mut self) {
        // SAFETY: by the contract of `wait`. What the waiting allocates is not the program's.
        unsafe {
            let tick = self.position.tick;
            let run = clock::uncounted(|| wait(tick, Some(self)));
            self.set(run);
        }
    }

    fn find(&self, find: &Find) -> Found {
        // SAFETY: the GIL was never given back.
        let all = || unsafe { generators::all() };
        match find {
            Find::Generators => Found { generators: all(), ..Found::default() },
            Find::GeneratorOf { thread, depth } => {
                // SAFETY: as above.
                let frame = unsafe { generators::frame_of_thread(*thread, *depth) };
                let generator = frame.map(|frame| self.generators.known_as(frame));
                Found { generator, ..Found::default() }
            }
            Find::GeneratorAt { place, of } => {
                let frame = Some(all()).filter(|all| all.len() == *of).and_then(|all| all.get(*place).copied());
                let generator = frame.map(|frame| self.generators.known_as(frame as usize));
                Found { generator, ..Found::default() }
            }
            Find::PlaceOf(generator) => {
                let (all, frame) = (all(), self.generators.place_of(*generator));
                let place = all.iter().position(|other| Some(*other as usize) == frame);
                Found { place: place.map(|place| (place, all.len())), ..Found::default() }
            }
            Find::Raise(raise) => Found { raise: self.origin(raise).cloned().map(Box::new), ..Found::default() },
            Find::Back { .. } | Find::Since { .. } => {
                let ends: Vec<u32> = self.actors.iter().map(|actor| actor.low).collect();
                find_back(&self.ticks, &ends, &self.generators, find)
            }
        }
    }

    unsafe fn set(&mut self, mut run: Run) {
        if stops_of(&run).is_some_and(Stops::evaluates) {
            // Nobody goes on with this run where it stops.
            // SAFETY: the GIL is held.
            unsafe { inspect::confine() };
        }
        self.codes.set_stops(stops_of(&run));
        let stops = stops_of(&run);
        self.hits = stops.map(|stops| stops.hits.clone()).unwrap_or_default();
        self.hits.resize(stops.map_or(0, Stops::places), 0);
        self.conditions = (0..self.hits.len()).map(|_| Expression::new()).collect();
        self.messages = (0..stops.map_or(0, |stops| stops.breakpoints.len())).map(|_| Expression::message()).collect();
        self.stops = Thinned::new(LISTED);
        let watches = stops_of(&run).map_or(&[][..], |stops| &stops.watches);
        let stack = self.actors.get(self.position.thread as usize).and_then(|actor| actor.stack);
        let stack = stack.unwrap_or(generators::NONE);
        let (at, generators) = (&self.position, &mut self.generators);
        // SAFETY: this stands at its position.
        let watched = watches.iter().map(|watch| unsafe { Watched::new(watch, at, generators, stack) });
        self.watches = watched.collect();
        self.left = 0;
        self.last = None;
        (self.followed, self.outermost) = (Vec::new(), None);
        if let Goal::First(stops) | Goal::Last(stops) = &mut run.goal {
            self.follow(stops);
        }
        self.run = run;
        self.began = (self.position.tick, self.position.raise);
        for actor in &mut self.actors {
            actor.low_instruction = u32::MAX;
        }
        // SAFETY: the GIL is held.
        unsafe {
            self.set_alarm();
            self.follow_instructions();
            self.follow_reraises();
            replay::ends_before(self.run.until.map(|until| (until.process, until.event)));
        }
    }

    /// Finds the generators whose frames a step may end in, besides those that its depth says.
    fn follow(&mut self, stops: &mut Stops) {
        let Some(step) = &mut stops.step else { return };
        if self.position.tick == 0 {
            let number = |frame: &u64| self.generators.number(*frame as usize, None);
            self.followed = step.generators.iter().map(number).collect();
            self.outermost = step.outermost.map(|frame| frame as usize);
        } else if step.depth != u32::MAX {
            let stack = self.actors.get(step.thread as usize).and_then(|actor| actor.stack);
            let stack = stack.unwrap_or(generators::NONE);
            let is_shown = |generator: &u32| !stops.mine_only || !self.generators.is_library(*generator);
            self.followed = self.generators.up_to(stack, step.depth);
            self.followed.retain(is_shown);
            let mut all = self.generators.up_to(stack, self.position.depth);
            all.retain(is_shown);
            let last = all.last().filter(|_| step.leaves > 0);
            // What a generator yields to may be other code of the user's, as what is below it may; a coroutine waits.
            let is_below_all = last.is_some_and(|last| self.generators.at(stack, step.leaves) == *last);
            let waits = |frame: &usize| {
                // SAFETY: the frame of a generator that the thread is in.
                let is_coroutine = unsafe { retrace_is_coroutine_frame(*frame as *mut Frame) } != 0;
                is_coroutine || !self.followed.is_empty() && is_below_all
            };
            self.outermost = last.and_then(|generator| self.generators.place(*generator)).filter(waits);
        }
        if !self.followed.is_empty() || self.outermost.is_some() {
            // A generator's frame is left and come back to: the user's code is not left with it.
            step.leaves = 0;
        }
        // SAFETY: the frame of a generator that there is.
        unsafe { retrace_watch_end(self.outermost.map_or(std::ptr::null_mut(), |frame| frame as *mut Frame)) };
    }

    /// Looks for the window's end from when it may be near.
    unsafe fn set_alarm(&self) {
        // SAFETY: the GIL is held; written once at build time.
        unsafe {
            if let Some(until) = &self.run.until {
                clock::set_alarm(until.clock.saturating_sub(retrace_line_events_slack));
            } else {
                clock::set_alarm(u64::MAX);
            }
        }
    }

    /// At a check of the eval breaker: whether this is where the next checkpoint stands.
    pub unsafe fn at_check(&mut self) {
        // SAFETY: by the contract of `super::at_check`.
        unsafe {
            let Some(until) = self.run.until else { return };
            if clock::now() + retrace_line_events_slack < until.clock {
                return;
            }
            if self.is_past(&until) {
                self.end_window(false);
            }
            if !user_threads::check().is_same() && self.is_at(&until) {
                user_threads::with_thread_state(|| {
                    let at = self.place_watches();
                    self.watches.iter_mut().for_each(|watch| watch.end(&at));
                });
                self.end_window(true);
            }
        }
    }

    /// Where the window's end may be near.
    pub unsafe fn ask_for_check(&self) {
        // SAFETY: the GIL is held.
        unsafe {
            if self.run.until.is_some_and(|until| clock::now() + retrace_line_events_slack >= until.clock) {
                gil::retrace_request_check();
            }
        }
    }

    unsafe fn is_past(&self, until: &Place) -> bool {
        // SAFETY: as above.
        unsafe {
            let source = replay::source();
            let later = (source.process(), source.index().0) > (until.process, until.event);
            later || clock::now() > until.clock + MISSED * retrace_line_events_slack
        }
    }

    unsafe fn is_at(&mut self, place: &Place) -> bool {
        // SAFETY: at a check.
        unsafe {
            let source = replay::source();
            if (source.process(), source.index().0) != (place.process, place.event) {
                return false;
            }
            let tstate = *gil::retrace_gil.last_holder;
            if gil::retrace_fingerprint_is_near(tstate, place.near) == 0 {
                return false;
            }
            // The others look at all frames, or would count them.
            let [at, shallow, deep] = place.hashes;
            let depths = self.depths(user_threads::running());
            depths.now(tstate, false);
            let frames = depths.frames();
            gil::retrace_fingerprint_known_frames(frames.as_ptr(), frames.len() as c_int);
            let is_at = gil::retrace_fingerprint_place(tstate) == at
                && gil::retrace_fingerprint_shallow(tstate) == shallow
                && gil::retrace_fingerprint_deep(tstate) == deep;
            gil::retrace_fingerprint_known_frames(ptr::null(), 0);
            is_at
        }
    }

    /// Looks at what is watched where it begins, at a checkpoint that stands at a check.
    pub(super) unsafe fn begin_watches(&mut self) {
        // SAFETY: the GIL is held, the thread state set.
        unsafe {
            let at = self.place_watches();
            self.watches.iter_mut().for_each(|watch| watch.begin(&at));
        }
    }

    /// Finds the frames of what is watched between two lines. Returns where that is.
    unsafe fn place_watches(&mut self) -> Stopped {
        // SAFETY: the GIL is held, the thread state set.
        unsafe {
            let at = standing();
            let stack = self.stack(PyThreadState_Get().cast(), at.thread as usize, at.depth);
            self.watches.iter_mut().for_each(|watch| watch.place(&at, &self.generators, stack));
            at
        }
    }

    /// The replay ends here. Where another checkpoint was to come, it has left the recording as well.
    pub unsafe fn end(&mut self, diverged: bool) -> ! {
        let matched = self.run.until.is_none() && !diverged;
        // SAFETY: the GIL is held.
        unsafe { self.end_window(matched) }
    }

    /// The window has been run through. Answers what is asked about it from now on.
    pub unsafe fn end_window(&mut self, matched: bool) -> ! {
        // SAFETY: the GIL is held.
        unsafe {
            self.come_to_end();
            let begun_watched = self.watches.iter().map(Watched::has_begun).collect();
            let (last_watched, first_watched) = self.watches.iter().map(Watched::ends).unzip();
            let window = Window {
                ticks: self.position.tick,
                matched,
                divergence: self.divergence.take(),
                last: self.last.take(),
                step_depth: self.step_depth(),
                step_generators: self.generators.addresses(&self.followed),
                step_outermost: self.outermost.map(|frame| frame as u64),
                first_watched,
                begun_watched,
                last_watched,
                crashes: std::mem::take(&mut self.crashes),
                hits: std::mem::take(&mut self.hits),
                stops: self.stops.take(),
                raised: std::mem::take(&mut self.raised),
            };
            timeline().channel.send(&Report::Window(Box::new(window)));
            // Without Python's state no copy could run on.
            loop {
                if let Command::Find(find) = timeline().channel.receive() {
                    timeline().channel.send(&Report::Found(self.find(&find)));
                }
            }
        }
    }

    /// The fewest frames each thread has had since its last instruction.
    pub(super) fn lows_since_instructions(&self) -> Vec<u32> {
        self.actors.iter().map(|actor| actor.low_instruction).collect()
    }

    fn step_depth(&self) -> Option<u32> {
        let step = stops_of(&self.run)?.step.as_ref()?;
        if step.depth == u32::MAX || has_ended(self.outermost) {
            return Some(u32::MAX);
        }
        Some(self.actors.get(step.thread as usize).map_or(step.depth, |actor| step.depth.min(actor.low.max(1))))
    }

    /// A thread's innermost frame has begun, where a checkpoint stands.
    pub(super) unsafe fn has_begun(&mut self, thread: u32, tstate: *mut ThreadState) {
        // SAFETY: the GIL is held.
        unsafe {
            let depth = self.depth(tstate, thread as usize);
            let actor = self.actor(thread as usize);
            let below = depth.saturating_sub(1);
            (actor.low, actor.low_instruction) = (actor.low.min(below), actor.low_instruction.min(below));
            actor.begun = true;
        }
    }

    /// How many frames a thread has.
    pub(super) unsafe fn depth(&mut self, tstate: *mut ThreadState, thread: usize) -> u32 {
        // SAFETY: the GIL is held. Each frame that begins tells `start`.
        unsafe { self.depths(thread).now(tstate, false) }
    }

    fn depths(&mut self, thread: usize) -> &mut Depths {
        if self.depths.len() <= thread {
            self.depths.resize_with(thread + 1, Depths::default);
        }
        &mut self.depths[thread]
    }

    pub(super) unsafe fn actor(&mut self, thread: usize) -> &mut Actor {
        if self.actors.len() <= thread {
            self.actors.resize(thread + 1, NEW);
        }
        &mut self.actors[thread]
    }

    /// A frame begins, or goes on.
    unsafe fn start(&mut self, tstate: *mut ThreadState, resumed: bool) {
        // SAFETY: the GIL is held; a start event's values.
        unsafe {
            let thread = user_threads::running();
            let depth = self.depths(thread).now(tstate, true);
            let frame = generators::generator_frame(innermost_frame(tstate));
            let generator = if frame == 0 { generators::NONE } else { self.generator(tstate, frame, resumed) };
            let stack = self.stack(tstate, thread, depth);
            let stack = self.generators.enter(stack, depth, generator);
            let actor = self.actor(thread);
            actor.low = actor.low.min(depth.saturating_sub(1));
            actor.low_instruction = actor.low_instruction.min(depth.saturating_sub(1));
            actor.begun = !resumed;
            actor.stack = Some(stack);
        }
    }

    /// The generator of a frame that begins, or goes on.
    unsafe fn generator(&mut self, tstate: *mut ThreadState, frame: usize, resumed: bool) -> u32 {
        let generator = self.generators.number(frame, (!resumed).then_some(self.position.tick));
        let mut variables = std::ptr::null_mut();
        // SAFETY: as in `start`; a thread that starts a frame has one.
        let is_mine = unsafe {
            let code = retrace_frame_above(tstate, 0, &mut variables);
            self.codes.is_mine(code, stops_of(&self.run))
        };
        self.generators.set_library(generator, !is_mine);
        if !resumed {
            let known_as = self.generators.newest();
            self.watches.iter_mut().for_each(|watch| watch.generator_begins(known_as, generator));
        }
        generator
    }

    /// The generators that a thread is in.
    unsafe fn stack(&mut self, tstate: *mut ThreadState, thread: usize, depth: u32) -> u32 {
        // SAFETY: the GIL is held.
        unsafe {
            match self.actor(thread).stack {
                Some(stack) => self.generators.leave(stack, depth),
                None => {
                    let (codes, stops) = (&mut self.codes, stops_of(&self.run));
                    self.generators.stack_of(tstate, depth, |code| codes.is_mine(code, stops))
                }
            }
        }
    }

    unsafe fn line(&mut self, tstate: *mut ThreadState, code: *mut PyObject, line: c_int) {
        // SAFETY: the GIL is held; a line event's values.
        unsafe {
            user_threads::check().forget_frame();
            let thread = user_threads::running();
            let depth = self.depth(tstate, thread);
            let actor = *self.actor(thread);
            let low = actor.low.min(depth);
            let stack = self.stack(tstate, thread, depth);
            let low_instruction = if self.has_instructions() { actor.low_instruction } else { low };
            *self.actor(thread) = Actor { low: u32::MAX, low_instruction, begun: false, stack: Some(stack) };
            let index = self.codes.index(code, stops_of(&self.run));
            let event = replay::source().index().0;
            let position = &mut self.position;
            position.since = if position.event == event { position.since + 1 } else { 0 };
            position.tick += 1;
            (position.raise, position.instruction) = (0, 0);
            (position.thread, position.depth, position.event) = (thread as u32, depth, event);
            position.tick_depth = depth;
            position.line = line as u32;
            let is_mine = self.codes.get(index).is_mine;
            if self.run.record {
                self.ticks.push(Tick { thread: thread as u16, depth, low, is_mine, stack });
            }
            // Whoever asked has done with it.
            self.asked.remove(&(thread as u32));
            self.leave_copies();
            self.follow_instructions();
            self.instructions_begin_line(tstate, code, index);
            self.look(index, low, actor.begun, is_mine);
            if let Some(until) = &self.run.until {
                if self.is_past(until) {
                    self.end_window(false);
                }
                self.set_alarm();
            }
        }
    }

    unsafe fn leave_copies(&mut self) {
        // SAFETY: as in `line`.
        unsafe {
            while let Some(leave) = self.run.leave.get(self.left) {
                let is_due = match leave.at {
                    At::Tick(tick) => self.position.tick >= tick,
                    At::Clock(time) => clock::now() >= time,
                };
                if !is_due {
                    return;
                }
                self.left += 1;
                let request = leave.request;
                if fork() == 0 {
                    self.ticks = Vec::new();
                    self.origins = HashMap::new();
                    become_copy(request, self.position.tick);
                    self.wait();
                    return;
                }
            }
        }
    }

    /// Stops if this tick is the goal; then again, because another goal may be the same tick.
    unsafe fn look(&mut self, code: usize, low: u32, begun: bool, is_mine: bool) {
        // SAFETY: as in `line`.
        unsafe {
            loop {
                let tick = self.position.tick;
                let cause = match &self.run.goal {
                    Goal::Tick { tick: wanted, raise: 0, instruction: 0 } if *wanted == tick => Some(Cause::Goal),
                    // It has been missed.
                    Goal::Tick { tick: wanted, .. } if tick > *wanted => self.end_window(false),
                    Goal::Tick { .. } | Goal::Before(_) => None,
                    Goal::Last(stops) if is_over(stops, tick, 0) => self.end_window(true),
                    Goal::Last(stops) if stops.event.is_some_and(|event| self.position.event > event) => {
                        self.end_window(true)
                    }
                    Goal::First(_) | Goal::Last(_) => self.cause(code, low, begun, is_mine),
                };
                let Some(cause) = cause else { return };
                let stopped = Stopped { path: self.codes.get(code).path.clone(), cause, ..self.position.clone() };
                if !self.stop(stopped) {
                    return;
                }
            }
        }
    }

    /// Waits here, or goes on where only the last stop is wanted. True in a copy that runs on.
    pub(super) unsafe fn stop(&mut self, mut stopped: Stopped) -> bool {
        // SAFETY: as in `line`.
        unsafe {
            if let Goal::Last(stops) = &self.run.goal {
                if stops.list {
                    self.stops.push(|| stopped.clone());
                }
                self.last = Some(stopped);
                return false;
            }
            stopped.mine = self.mine();
            timeline().channel.send(&Report::Stopped(Box::new(stopped)));
            self.wait();
            true
        }
    }

    /// How many frames the running thread has up to its outermost one of the user's own code.
    unsafe fn mine(&mut self) -> u32 {
        // SAFETY: as in `line`.
        unsafe {
            let stops = stops_of(&self.run);
            let place = running_codes().into_iter().position(|code| self.codes.is_mine(code, stops));
            place.map_or(0, |place| place as u32 + 1)
        }
    }

    /// Why to stop at this tick.
    unsafe fn cause(&mut self, code: usize, low: u32, begun: bool, is_mine: bool) -> Option<Cause> {
        // SAFETY: as in `line`.
        unsafe {
            let position = &self.position;
            let (Goal::First(stops) | Goal::Last(stops)) = &mut self.run.goal else { return None };
            if position.tick <= stops.after {
                return None;
            }
            let shown = is_mine || !stops.mine_only;
            let mut stepped = None;
            if let Some(step) = &mut stops.step
                && step.thread == position.thread
            {
                let stack = self.actors[position.thread as usize].stack.unwrap_or(generators::NONE);
                let innermost = || self.generators.at(stack, position.depth);
                if has_ended(self.outermost) {
                    (self.followed, self.outermost) = (Vec::new(), None);
                    step.end_anywhere();
                }
                if step.depth != u32::MAX {
                    step.lower(low);
                }
                let is_argument = |target: &Target| {
                    (target.from + 1..target.end).contains(&retrace_offset_above(PyThreadState_Get().cast(), 0))
                };
                let is_before = position.depth == step.depth
                    && (position.line < step.line || step.into.as_ref().is_some_and(is_argument));
                let is_followed = || self.followed.contains(&innermost());
                let ends = position.depth <= step.depth && !is_before;
                if shown && (ends || !self.followed.is_empty() && is_followed()) {
                    stepped = Some(Cause::Step);
                } else if let Some(target) = step.into
                    && shown
                    && position.depth > step.depth
                {
                    let above = (position.depth - step.depth) as c_int;
                    let at = retrace_offset_above(PyThreadState_Get().cast(), above);
                    stepped = (target.begin..target.end).contains(&at).then_some(Cause::Step);
                }
            }
            if stops.any && shown || stops.event.is_some_and(|event| position.event <= event) {
                return Some(Cause::Goal);
            }
            let info = self.codes.get(code);
            let line = position.line;
            let inside = std::mem::take(&mut self.instructions.at_line);
            let is_function = begun && !info.functions.is_empty();
            let is_line = info.breakpoints.iter().any(|(other, _)| *other == line);
            if !is_line && !is_function && stops.watches.is_empty() && inside.is_empty() {
                return stepped;
            }
            // All of them count their hits and say what they have to, wherever this stops.
            let lines = stops.breakpoints.len();
            let mut cause = None;
            if is_function {
                for place in info.functions.clone() {
                    cause = cause.or(self.breakpoint(lines + place));
                }
            }
            for number in 0..self.codes.get(code).breakpoints.len() {
                let (other, place) = self.codes.get(code).breakpoints[number];
                if other == line {
                    cause = self.breakpoint(place).or(cause);
                }
            }
            for place in inside {
                cause = self.breakpoint(place).or(cause);
            }
            let change = self.changes(begun);
            stepped.or(cause).or(change)
        }
    }

    /// A line's breakpoint by its place in the list; behind those of lines are those of functions.
    pub(super) unsafe fn breakpoint(&mut self, place: usize) -> Option<Cause> {
        // SAFETY: as in `line`.
        unsafe {
            let (Goal::First(stops) | Goal::Last(stops)) = &self.run.goal else { return None };
            let (id, condition, hits, log) = match stops.breakpoints.get(place) {
                Some(line) => (line.id, &line.condition, line.hits, &line.log),
                None => {
                    let function = stops.functions.get(place - stops.breakpoints.len())?;
                    (function.id, &function.condition, function.hits, &None)
                }
            };
            if let Some(condition) = condition {
                let known = &mut self.conditions[place];
                // One that fails is said, and counts as true.
                let holds = known.holds(condition, HERE);
                let holds = holds.unwrap_or_else(|| evaluate_here("condition", condition).map(|text| text == "True"));
                match holds {
                    Ok(true) => {}
                    Ok(false) => return None,
                    Err(text) => self.say(id, text, true),
                }
            }
            let log = log.clone();
            if !self.counts(place, hits) {
                return None;
            }
            let Some(log) = log else { return Some(Cause::Breakpoint(id)) };
            let said = self.messages[place].call(&log, HERE, |message| inspect::text_or_error(&message));
            let (text, failure) = match said.unwrap_or_else(|| evaluate_here("log", &log)) {
                Ok(text) => (text, false),
                Err(text) => (text, true),
            };
            self.say(id, text, failure);
            None
        }
    }

    /// Counts a hit, and whether it is one to stop at.
    fn counts(&mut self, place: usize, hits: Option<Hits>) -> bool {
        self.hits[place] += 1;
        match hits {
            None => true,
            Some(Hits::Equal(n)) => self.hits[place] == n,
            Some(Hits::AtLeast(n)) => self.hits[place] >= n,
            Some(Hits::Every(n)) => n > 0 && self.hits[place].is_multiple_of(n),
        }
    }

    unsafe fn say(&self, id: i64, text: String, failure: bool) {
        // SAFETY: as in `line`.
        unsafe { timeline().channel.send(&Report::Said { id, tick: self.position.tick, text, failure }) };
    }

    /// A watched value that is not what it was at the tick before, where that is a change to stop at.
    unsafe fn changes(&mut self, begun: bool) -> Option<Cause> {
        // SAFETY: as in `line`.
        unsafe {
            let (at, generators) = (&self.position, &self.generators);
            let stack = self.actors[at.thread as usize].stack.unwrap_or(generators::NONE);
            let all = self.watches.iter_mut().enumerate();
            let changed = all.filter_map(|(place, watched)| {
                watched.place(at, generators, stack);
                Some((place, watched.change(at, begun)?))
            });
            let mut cause = None;
            for (place, change) in changed.collect::<Vec<_>>() {
                if self.is_wanted_change(place) {
                    cause = Some(change);
                }
            }
            cause
        }
    }

    /// Counts a change of a watched value, and whether it is one to stop at.
    unsafe fn is_wanted_change(&mut self, place: usize) -> bool {
        // SAFETY: as in `line`.
        unsafe {
            let Some(stops) = stops_of(&self.run) else { return false };
            let (watch, first) = (&stops.watches[place], stops.places() - stops.watches.len());
            let holds = match (&watch.condition, self.watches[place].scope(&self.position)) {
                (None, _) => Ok(true),
                (_, None) => Ok(false),
                (Some(condition), Some(scope)) => self.conditions[first + place]
                    .holds(condition, scope)
                    .unwrap_or_else(|| inspect::watch_holds(watch, self.watches[place].depth(), scope)),
            };
            let holds = holds.unwrap_or_else(|text| {
                self.say(watch.id, text, true);
                true
            });
            let hits = watch.hits;
            holds && self.counts(first + place, hits)
        }
    }
}

/// Whether a position is at the one that a search goes back from, or behind it.
pub(super) fn is_over(stops: &Stops, tick: u64, instruction: u32) -> bool {
    stops.before.is_some_and(|before| tick > before || tick == before && instruction >= stops.before_instruction)
}

/// Evaluates in the frame that the line event is in.
unsafe fn evaluate_here(kind: &str, expression: &str) -> Result<String, String> {
    // SAFETY: the GIL is held.
    unsafe { diverted_in(HERE, || inspect::evaluate(kind, expression)) }
}

/// # Safety
/// Called by the version's source of line events.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_on_line(tstate: *mut ThreadState, code: *mut PyObject, line: c_int) {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying
            && let Some(runner) = runner()
        {
            runner.line(tstate, code, line);
        }
    }
}

/// # Safety
/// As [`retrace_on_line`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_on_instruction(tstate: *mut ThreadState, code: *mut PyObject, offset: c_int) {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying
            && let Some(runner) = runner()
        {
            runner.instruction(tstate, code, offset);
        }
    }
}

/// # Safety
/// As [`retrace_on_line`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_on_start(tstate: *mut ThreadState, _code: *mut PyObject, resumed: c_int) {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying
            && let Some(runner) = runner()
        {
            runner.start(tstate, resumed != 0);
        }
    }
}

/// `origin`: the instruction where the exception was raised, or -1 where it passes.
///
/// # Safety
/// As [`retrace_on_line`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_on_raise(
    tstate: *mut ThreadState,
    code: *mut PyObject,
    exception: *mut PyObject,
    origin: c_int,
) {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying
            && let Some(runner) = runner()
        {
            runner.raise(tstate, code, exception, origin);
        }
    }
}

/// # Safety
/// As [`retrace_on_line`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_on_reraise(tstate: *mut ThreadState, exception: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying
            && let Some(runner) = runner()
        {
            runner.in_flight.insert(innermost_frame(tstate) as usize, exception as usize);
        }
    }
}

/// # Safety
/// As [`retrace_on_line`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_on_unwind(tstate: *mut ThreadState, code: *mut PyObject, exception: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        if session::mode() == Mode::Replaying
            && let Some(runner) = runner()
        {
            runner.unwind(tstate, code, exception);
        }
    }
}
