//! The recording as a whole: its events, processes and output.

use super::Terminal;
use crate::debug::debuggee::Debuggee;
use crate::debug::engine::{Result, message};
use crate::{events, info};

/// Events that are listed before the present, and in all.
const BEFORE: u64 = 5;
const LISTED: u64 = 11;
/// Lines of the program's output that are shown as one passes them.
const SHOWN: usize = 20;

impl Terminal {
    pub(super) fn events(&mut self, arguments: &str) -> Result<()> {
        let here = self.debuggee.timeline.present()?.at.event;
        let mut numbers = Vec::new();
        for number in arguments.split_whitespace() {
            numbers.push(number.parse::<u64>().or_else(|_| message(format!("{number:?} is no number of an event")))?);
        }
        let first = numbers.first().copied().unwrap_or(here.saturating_sub(BEFORE));
        let count = numbers.get(1).copied().unwrap_or(LISTED).max(1);
        let range = first..=first.saturating_add(count - 1);
        let lines = events::lines(&self.debuggee.trace, self.debuggee.process, range)?;
        for (index, line) in lines {
            let mark = if index.0 == here { "->" } else { "  " };
            self.say(&format!("{mark}{line}"));
        }
        Ok(())
    }

    pub(super) fn processes(&mut self) -> Result<()> {
        for summary in self.debuggee.trace.processes() {
            let start = summary.start.as_ref();
            let command = start.map(|start| info::shortened(&info::command(start))).unwrap_or_default();
            let pid = start.and_then(|start| start.int("pid")).unwrap_or(0);
            let mark = if summary.index == self.debuggee.process { '*' } else { ' ' };
            let fork = if start.is_some_and(|start| start.forked().is_some()) { "forked by" } else { "started by" };
            let parent = start.and_then(|start| start.parent());
            let parent = parent.map(|parent| format!("  ({fork} process {parent})")).unwrap_or_default();
            self.say(&format!("{mark} {:>3}  pid {pid}  {command}{parent}", summary.index));
        }
        Ok(())
    }

    pub(super) fn select_process(&mut self, number: &str) -> Result<()> {
        let Ok(process) = number.parse() else { return message("process: a number of a process is wanted") };
        let mut arguments = self.arguments.clone();
        arguments.process = process;
        let mut debuggee = Debuggee::open(&arguments, Vec::new(), self.cancel.clone())?;
        let said = debuggee.finish()?;
        eprint!("{said}");
        let mine_only = self.debuggee.mine_only;
        (self.debuggee, self.arguments) = (debuggee, arguments);
        self.debuggee.mine_only = mine_only;
        self.sources.clear();
        self.displays.clear();
        self.thread = 0;
        self.begin()
    }

    pub(super) fn output(&mut self) -> Result<()> {
        let event = self.debuggee.timeline.present()?.at.event;
        let outputs = &self.debuggee.timeline.engine().outputs;
        let text: String = outputs.iter().filter(|output| output.event <= event).map(|output| &*output.text).collect();
        self.out.push_str(&text);
        if !text.is_empty() && !text.ends_with('\n') {
            self.out.push('\n');
        }
        Ok(())
    }

    /// The end of what the program wrote on the way.
    pub(super) fn say_output(&mut self, output: &str) {
        let lines: Vec<&str> = output.lines().collect();
        let left_out = lines.len().saturating_sub(SHOWN);
        if left_out > 0 {
            self.say(&format!("[{left_out} lines of output before; `output` prints all]"));
        }
        lines[left_out..].iter().for_each(|line| self.say(line));
    }
}
