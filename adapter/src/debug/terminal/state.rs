//! What is shown where the debugger stands: the stack, values, sources.

use serde_json::Value;

use super::{Frame, Terminal};
use crate::debug::debuggee::DIVERSION;
use crate::debug::engine::{Failure, Result, message};

/// Lines that `list` lists.
const LISTED: u32 = 11;

/// An expression that is shown at each stop where its value is another one.
pub struct Display {
    thread: u32,
    frame: u64,
    function: String,
    expression: String,
    shown: String,
}

impl Display {
    fn is_of(&self, thread: u32, frame: &Frame) -> bool {
        self.thread == thread && self.frame == frame.number && self.function == frame.function
    }
}

impl Terminal {
    // ---- the stack ----

    fn place_text(&self, frame: &Frame) -> String {
        let place = format!("{}({})", frame.path, frame.line);
        match self.is_coloured {
            true => format!("\x1b[1m{place}\x1b[0m\x1b[33m{}\x1b[0m()", frame.name()),
            false => format!("{place}{}()", frame.name()),
        }
    }

    fn say_entry(&mut self, frame: &Frame, mark: &str) {
        let place = self.place_text(frame);
        self.say(&format!("{mark}{place}"));
        let line = (frame.line as usize).saturating_sub(1);
        if let Some(text) = self.source(&frame.path).and_then(|lines| lines.get(line).cloned()) {
            self.say(&format!("-> {}", text.trim()));
        }
    }

    /// The frame that is looked at.
    pub(super) fn say_frame(&mut self) {
        if let Some(frame) = self.stack.get(self.selected).cloned() {
            self.say_entry(&frame, "> ");
        }
    }

    pub(super) fn print_stack(&mut self) -> Result<()> {
        self.frame()?;
        for (place, frame) in self.stack.clone().iter().enumerate().rev() {
            self.say_entry(frame, if place == self.selected { "> " } else { "  " });
        }
        Ok(())
    }

    pub(super) fn select(&mut self, count: &str, up: bool) -> Result<()> {
        self.frame()?;
        let count: i64 = match count {
            "" => 1,
            count => count.parse().or_else(|_| message(format!("Invalid frame count ({count})")))?,
        };
        let oldest = self.stack.len() - 1;
        if up && self.selected == oldest {
            return message("Oldest frame");
        }
        if !up && self.selected == 0 {
            return message("Newest frame");
        }
        // A negative count goes all the way, as in pdb.
        let count = usize::try_from(count).unwrap_or(oldest);
        self.selected =
            if up { self.selected.saturating_add(count).min(oldest) } else { self.selected.saturating_sub(count) };
        self.to_list = None;
        self.say_frame();
        Ok(())
    }

    // ---- threads ----

    fn list_threads(&mut self) -> Result<Vec<(u32, String)>> {
        let threads = self.debuggee.timeline.ask(serde_json::json!({ "ask": "threads" }), false)?;
        let name = |thread: &Value| thread["name"].as_str().unwrap_or_default().to_owned();
        let threads = threads.as_array().into_iter().flatten();
        Ok(threads.map(|thread| (thread["thread"].as_u64().unwrap_or(0) as u32, name(thread))).collect())
    }

    pub(super) fn name_of_thread(&mut self, number: u32) -> Result<String> {
        let threads = self.list_threads()?;
        Ok(threads.into_iter().find(|(other, _)| *other == number).map(|(_, name)| name).unwrap_or_default())
    }

    pub(super) fn threads(&mut self) -> Result<()> {
        for (number, name) in self.list_threads()? {
            let newest = self.debuggee.stack(number)?.first().map(Frame::of);
            let place = newest.map_or_else(|| "no Python frame".to_owned(), |frame| self.place_text(&frame));
            let mark = if number == self.thread { '*' } else { ' ' };
            self.say(&format!("{mark} {number:>3}  {name}  {place}"));
        }
        Ok(())
    }

    pub(super) fn select_thread(&mut self, number: &str) -> Result<()> {
        let Ok(number) = number.parse::<u32>() else { return message("thread: a number of a thread is wanted") };
        if !self.list_threads()?.iter().any(|(other, _)| *other == number) {
            return message(format!("there is no thread {number} here"));
        }
        self.look_at(number)?;
        self.say_frame();
        Ok(())
    }

