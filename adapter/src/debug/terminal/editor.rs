//! The line that is typed: history, completion, colours.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::history::FileHistory;
use rustyline::{CompletionType, Config, Context, Helper, Hinter, Validator};

use super::commands::{self, Takes};
use super::{Terminal, colour};

const PROMPT: &str = "(retrace) ";

/// What the user wants.
pub enum Input {
    Line(String),
    Interrupted,
    End,
}

pub struct Editor {
    editor: rustyline::Editor<Assistant, FileHistory>,
    /// None where there is no place for it.
    history: Option<PathBuf>,
    prompt: (String, String),
}

impl Editor {
    pub fn new(terminal: Rc<RefCell<Terminal>>) -> rustyline::Result<Editor> {
        let config = Config::builder().completion_type(CompletionType::List).auto_add_history(true).build();
        let mut editor = rustyline::Editor::with_config(config)?;
        editor.set_helper(Some(Assistant { terminal }));
        let history = history_file();
        if let Some(file) = &history {
            // The first session has none.
            let _ = editor.load_history(file);
        }
        Ok(Editor { editor, history, prompt: (PROMPT.to_owned(), format!("\x1b[1m{PROMPT}\x1b[0m")) })
    }

    pub fn read(&mut self) -> Input {
        match self.editor.readline(&self.prompt) {
            Ok(line) => {
                if let Some(file) = &self.history {
                    // A history that can't be kept is no reason to stop.
                    let _ = self.editor.append_history(file);
                }
                Input::Line(line)
            }
            Err(ReadlineError::Interrupted) => Input::Interrupted,
            Err(_) => Input::End,
        }
    }
}

/// `$XDG_STATE_HOME/retrace/history`, by the XDG Base Directory Specification.
fn history_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    let folder = state.join("retrace");
    fs::create_dir_all(&folder).ok()?;
    Some(folder.join("history"))
}

#[derive(Helper, Hinter, Validator)]
struct Assistant {
    terminal: Rc<RefCell<Terminal>>,
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, pos: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let (begin, words) = self.terminal.borrow_mut().complete(&line[..pos]);
        Ok((begin, words.into_iter().map(|word| Pair { display: word.clone(), replacement: word }).collect()))
    }
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _: usize) -> Cow<'l, str> {
        if self.terminal.borrow().is_coloured { colour::paint(line).into() } else { line.into() }
    }

    fn highlight_char(&self, _: &str, _: usize, kind: CmdKind) -> bool {
        kind != CmdKind::MoveCursor && self.terminal.borrow().is_coloured
    }
}

impl Terminal {
    /// Where the word begins that a line ends with, and what it may become.
    fn complete(&mut self, line: &str) -> (usize, Vec<String>) {
        let word = line.rfind(char::is_whitespace).map_or(0, |space| space + 1);
        let begins = |words: Vec<String>| words.into_iter().filter(|w| w.starts_with(&line[word..])).collect();
        match commands::parse(line.trim_start()).filter(|_| word > 0).map(|(command, _)| command.takes) {
            Some(Takes::Nothing) => (word, Vec::new()),
            Some(Takes::Command) => (word, begins(command_names())),
            Some(Takes::Landmark) => (word, begins(["crash", "end", "start"].map(str::to_owned).to_vec())),
            Some(Takes::Place) => {
                let (at, mut words) = self.complete_expression(line);
                let files =
                    self.debuggee.sources.all().map(|path| path.rsplit('/').next().unwrap_or(path).to_owned() + ":");
                let files: Vec<String> = begins(files.collect());
                if at == word {
                    words.extend(files);
                }
                (at, words)
            }
            Some(Takes::Expression) => self.complete_expression(line),
            None => {
                let (at, mut words) = self.complete_expression(line);
                if word == 0 && at == 0 {
                    let commands: Vec<String> = begins(command_names());
                    words.splice(0..0, commands);
                }
                (at, words)
            }
        }
    }

    fn complete_expression(&mut self, line: &str) -> (usize, Vec<String>) {
        let begin = line
            .rfind(|c: char| !c.is_alphanumeric() && c != '_')
            .map_or(0, |place| place + line[place..].chars().next().map_or(0, char::len_utf8));
        let Ok(mut question) = self.question("completions") else { return (begin, Vec::new()) };
        question["text"] = line.into();
        let answer = self.debuggee.timeline.ask(question, false).unwrap_or_default();
        let labels = answer.as_array().into_iter().flatten().filter_map(|entry| entry["label"].as_str());
        (begin, labels.map(str::to_owned).collect())
    }
}

fn command_names() -> Vec<String> {
    commands::all().flat_map(|command| command.names).map(|name| (*name).to_owned()).collect()
}
