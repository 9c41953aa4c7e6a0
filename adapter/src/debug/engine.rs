//! The processes of a replay that is debugged. Each opens a socket to us and says what it is; it ends when we close that.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use retrace_replay::debug_protocol::{self, Command, Ended, Hello, Place, Report, Role, Run, SOCKET_VARIABLE, Stack};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, test_kill_process, waitpid};
use thiserror::Error;

use crate::attempts::{Attempts, Settings};
use crate::cli::ReplayArguments;
use crate::error::CliError;
use crate::process;
use crate::replay::Replay;
use crate::scratch;

/// How long a copy may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long what a replay has said may take to arrive when it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The exit status of a replay that needs what is not here.
const REFUSED: i32 = 2;
/// Checkpoints of the replay; it counts too.
const CHECKPOINTS: usize = 16;

/// Why something could not be done.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("cancelled")]
    Cancelled,
    #[error("{0}")]
    Message(String),
    /// What was asked has ended the process that was to answer, or would have taken too long.
    #[error("{0}")]
    Ended(String),
    #[error("{0}")]
    Start(#[from] CliError),
    #[error("a process of the replay has gone: {}", why_gone(.0))]
    Gone(#[from] io::Error),
}

fn why_gone(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "it ended, as code that is evaluated there can have it end (os._exit, a crash)".into()
        }
        _ => error.to_string(),
    }
}

pub type Result<T> = std::result::Result<T, Failure>;

/// A message for the user.
pub fn message<T>(text: impl Into<String>) -> Result<T> {
    Err(Failure::Message(text.into()))
}

/// Copies whose parent has ended become our children, and are waited for: see `Engine::reap`.
pub fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Whether a search is to be given up: how many have asked for that and have not been answered.
#[derive(Clone, Default)]
pub struct Cancel(Arc<AtomicUsize>);

impl Cancel {
    // Relaxed: nothing else is ordered by it.
    pub fn ask(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One who has asked is answered.
    pub fn answer(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |asked| asked.checked_sub(1));
    }

    /// All are.
    pub fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

/// One waiting or running copy. Dropping it ends it.
pub struct Process {
    stream: UnixStream,
    /// Lines since its window's checkpoint, where it waits.
    pub tick: u64,
}

impl Process {
    pub fn send(&self, command: &Command) -> Result<()> {
        Ok(debug_protocol::send(&self.stream, command)?)
    }

    pub fn receive(&self, cancel: &Cancel) -> Result<Report> {
        loop {
            if let Some(report) = self.receive_soon(cancel)? {
                return Ok(report);
            }
        }
    }

    /// A report, if one comes soon.
    pub fn receive_soon(&self, cancel: &Cancel) -> Result<Option<Report>> {
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
        let ready = poll(&mut fds, Some(&wait)).unwrap_or(0);
        if ready > 0 {
            return Ok(Some(debug_protocol::receive(&self.stream)?));
        }
        if cancel.is_set() { Err(Failure::Cancelled) } else { Ok(None) }
    }
}

enum Happened {
    Connected(Hello, UnixStream),
    Main(Box<Report>),
    MainGone,
}

/// A checkpoint of the replay. Its process may have been taken already.
pub struct Checkpoint {
    /// How many there were before it. They need not arrive in that order, and two may look alike: nothing is allocated between.
    number: u32,
    pub process: Option<Process>,
    pub place: Place,
    pub stacks: Vec<Stack>,
}

/// Output of the recorded program, and the event at which it was written.
pub struct Output {
    pub event: u64,
    pub stream: u8,
    pub text: String,
}

/// The replay and its copies.
pub struct Engine {
    happened: Receiver<Happened>,
    child: Child,
    early: HashMap<u64, Process>,
    next_request: u64,
    /// All that have not been waited for.
    pids: Vec<Pid>,
    replay: Replay,
    attempts: Attempts,
    /// This is not the first attempt.
    is_last: bool,
    /// The replay has ended, and has said how.
    is_over: bool,
    has_said: bool,
    ended_at: Option<Instant>,
    /// Checkpoints that have said that they are there.
    arrived: u32,
    process: u32,
    /// Until they are taken.
    pub checkpoints: Vec<Checkpoint>,
    pub outputs: Vec<Output>,
    pub ended: Ended,
    pub cancel: Cancel,
}

impl Engine {
    /// Starts the replay, and waits until it has begun.
    pub fn launch(arguments: &ReplayArguments, cancel: Cancel) -> Result<Engine> {
        let replay = Replay::prepare(arguments)?;
        let attempts = replay.attempts();
        let settings = attempts.first();
        let (child, happened) = Engine::start(&replay, &settings)?;
        let mut engine = Engine {
            happened,
            child,
            early: HashMap::new(),
            next_request: 1,
            pids: Vec::new(),
            replay,
            attempts,
            is_last: false,
            is_over: false,
            has_said: false,
            ended_at: None,
            arrived: 0,
            process: arguments.process,
            checkpoints: Vec::new(),
            outputs: Vec::new(),
            ended: Ended::default(),
            cancel,
        };
        while !engine.is_over && engine.checkpoints.is_empty() {
            engine.wait()?;
        }
        if engine.checkpoints.is_empty() {
            engine.await_last();
        }
        if engine.checkpoints.is_empty() && !engine.attempts.is_in_doubt() {
            let said = engine.said();
            return message(format!("the replay ended before it began\n{said}").trim_end().to_owned());
        }
        Ok(engine)
    }

