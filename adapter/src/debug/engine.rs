//! The processes of a replay that is debugged. Each opens a socket to us and says what it is; it ends when we close that.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use retrace_replay::Trace;
use retrace_replay::debug_protocol::{self, Command, Ended, Hello, Place, Report, Role, Run, SOCKET_VARIABLE, Stack};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, WaitOptions, test_kill_process, waitpid};
use tempfile::TempDir;
use thiserror::Error;

use crate::cli::ReplayArguments;
use crate::error::CliError;
use crate::process;
use crate::replay::Replay;

/// How long a copy may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(30);
/// Checkpoints of the replay; it counts too.
const CHECKPOINTS: usize = 16;

/// Why something could not be done.
#[derive(Debug, Error)]
pub enum Failure {
    #[error("cancelled")]
    Cancelled,
    #[error("{0}")]
    Message(String),
    #[error("{0}")]
    Start(#[from] CliError),
    #[error("a process of the replay has gone: {0}")]
    Gone(#[from] io::Error),
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

/// Whether a search is to be given up.
#[derive(Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    // Relaxed: nothing else is ordered by it.
    pub fn set(&self, wanted: bool) {
        self.0.store(wanted, Ordering::Relaxed);
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
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
            let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
            let wait = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
            let ready = poll(&mut fds, Some(&wait)).unwrap_or(0);
            if ready > 0 {
                return Ok(debug_protocol::receive(&self.stream)?);
            }
            if cancel.is_set() {
                return Err(Failure::Cancelled);
            }
        }
    }
}

enum Happened {
    Connected(Hello, UnixStream),
    Main(Box<Report>),
    MainGone,
}

/// A checkpoint of the replay.
pub struct Checkpoint {
    pub process: Process,
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
    scratch: Option<TempDir>,
    /// Until they are taken.
    pub checkpoints: Vec<Checkpoint>,
    pub outputs: Vec<Output>,
    pub ended: Ended,
    pub cancel: Cancel,
}

impl Engine {
    /// Runs the replay to its end, with attempts where positions look alike. What its stderr said comes with it.
    pub fn launch(arguments: &ReplayArguments, cancel: Cancel) -> Result<(Engine, String, Trace)> {
        let replay = Replay::prepare(arguments)?;
        let attempts = replay.attempts();
        let mut settings = attempts.first();
        for last in [false, true] {
            let mut engine = Engine::start(&replay, &settings, cancel.clone())?;
            let end = engine.run_to_end(arguments.process);
            if attempts.is_in_doubt() && !last {
                drop(engine);
                (_, settings) = attempts.run(true, |settings| {
                    let mut command = replay.command(settings)?;
                    command.stdout(Stdio::null()).stderr(Stdio::null());
                    process::run(&mut command).map_err(|source| replay.cannot_run(source))
                })?;
                let _ = fs::remove_file(replay.scratch.path().join("attempt"));
                continue;
            }
            let said = fs::read_to_string(replay.scratch.path().join("stderr")).unwrap_or_default();
            match end {
                Ok(()) => {
                    engine.scratch = Some(replay.scratch);
                    return Ok((engine, said, replay.trace));
                }
                Err(Failure::Gone(_)) => {
                    return message(format!("the replay ended before it began\n{said}").trim_end().to_owned());
                }
                Err(other) => return Err(other),
            }
        }
        message("the replay could not be matched to the recording")
    }

    fn start(replay: &Replay, settings: &crate::attempts::Settings, cancel: Cancel) -> Result<Engine> {
        let socket = replay.scratch.path().join("debugger");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket)?;
        let (sender, happened) = channel();
        thread::spawn(move || accept(&listener, &sender));
        let mut command = replay.command(settings)?;
        let stderr = fs::File::create(replay.scratch.path().join("stderr"))?;
        command.env(SOCKET_VARIABLE, &socket).stdout(Stdio::null()).stderr(stderr);
        // What a terminal sends is for us alone: an interrupt cancels a search, and ends nothing.
        let child = command.process_group(0).spawn().map_err(|source| replay.cannot_run(source))?;
        Ok(Engine {
            happened,
            child,
            early: HashMap::new(),
            next_request: 1,
            pids: Vec::new(),
            scratch: None,
            checkpoints: Vec::new(),
            outputs: Vec::new(),
            ended: Ended::default(),
            cancel,
        })
    }

    /// The replay runs to its end and leaves checkpoints; those of ancestors of the process are not kept.
    fn run_to_end(&mut self, process: u32) -> Result<()> {
        let mut is_ended = false;
        loop {
            match self.happened.recv_timeout(Duration::from_millis(50)) {
                Ok(Happened::Connected(hello, stream)) => self.connected(hello, stream, process),
                Ok(Happened::Main(report)) => match *report {
                    Report::Output { event, stream, bytes } => {
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        self.outputs.push(Output { event, stream, text });
                    }
                    Report::Ended(ended) => {
                        self.ended = ended;
                        is_ended = true;
                    }
                    _ => {}
                },
                Ok(Happened::MainGone) => break,
                Err(RecvTimeoutError::Timeout) if self.cancel.is_set() => return Err(Failure::Cancelled),
                Err(RecvTimeoutError::Timeout) if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) => {
                    if self.checkpoints.is_empty() {
                        break;
                    }
                }
                Err(_) => {}
            }
        }
        let _ = self.child.wait();
        // The last copies may still be on their way.
        while self.pump(Duration::from_millis(10)) {}
        if self.checkpoints.is_empty() {
            return Err(Failure::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
        if !is_ended {
            self.ended.clock = u64::MAX;
        }
        Ok(())
    }

    fn connected(&mut self, hello: Hello, stream: UnixStream, process: u32) {
        self.reap();
        self.pids.extend(Pid::from_raw(hello.pid));
        match hello.role {
            Role::Main => {}
            Role::Checkpoint { place, stacks } => {
                // Until the replay has become the process, only the first is kept: the program begins there.
                if place.process == process && self.checkpoints.iter().any(|c| c.place.process != process) {
                    self.checkpoints.clear();
                }
                if place.process == process || self.checkpoints.is_empty() {
                    self.checkpoints.push(Checkpoint { process: Process { stream, tick: 0 }, place, stacks });
                    self.checkpoints.sort_by_key(|checkpoint| (checkpoint.place.event, checkpoint.place.clock));
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

    fn pump(&mut self, wait: Duration) -> bool {
        match self.happened.recv_timeout(wait) {
            Ok(Happened::Connected(hello, stream)) => {
                self.connected(hello, stream, u32::MAX);
                true
            }
            Ok(_) => true,
            Err(_) => false,
        }
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

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.checkpoints.clear();
        self.early.clear();
        let deadline = Instant::now() + PATIENCE;
        while !self.pids.is_empty() && Instant::now() < deadline {
            self.pump(Duration::from_millis(2));
            self.early.clear();
            self.reap();
        }
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