    // ---- values ----

    /// Evaluates in a copy that is thrown away.
    fn evaluate(&mut self, expression: &str, form: &str) -> Result<Value> {
        let mut question = self.question("evaluate")?;
        question["expression"] = expression.into();
        question["form"] = form.into();
        let answer = self.debuggee.evaluate(question)?.answer;
        self.fail_if_raised(answer)
    }

    /// What was evaluated, or the exception that there was instead, after what was printed.
    fn fail_if_raised(&mut self, answer: Value) -> Result<Value> {
        let Some(raised) = answer["raised"].as_str() else { return Ok(answer) };
        self.say_printed(&answer);
        message(raised)
    }

    pub(super) fn value(&mut self, expression: &str, form: &str) -> Result<String> {
        Ok(self.evaluate(expression, form)?["value"].as_str().unwrap_or_default().to_owned())
    }

    pub(super) fn print(&mut self, expression: &str, form: &str) -> Result<()> {
        if expression.is_empty() {
            return message("SyntaxError: invalid syntax");
        }
        let answer = self.evaluate(expression, form)?;
        self.say_printed(&answer);
        self.say(answer["value"].as_str().unwrap_or_default());
        Ok(())
    }

    /// What was printed while something was evaluated.
    fn say_printed(&mut self, answer: &Value) {
        let output = answer["output"].as_str().unwrap_or_default();
        if !output.is_empty() {
            self.say(output.strip_suffix('\n').unwrap_or(output));
        }
    }

    /// Runs Python, in the diversion.
    pub(super) fn execute(&mut self, source: &str) -> Result<()> {
        let mut question = self.question("evaluate")?;
        question["expression"] = source.into();
        question["statements"] = true.into();
        question["form"] = "repr".into();
        let changed = self.debuggee.change(question);
        // What fails may have changed something before.
        if self.debuggee.timeline.is_diverted() && !std::mem::replace(&mut self.knows_diversions, true) {
            self.say(&format!("[{DIVERSION}]"));
        }
        let answer = self.fail_if_raised(changed?.answer)?;
        self.say_printed(&answer);
        if answer["statement"] != true && answer["type"] != "NoneType" {
            self.say(answer["value"].as_str().unwrap_or_default());
        }
        Ok(())
    }

    pub(super) fn print_arguments(&mut self) -> Result<()> {
        let question = self.question("arguments")?;
        let arguments = self.debuggee.timeline.ask(question, false)?;
        for argument in arguments.as_array().into_iter().flatten() {
            let text = |place: usize| argument[place].as_str().unwrap_or_default();
            self.say(&format!("{} = {}", text(0), text(1)));
        }
        Ok(())
    }

    // ---- displays ----

    pub(super) fn display(&mut self, expression: &str) -> Result<()> {
        let frame = self.frame()?.clone();
        if expression.is_empty() {
            self.say("Currently displaying:");
            let texts: Vec<String> = self.displays.iter().map(|d| format!("{}: {}", d.expression, d.shown)).collect();
            texts.iter().for_each(|text| self.say(text));
            return Ok(());
        }
        let shown = self.shown(expression)?;
        self.say(&format!("display {expression}: {shown}"));
        let expression = expression.to_owned();
        self.displays.retain(|display| !(display.is_of(self.thread, &frame) && display.expression == expression));
        let (thread, function) = (self.thread, frame.function);
        self.displays.push(Display { thread, frame: frame.number, function, expression, shown });
        Ok(())
    }

    /// The value of an expression, or why it has none.
    fn shown(&mut self, expression: &str) -> Result<String> {
        match self.value(expression, "repr") {
            Err(Failure::Message(why)) => Ok(format!("** raised {why} **")),
            other => other,
        }
    }

    pub(super) fn undisplay(&mut self, expression: &str) -> Result<()> {
        let frame = self.frame()?.clone();
        let before = self.displays.len();
        let (thread, is_all) = (self.thread, expression.is_empty());
        self.displays.retain(|d| !(d.is_of(thread, &frame) && (is_all || d.expression == expression)));
        if self.displays.len() == before && !is_all {
            return message(format!("not displaying {expression}"));
        }
        Ok(())
    }