    /// Waits until the replay has run to its end. True where that had to be done anew: where positions look alike, the first
    /// attempt may turn out to have been wrong, and what it has left is worth nothing.
    pub fn finish(&mut self, tell: &mut dyn FnMut()) -> Result<bool> {
        let mut is_new = false;
        loop {
            while !self.is_over {
                self.wait()?;
                tell();
            }
            let ended = self.child.wait();
            self.await_last();
            // It says what it needs and does not find, and what to do.
            if !self.has_said && ended.is_ok_and(|status| status.code() == Some(REFUSED)) {
                return message(self.said().trim().trim_start_matches("retrace: ").to_owned());
            }
            if self.attempts.is_in_doubt() && !self.is_last {
                self.begin_anew()?;
                is_new = true;
                continue;
            }
            if self.checkpoints.is_empty() {
                return message(format!("the replay ended before it began\n{}", self.said()).trim_end().to_owned());
            }
            if !self.has_said {
                self.ended.clock = u64::MAX;
            }
            return Ok(is_new);
        }
    }

    /// The replay is over. Its last copies may still be on their way.
    fn await_last(&mut self) {
        let ended = Instant::now();
        let is_missing = |engine: &Engine| engine.has_said && engine.arrived < engine.ended.checkpoints;
        while self.pump(Duration::from_millis(10)) || is_missing(self) && ended.elapsed() < LAST_WORDS * 10 {}
    }

    /// What the replay wrote to its stderr.
    pub fn said(&self) -> String {
        fs::read_to_string(self.replay.scratch.path().join(scratch::STDERR)).unwrap_or_default()
    }

    /// How the last copy that left the recording did so.
    pub fn divergence(&self) -> Option<String> {
        let path = self.replay.scratch.path().join(scratch::ATTEMPT);
        let text = fs::read_to_string(&path).ok()?;
        let _ = fs::remove_file(&path);
        Some(text.splitn(3, '\n').nth(2)?.trim_end().to_owned())
    }

    fn begin_anew(&mut self) -> Result<()> {
        self.end_all();
        let replay = &self.replay;
        let (_, settings) = self.attempts.run(true, |settings| {
            let mut command = replay.command(settings)?;
            command.stdout(Stdio::null()).stderr(Stdio::null());
            process::run(&mut command).map_err(|source| replay.cannot_run(source))
        })?;
        let _ = fs::remove_file(self.replay.scratch.path().join(scratch::ATTEMPT));
        (self.child, self.happened) = Engine::start(&self.replay, &settings)?;
        (self.is_last, self.is_over, self.has_said, self.ended_at) = (true, false, false, None);
        self.arrived = 0;
        self.outputs.clear();
        self.ended = Ended::default();
        Ok(())
    }

    fn start(replay: &Replay, settings: &Settings) -> Result<(Child, Receiver<Happened>)> {
        let socket = replay.scratch.path().join(scratch::SOCKET);
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        let (sender, happened) = channel();
        thread::spawn(move || accept(&listener, &sender));
        let mut command = replay.command(settings)?;
        let stderr = fs::File::create(replay.scratch.path().join(scratch::STDERR))?;
        command.env(SOCKET_VARIABLE, &socket).stdout(Stdio::null()).stderr(stderr);
        // What a terminal sends is for us alone: an interrupt cancels a search, and ends nothing.
        let child = command.process_group(0).spawn().map_err(|source| replay.cannot_run(source))?;
        Ok((child, happened))
    }

