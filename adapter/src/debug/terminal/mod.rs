//! The debugger in a terminal: `retrace debug`. The commands are pdb's, and their reverses.

mod breakpoints;
mod colour;
mod commands;
mod editor;
mod movement;
mod recording;
mod state;

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::{Value, json};
use signal_hook::consts::SIGINT;
use signal_hook::iterator::Signals;

use super::debuggee::Debuggee;
use super::engine::{Cancel, Failure, Result, message};
use crate::cli::{DebugArguments, PATIENCE, ReplayArguments};
use crate::error::CliError;
use breakpoints::Breakpoint;
use editor::{Editor, Input};
use state::Display;

/// What a shell expects of a command that was interrupted.
const INTERRUPTED: u8 = 130;

/// Debugs a recording with the commands of a terminal, or of a script on standard input.
pub fn run(arguments: &DebugArguments) -> std::result::Result<ExitCode, CliError> {
    let cancel = Cancel::default();
    let (sender, lines) = channel();
    listen_for_interrupts(cancel.clone(), sender.clone())?;
    let is_interactive = io::stdin().is_terminal() && io::stdout().is_terminal();
    let arguments = ReplayArguments {
        file: arguments.file.clone(),
        process: arguments.process,
        python: arguments.python.clone(),
        strict: false,
        quiet: true,
        patience: PATIENCE,
    };
    let file = arguments.file.clone();
    let terminal = match Terminal::open(arguments, cancel, is_interactive) {
        Ok(terminal) => terminal,
        Err(Failure::Start(error)) => return Err(error),
        Err(Failure::Cancelled) => return Ok(ExitCode::from(INTERRUPTED)),
        Err(failure) => return Err(CliError::NoDebugging { path: file, reason: failure.to_string() }),
    };
    let status = match is_interactive {
        true => converse(terminal)?,
        false => {
            thread::spawn(move || read_lines(&sender));
            obey(terminal, &lines)?
        }
    };
    Ok(ExitCode::from(status))
}

/// An interrupt cancels what is going on. A script is ended by it, too.
fn listen_for_interrupts(cancel: Cancel, lines: Sender<Input>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            cancel.ask();
            let _ = lines.send(Input::Interrupted);
        }
    });
    Ok(())
}

fn read_lines(to: &Sender<Input>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        if to.send(Input::Line(line)).is_err() {
            return;
        }
    }
    let _ = to.send(Input::End);
}

/// Reads commands from an editor.
fn converse(terminal: Terminal) -> io::Result<u8> {
    let terminal = Rc::new(RefCell::new(terminal));
    let mut editor = Editor::new(Rc::clone(&terminal)).map_err(io::Error::other)?;
    loop {
        terminal.borrow_mut().flush()?;
        // Before the line and not behind it: an interrupt that comes at once cancels what the line says.
        terminal.borrow().cancel.clear();
        match editor.read() {
            Input::Line(line) => terminal.borrow_mut().line(&line),
            // The line that was being typed is dropped.
            Input::Interrupted => {}
            Input::End => return Ok(0),
        }
        if terminal.borrow().is_done {
            terminal.borrow_mut().flush()?;
            return Ok(0);
        }
    }
}

/// Reads commands from a script.
fn obey(mut terminal: Terminal, lines: &Receiver<Input>) -> io::Result<u8> {
    terminal.flush()?;
    for input in lines {
        match input {
            Input::Line(line) => terminal.line(&line),
            Input::Interrupted => return Ok(INTERRUPTED),
            Input::End => return Ok(0),
        }
        terminal.flush()?;
        if terminal.cancel.is_set() {
            return Ok(INTERRUPTED);
        }
        if terminal.is_done {
            return Ok(0);
        }
    }
    Ok(0)
}

/// A frame of the stack.
#[derive(Clone)]
struct Frame {
    /// Counted from below.
    number: u64,
    function: String,
    path: String,
    line: u32,
}

impl Frame {
    fn of(entry: &Value) -> Frame {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        Frame {
            number: entry["frame"].as_u64().unwrap_or(0),
            function: text("name"),
            path: text("path"),
            line: entry["line"].as_u64().unwrap_or(0) as u32,
        }
    }

    /// The function's name, without what it is defined in.
    fn name(&self) -> &str {
        self.function.rsplit('.').next().unwrap_or_default()
    }
}

