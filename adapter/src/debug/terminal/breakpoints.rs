//! Breakpoints, as pdb numbers and lists them.

use retrace_replay::debug_protocol::{self, Cause, FunctionBreakpoint, Stops};

use super::Terminal;
use crate::debug::engine::{Result, message};

pub struct Breakpoint {
    number: i64,
    place: Place,
    condition: Option<String>,
    is_temporary: bool,
    is_enabled: bool,
    /// So many times it is passed over.
    ignored: u64,
    hits: u64,
    /// A function of that name in library code is another one.
    mine_only: bool,
}

enum Place {
    Line(String, u32),
    /// A function by its name, and where it is defined if that is known.
    Function(String, Option<(String, u32)>),
}

impl Breakpoint {
    fn line_place(&self) -> Option<(&str, u32)> {
        match &self.place {
            Place::Line(path, line) | Place::Function(_, Some((path, line))) => Some((path, *line)),
            Place::Function(_, None) => None,
        }
    }

    fn place_text(&self) -> String {
        match &self.place {
            Place::Line(path, line) | Place::Function(_, Some((path, line))) => format!("{path}:{line}"),
            Place::Function(name, None) => format!("any function {name}"),
        }
    }
}

/// A function's name with its module's, as far as that can be told: others of that name are others.
fn with_module(path: &str, name: &str) -> String {
    let Some(path) = path.strip_suffix(".py") else { return name.to_owned() };
    let path = path.strip_suffix("/__init__").unwrap_or(path);
    let mut parts: Vec<&str> = path.rsplit('/').take_while(|part| !part.is_empty() && !part.contains('.')).collect();
    parts.reverse();
    parts.push(name);
    parts.join(".")
}

impl Terminal {
    /// What to stop at. `is_step`: those that are passed over would end a step.
    pub(super) fn stops(&self, is_step: bool) -> Stops {
        let mut stops = Stops { mine_only: self.debuggee.mine_only, ..Stops::default() };
        for breakpoint in self.breakpoints.iter().filter(|b| b.is_enabled && !(is_step && b.ignored > 0)) {
            let (id, condition) = (breakpoint.number, breakpoint.condition.clone());
            match &breakpoint.place {
                Place::Line(path, line) => {
                    let (path, line) = (path.clone(), *line);
                    let line =
                        debug_protocol::Breakpoint { id, path, line, column: None, condition, log: None, hits: None };
                    stops.breakpoints.push(line);
                }
                Place::Function(name, Some((path, _))) => {
                    let name = with_module(path, name);
                    stops.functions.push(FunctionBreakpoint { id, name, condition, ..Default::default() });
                }
                Place::Function(name, None) => {
                    let (name, mine_only) = (name.clone(), breakpoint.mine_only);
                    stops.functions.push(FunctionBreakpoint { id, name, condition, mine_only, ..Default::default() });
                }
            }
        }
        stops
    }

    /// Whether the stop is at a breakpoint that is to be ignored this time.
    pub(super) fn is_passed_over(&mut self) -> Result<bool> {
        let Cause::Breakpoint(number) = self.debuggee.timeline.present()?.at.cause else { return Ok(false) };
        let Some(breakpoint) = self.breakpoints.iter_mut().find(|b| b.number == number && b.ignored > 0) else {
            return Ok(false);
        };
        breakpoint.ignored -= 1;
        breakpoint.hits += 1;
        Ok(true)
    }

    /// A breakpoint has been stopped at.
    pub(super) fn hit(&mut self, number: i64) {
        let Some(place) = self.breakpoints.iter().position(|b| b.number == number) else { return };
        self.breakpoints[place].hits += 1;
        if self.breakpoints[place].is_temporary {
            self.delete(place);
        }
    }

    fn delete(&mut self, place: usize) {
        let breakpoint = self.breakpoints.remove(place);
        self.say(&format!("Deleted breakpoint {} at {}", breakpoint.number, breakpoint.place_text()));
    }

    pub(super) fn has_breakpoint(&self, path: &str, line: u32) -> bool {
        self.breakpoints.iter().any(|b| b.line_place() == Some((path, line)))
    }