    /// Takes in what the replay does.
    fn wait(&mut self) -> Result<()> {
        if self.pump(Duration::from_millis(50)) {
            return Ok(());
        }
        if self.cancel.is_set() {
            return Err(Failure::Cancelled);
        }
        if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            // What it said last may still be on its way.
            let ended = *self.ended_at.get_or_insert_with(Instant::now);
            self.is_over |= self.checkpoints.is_empty() && ended.elapsed() > LAST_WORDS;
        }
        Ok(())
    }

    /// The replay leaves checkpoints; those of ancestors of the process are not kept.
    fn connected(&mut self, hello: Hello, stream: UnixStream) {
        let process = self.process;
        self.reap();
        // The replay itself is waited for as our child, which says how it ended.
        self.pids.extend(Pid::from_raw(hello.pid).filter(|_| !matches!(hello.role, Role::Main)));
        match hello.role {
            Role::Main => {}
            Role::Checkpoint { number, place, stacks } => {
                self.arrived += 1;
                // Of the processes before this one only the first is kept: the program begins there.
                if place.process == process || self.checkpoints.is_empty() {
                    let process = Some(Process { stream, tick: 0 });
                    self.checkpoints.push(Checkpoint { number, process, place, stacks });
                    self.checkpoints.sort_by_key(|checkpoint| checkpoint.number);
                }
                if self.checkpoints.len() > CHECKPOINTS {
                    let mut place = 0;
                    self.checkpoints.retain(|_| {
                        place += 1;
                        place % 2 == 1
                    });
                }
            }
            Role::Asked { request, tick } => {
                self.early.insert(request, Process { stream, tick });
            }
        }
    }

    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Whether the process begins where the replay does: it was not forked from another one.
    pub fn begins_as_it_ends(&self) -> bool {
        self.checkpoints.first().is_some_and(|first| first.place.process == self.process)
    }

    /// A number for a copy.
    pub fn request(&mut self) -> u64 {
        self.next_request += 1;
        self.next_request
    }

    /// The copy of that number.
    pub fn take(&mut self, request: u64) -> Result<Process> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(process) = self.early.remove(&request) {
                return Ok(process);
            }
            self.pump(Duration::from_millis(50));
            if Instant::now() > deadline {
                return message("a copy of the replay did not start");
            }
        }
    }

    /// The copy, if it is there already.
    pub fn take_early(&mut self, request: u64) -> Option<Process> {
        while self.pump(Duration::ZERO) {}
        self.early.remove(&request)
    }

    /// Takes in one thing that happens meanwhile.
    pub fn pump(&mut self, wait: Duration) -> bool {
        let Ok(happened) = self.happened.recv_timeout(wait) else { return false };
        match happened {
            Happened::Connected(hello, stream) => self.connected(hello, stream),
            Happened::Main(report) => match *report {
                Report::Output { event, stream, bytes } => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    self.outputs.push(Output { event, stream, text });
                }
                Report::Ended(ended) => (self.ended, self.has_said) = (ended, true),
                _ => {}
            },
            Happened::MainGone => self.is_over = true,
        }
        true
    }

    /// Waits for copies that have ended, where their own parent does not.
    fn reap(&mut self) {
        self.pids.retain(|pid| {
            let waited = waitpid(Some(*pid), WaitOptions::NOHANG);
            // Somebody else's child that is there; or none at all.
            matches!(waited, Ok(None)) || waited.is_err() && test_kill_process(*pid).is_ok()
        });
    }

    /// A copy of a waiting process that runs on.
    pub fn run(&mut self, from: &Process, run: Run) -> Result<Process> {
        let request = self.request();
        from.send(&Command::Run { request, run: Box::new(run) })?;
        self.take(request)
    }
}

impl Engine {
    fn end_all(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.checkpoints.clear();
        self.early.clear();
        let deadline = Instant::now() + PATIENCE;
        while !self.pids.is_empty() && Instant::now() < deadline {
            self.pump(Duration::from_millis(2));
            self.checkpoints.clear();
            self.early.clear();
            self.reap();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end_all();
    }
}

fn accept(listener: &UnixListener, happened: &Sender<Happened>) {
    for stream in listener.incoming() {
        let Ok(stream) = stream else { return };
        let Ok(hello) = debug_protocol::receive::<Hello>(&stream) else { continue };
        if matches!(hello.role, Role::Main)
            && let Ok(reader) = stream.try_clone()
        {
            let happened = happened.clone();
            thread::spawn(move || {
                while let Ok(report) = debug_protocol::receive(&reader) {
                    if happened.send(Happened::Main(Box::new(report))).is_err() {
                        return;
                    }
                }
                let _ = happened.send(Happened::MainGone);
            });
        }
        if happened.send(Happened::Connected(hello, stream)).is_err() {
            return;
        }
    }
}