struct Terminal {
    debuggee: Debuggee,
    arguments: ReplayArguments,
    cancel: Cancel,
    is_coloured: bool,
    /// What has been said and not been written yet.
    out: String,
    breakpoints: Vec<Breakpoint>,
    /// The number given last.
    given: i64,
    displays: Vec<Display>,
    /// The thread that is looked at, its frames, innermost first, and the one among them.
    thread: u32,
    stack: Vec<Frame>,
    selected: usize,
    /// Where `list` goes on.
    to_list: Option<u32>,
    /// What an empty line stands for.
    last_line: String,
    /// That there are diversions has been said.
    knows_diversions: bool,
    /// Lines of sources, painted.
    sources: HashMap<String, Option<Rc<Vec<String>>>>,
    is_done: bool,
}

impl Terminal {
    fn open(arguments: ReplayArguments, cancel: Cancel, is_interactive: bool) -> Result<Terminal> {
        let mut debuggee = Debuggee::open(&arguments, Vec::new(), cancel.clone())?;
        eprint!("{}", debuggee.finish()?);
        let is_unwanted = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let mut terminal = Terminal {
            debuggee,
            arguments,
            cancel,
            is_coloured: is_interactive && !is_dumb && !is_unwanted("NO_COLOR"),
            out: String::new(),
            breakpoints: Vec::new(),
            given: 0,
            displays: Vec::new(),
            thread: 0,
            stack: Vec::new(),
            selected: 0,
            to_list: None,
            last_line: String::new(),
            knows_diversions: false,
            sources: HashMap::new(),
            is_done: false,
        };
        terminal.begin()?;
        Ok(terminal)
    }

    /// Stands at the crash, or at the end.
    fn begin(&mut self) -> Result<()> {
        match self.debuggee.go_to_crash_or_end() {
            Ok(text) => self.arrive(text),
            Err(Failure::Message(why)) => {
                self.say(&format!("*** {why}"));
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    fn say(&mut self, line: &str) {
        self.out.push_str(line);
        self.out.push('\n');
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(self.out.as_bytes())?;
        stdout.flush()?;
        self.out.clear();
        Ok(())
    }

    /// Does what a line says.
    fn line(&mut self, line: &str) {
        let mut line = line.trim().to_owned();
        if line.is_empty() {
            line.clone_from(&self.last_line);
        }
        self.last_line.clone_from(&line);
        for command in split_commands(&line) {
            if let Err(failure) = self.command(command) {
                self.say(&format!("*** {failure}"));
                return;
            }
        }
    }

    fn frame(&self) -> Result<&Frame> {
        match self.stack.get(self.selected) {
            Some(frame) => Ok(frame),
            None => message("no frame of the program is there"),
        }
    }

    /// A question of `inspect.py` about the frame that is looked at.
    fn question(&self, ask: &str) -> Result<Value> {
        Ok(json!({ "ask": ask, "thread": self.thread, "frame": self.frame()?.number }))
    }

    /// The lines of a source, painted. None where there is none.
    fn source(&mut self, path: &str) -> Option<Rc<Vec<String>>> {
        if let Some(known) = self.sources.get(path) {
            return known.clone();
        }
        let text = self.text_of(path);
        let lines = text.map(|text| {
            let text = if self.is_coloured { colour::paint(&text) } else { text };
            Rc::new(text.lines().map(str::to_owned).collect())
        });
        self.sources.insert(path.to_owned(), lines.clone());
        lines
    }

    /// The recording's source, or the file where the recording has none.
    fn text_of(&self, path: &str) -> Option<String> {
        self.debuggee.sources.contents(path).or_else(|| fs::read_to_string(path).ok())
    }
}

/// Commands of a line are separated by `;;`, but not in a string.
fn split_commands(line: &str) -> Vec<&str> {
    let (mut commands, mut begin, mut quote, mut is_escaped) = (Vec::new(), 0, None, false);
    for (place, c) in line.char_indices() {
        match (quote, c) {
            _ if is_escaped => is_escaped = false,
            (Some(_), '\\') => is_escaped = true,
            (Some(open), c) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, ';') if place >= begin && line[place..].starts_with(";;") => {
                commands.push(line[begin..place].trim());
                begin = place + 2;
            }
            _ => {}
        }
    }
    commands.push(line[begin..].trim());
    commands.retain(|command| !command.is_empty());
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_separated_outside_of_strings() {
        assert_eq!(split_commands("n ;; p ';;' ;;"), ["n", "p ';;'"]);
        assert_eq!(split_commands("p 'it\\'s;;'"), ["p 'it\\'s;;'"]);
        assert_eq!(split_commands(""), [""; 0]);
    }
}