    pub(super) fn set_breakpoint(&mut self, arguments: &str, is_temporary: bool) -> Result<()> {
        if arguments.is_empty() {
            return self.list_breakpoints();
        }
        let (place, condition) = match arguments.split_once(',') {
            Some((place, condition)) => {
                (place.trim(), Some(condition.trim().to_owned()).filter(|condition| !condition.is_empty()))
            }
            None => (arguments, None),
        };
        let place = self.place(place)?;
        self.given += 1;
        let number = self.given;
        let mine_only = self.is_of_user(&place);
        let breakpoint =
            Breakpoint { number, place, condition, is_temporary, is_enabled: true, ignored: 0, hits: 0, mine_only };
        self.say(&format!("Breakpoint {number} at {}", breakpoint.place_text()));
        self.breakpoints.push(breakpoint);
        Ok(())
    }

    /// Whether the user's code has a function of that name, and nothing else is known of it.
    fn is_of_user(&mut self, place: &Place) -> bool {
        let Place::Function(name, None) = place else { return false };
        let mut wanted = FunctionBreakpoint { name: name.clone(), ..Default::default() };
        self.debuggee.has_function(&mut wanted);
        wanted.mine_only
    }

    /// What `LINE`, `FILE:LINE` or a function's name means.
    fn place(&mut self, text: &str) -> Result<Place> {
        if let Some((path, line)) = self.line_place(text)? {
            let line = self.line_with_code(&path, line)?;
            return Ok(Place::Line(path, line));
        }
        let is_name = text.split('.').all(|part| {
            part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        });
        match self.definition(text) {
            Ok(definition) if definition["line"] == 0 => message(format!("{text} is a class, and no function")),
            Ok(definition) => {
                let text = |name: &str| definition[name].as_str().unwrap_or_default().to_owned();
                let line = definition["line"].as_u64().unwrap_or(0) as u32;
                Ok(Place::Function(text("name"), Some((text("path"), line))))
            }
            // Nothing of that name is there now; it may be elsewhere, or later.
            Err(_) if is_name => Ok(Place::Function(text.to_owned(), self.defined_here(text))),
            Err(failure) => Err(failure),
        }
    }