    pub(super) fn say_displays(&mut self) -> Result<()> {
        let Ok(frame) = self.frame().cloned() else { return Ok(()) };
        for place in 0..self.displays.len() {
            if !self.displays[place].is_of(self.thread, &frame) {
                continue;
            }
            let expression = self.displays[place].expression.clone();
            let shown = self.shown(&expression)?;
            let before = std::mem::replace(&mut self.displays[place].shown, shown.clone());
            if before != shown {
                self.say(&format!("display {expression}: {shown}  [old: {before}]"));
            }
        }
        Ok(())
    }

    // ---- sources ----

    pub(super) fn list(&mut self, arguments: &str) -> Result<()> {
        let frame = self.frame()?.clone();
        let around = |line: u32| (line.saturating_sub(LISTED / 2).max(1), None);
        let number =
            |text: &str| text.trim().parse::<u32>().or_else(|_| message(format!("Error in argument: {arguments:?}")));
        let (first, last) = match arguments.split_once(',') {
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                // A smaller one is a count.
                (first.max(1), Some(if last < first { first + last } else { last }))
            }
            None if arguments == "." => around(frame.line),
            None if arguments.is_empty() => self.to_list.map_or_else(|| around(frame.line), |line| (line, None)),
            None => around(number(arguments)?),
        };
        let last = last.unwrap_or(first + LISTED - 1);
        self.say_lines(&frame.path, first, last, Some(frame.line))?;
        self.to_list = Some(last + 1);
        Ok(())
    }

    pub(super) fn long_list(&mut self) -> Result<()> {
        let frame = self.frame()?.clone();
        let question = self.question("code")?;
        let code = self.debuggee.timeline.ask(question, false)?;
        let (first, last) = match frame.name() {
            "<module>" => (1, u32::MAX),
            _ => self.block(&code)?,
        };
        self.say_lines(&frame.path, first, last, Some(frame.line))
    }

    pub(super) fn list_definition(&mut self, expression: &str) -> Result<()> {
        let definition = self.definition(expression)?;
        let (first, last) = self.block(&definition)?;
        let path = definition["path"].as_str().unwrap_or_default().to_owned();
        self.say_lines(&path, first, last, None)
    }

    /// Where what an expression means is defined.
    pub(super) fn definition(&mut self, expression: &str) -> Result<Value> {
        let mut question = self.question("definition")?;
        question["expression"] = expression.into();
        self.debuggee.timeline.ask(question, false)
    }

    /// The lines of a definition. A lambda and the like have one.
    fn block(&mut self, definition: &Value) -> Result<(u32, u32)> {
        let path = definition["path"].as_str().unwrap_or_default();
        let Some(source) = self.text_of(path) else { return message(format!("no source of {path} is known")) };
        let mut question = definition.clone();
        question["ask"] = "block".into();
        question["source"] = source.into();
        let block = self.debuggee.timeline.ask(question, false)?;
        let line = |value: &Value| value.as_u64().map(|line| line as u32);
        match (line(&block[0]), line(&block[1]), line(&definition["line"])) {
            (Some(first), Some(last), _) => Ok((first, last)),
            (_, _, Some(line)) if line > 0 => Ok((line, line)),
            _ => message("its source was not found"),
        }
    }

    fn say_lines(&mut self, path: &str, first: u32, last: u32, current: Option<u32>) -> Result<()> {
        let Some(lines) = self.source(path) else { return message(format!("no source of {path} is known")) };
        for number in first..=last {
            let Some(text) = lines.get(number as usize - 1) else {
                if last != u32::MAX {
                    self.say("[EOF]");
                }
                break;
            };
            let breakpoint = if self.has_breakpoint(path, number) { 'B' } else { ' ' };
            let mark = if current == Some(number) { "->" } else { "" };
            self.say(&format!("{number:>3} {breakpoint}{mark}\t{}", text.trim_end()));
        }
        Ok(())
    }
}