    /// Where this file defines a function.
    fn defined_here(&self, name: &str) -> Option<(String, u32)> {
        let path = &self.frame().ok()?.path;
        let is_it = |line: &str| {
            let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("def ").map(str::trim_start);
            rest.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.trim_start().starts_with(['(', '[']))
        };
        let place = self.text_of(path)?.lines().position(is_it)?;
        Some((path.clone(), place as u32 + 1))
    }

    /// `LINE` of this file, or `FILE:LINE`.
    fn line_place(&self, text: &str) -> Result<Option<(String, u32)>> {
        if let Ok(line) = text.parse() {
            return Ok(Some((self.frame()?.path.clone(), line)));
        }
        let Some((file, line)) = text.rsplit_once(':') else { return Ok(None) };
        let Ok(line) = line.trim().parse() else { return message(format!("Bad lineno: {line}")) };
        Ok(Some((self.recorded_path(file.trim())?, line)))
    }

    /// The recorded path of a file that may be named by its end, with or without `.py`.
    fn recorded_path(&self, file: &str) -> Result<String> {
        let sources = &self.debuggee.sources;
        let exact = sources.recorded(file);
        if sources.contents(&exact).is_some() {
            return Ok(exact);
        }
        let endings = [format!("/{file}"), format!("/{file}.py")];
        let matching: Vec<&String> =
            sources.all().filter(|path| endings.iter().any(|ending| path.ends_with(ending))).collect();
        match matching[..] {
            [path] => Ok(path.clone()),
            [] => message(format!("{file:?} is not a file that the program loaded")),
            _ => {
                let paths: Vec<&str> = matching.iter().map(|path| path.as_str()).collect();
                message(format!("{file:?} may be any of {}", paths.join(", ")))
            }
        }
    }

    /// The line, or the next one that has code.
    fn line_with_code(&mut self, path: &str, line: u32) -> Result<u32> {
        let Some(lines) = self.debuggee.lines_with_code(path) else { return Ok(line) };
        match lines.into_iter().find(|code| *code >= line) {
            Some(code) => Ok(code),
            None => message(format!("no code at or after line {line} of {path}")),
        }
    }

    fn list_breakpoints(&mut self) -> Result<()> {
        if self.breakpoints.is_empty() {
            return Ok(());
        }
        let mut lines = vec!["Num Type         Disp Enb   Where".to_owned()];
        for breakpoint in &self.breakpoints {
            let kept = if breakpoint.is_temporary { "del " } else { "keep" };
            let enabled = if breakpoint.is_enabled { "yes" } else { "no " };
            lines.push(format!(
                "{:<4}breakpoint   {kept} {enabled}   at {}",
                breakpoint.number,
                breakpoint.place_text()
            ));
            if let Some(condition) = &breakpoint.condition {
                lines.push(format!("\tstop only if {condition}"));
            }
            if breakpoint.ignored > 0 {
                lines.push(format!("\tignore next {} hits", breakpoint.ignored));
            }
            match breakpoint.hits {
                0 => {}
                1 => lines.push("\tbreakpoint already hit 1 time".to_owned()),
                hits => lines.push(format!("\tbreakpoint already hit {hits} times")),
            }
        }
        lines.iter().for_each(|line| self.say(line));
        Ok(())
    }

    /// The place of a number in the list.
    fn numbered(&self, text: &str) -> Result<usize> {
        let Ok(number) = text.parse::<i64>() else { return message(format!("Non-numeric breakpoint number {text}")) };
        match self.breakpoints.iter().position(|b| b.number == number) {
            Some(place) => Ok(place),
            None => message(format!("Breakpoint number {number} out of range")),
        }
    }

    pub(super) fn clear(&mut self, arguments: &str) -> Result<()> {
        if arguments.is_empty() {
            while !self.breakpoints.is_empty() {
                self.delete(0);
            }
            return Ok(());
        }
        if arguments.contains(':') {
            let wanted = self.line_place(arguments)?;
            let wanted = wanted.as_ref().map(|(path, line)| (path.as_str(), *line));
            let is_there = |b: &Breakpoint| wanted.is_some() && b.line_place() == wanted;
            if !self.breakpoints.iter().any(is_there) {
                return message(format!("There are no breakpoints at {arguments}"));
            }
            while let Some(place) = self.breakpoints.iter().position(is_there) {
                self.delete(place);
            }
            return Ok(());
        }
        for number in arguments.split_whitespace() {
            let place = self.numbered(number)?;
            self.delete(place);
        }
        Ok(())
    }

    pub(super) fn set_condition(&mut self, arguments: &str) -> Result<()> {
        let (number, condition) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, ""));
        let place = self.numbered(number)?;
        let condition = condition.trim();
        self.breakpoints[place].condition = (!condition.is_empty()).then(|| condition.to_owned());
        match condition {
            "" => self.say(&format!("Breakpoint {number} is now unconditional.")),
            _ => self.say(&format!("New condition set for breakpoint {number}.")),
        }
        Ok(())
    }

    pub(super) fn ignore(&mut self, arguments: &str) -> Result<()> {
        let (number, count) = arguments.split_once(char::is_whitespace).unwrap_or((arguments, "0"));
        let place = self.numbered(number)?;
        let count = count.trim().parse().or_else(|_| message(format!("{count:?} is no count")))?;
        self.breakpoints[place].ignored = count;
        let what = match count {
            0 => "Will stop next time".to_owned(),
            1 => "Will ignore next 1 crossing of".to_owned(),
            count => format!("Will ignore next {count} crossings of"),
        };
        self.say(&format!("{what} breakpoint {number}{}", if count == 0 { " is reached." } else { "." }));
        Ok(())
    }

    pub(super) fn enable(&mut self, numbers: &str, is_enabled: bool) -> Result<()> {
        for number in numbers.split_whitespace() {
            let place = self.numbered(number)?;
            self.breakpoints[place].is_enabled = is_enabled;
            let what = if is_enabled { "Enabled" } else { "Disabled" };
            let line = format!("{what} breakpoint {number} at {}", self.breakpoints[place].place_text());
            self.say(&line);
        }
        Ok(())
    }

    pub(super) fn my_code(&mut self, wanted: &str) -> Result<()> {
        match wanted {
            "" => {}
            "on" => self.debuggee.mine_only = true,
            "off" => self.debuggee.mine_only = false,
            _ => return message("mycode: on or off"),
        }
        let text =
            if self.debuggee.mine_only { "Steps pass over library code." } else { "Steps go into library code." };
        self.say(text);
        Ok(())
    }
}
