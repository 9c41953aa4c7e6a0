//! The commands: their names, what they say of themselves, and which function does them.

use super::Terminal;
use crate::debug::engine::{Result, message};
use crate::debug::timeline::StepKind;

pub struct Command {
    /// The first is the one that `help` lists.
    pub names: &'static [&'static str],
    arguments: &'static str,
    help: &'static str,
    run: fn(&mut Terminal, &str) -> Result<()>,
    /// What its arguments are completed by.
    pub takes: Takes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    Nothing,
    Expression,
    Place,
    Landmark,
    Command,
}

/// A group of `help`, and its commands.
pub const GROUPS: &[(&str, &[Command])] = &[
    ("Forwards", FORWARDS),
    ("Backwards", BACKWARDS),
    ("Places", PLACES),
    ("Breakpoints", BREAKPOINTS),
    ("State", STATE),
    ("Others", OTHERS),
];

const fn command(
    names: &'static [&'static str],
    arguments: &'static str,
    takes: Takes,
    help: &'static str,
    run: fn(&mut Terminal, &str) -> Result<()>,
) -> Command {
    Command { names, arguments, help, run, takes }
}

use Takes::{Expression, Landmark, Nothing, Place};

const FORWARDS: &[Command] = &[
    command(&["step", "s"], "", Nothing, "Go on to the next line, into calls.", |t, _| t.step(StepKind::In)),
    command(&["next", "n"], "", Nothing, "Go on to the next line of this function, over calls.", |t, _| {
        t.step(StepKind::Over)
    }),
    command(&["return", "r"], "", Nothing, "Go on to where this function has returned to.", |t, _| {
        t.step(StepKind::Out(1))
    }),
    command(&["continue", "cont", "c"], "", Nothing, "Go on to the next breakpoint, the crash or the end.", |t, _| {
        t.run_on()
    }),
    command(
        &["until", "unt"],
        "[LINE]",
        Nothing,
        "Go on to a later line of this function than this one, or to LINE or later, or until it returns.",
        Terminal::until,
    ),
];

const BACKWARDS: &[Command] = &[
    command(&["rstep", "rs"], "", Nothing, "Go back to the line before, into calls.", |t, _| t.step_back(StepKind::In)),
    command(&["rnext", "rn"], "", Nothing, "Go back to the line before of this function, over calls.", |t, _| {
        t.step_back(StepKind::Over)
    }),
    command(&["rreturn", "rr"], "", Nothing, "Go back to where this function was called.", |t, _| {
        t.step_back(StepKind::Out(1))
    }),
    command(&["rcontinue", "rc"], "", Nothing, "Go back to the last breakpoint, the crash or the start.", |t, _| {
        t.run_back()
    }),
    command(
        &["last"],
        "EXPRESSION",
        Expression,
        "Go back to the line behind the one that gave an expression the value that it has now.",
        Terminal::last,
    ),
];

const PLACES: &[Command] = &[
    command(
        &["goto"],
        "EVENT|start|end|crash",
        Landmark,
        "Go to an event of the recording (`events` lists them), to its start or end, or to the exception that ended it.",
        Terminal::go_to,
    ),
    command(&["events"], "[EVENT [COUNT]]", Nothing, "List the events around here, or from one on.", Terminal::events),
    command(&["threads"], "", Nothing, "List the threads, and where each is.", |t, _| t.threads()),
    command(&["thread"], "N", Nothing, "Look at a thread, and step in it.", Terminal::select_thread),
    command(&["processes"], "", Nothing, "List the processes of the recording.", |t, _| t.processes()),
    command(&["process"], "N", Nothing, "Debug another process of the recording.", Terminal::select_process),
    command(&["output"], "", Nothing, "Print what the program has written up to here.", |t, _| t.output()),
    command(&["run", "restart"], "", Nothing, "Go to the recording's start: the same as `goto start`.", |t, _| {
        t.go_to("start")
    }),
];

const BREAKPOINTS: &[Command] = &[
    command(
        &["break", "b"],
        "[[FILE:]LINE|FUNCTION[, CONDITION]]",
        Place,
        "Set a breakpoint, which holds in both directions. Without arguments: list them.",
        |t, arguments| t.set_breakpoint(arguments, false),
    ),
    command(
        &["tbreak"],
        "[FILE:]LINE|FUNCTION[, CONDITION]",
        Place,
        "Set a breakpoint that is deleted when it is hit.",
        |t, arguments| t.set_breakpoint(arguments, true),
    ),
    command(
        &["clear", "cl"],
        "[NUMBER… | FILE:LINE]",
        Place,
        "Delete breakpoints; all without arguments.",
        Terminal::clear,
    ),
    command(
        &["condition"],
        "NUMBER [CONDITION]",
        Expression,
        "Stop at a breakpoint only where this is true; without a condition: everywhere.",
        Terminal::set_condition,
    ),
    command(&["ignore"], "NUMBER [COUNT]", Nothing, "Pass over a breakpoint so many times.", Terminal::ignore),
    command(&["enable"], "NUMBER…", Nothing, "Stop at breakpoints again.", |t, arguments| t.enable(arguments, true)),
    command(&["disable"], "NUMBER…", Nothing, "Do not stop at breakpoints, but keep them.", |t, arguments| {
        t.enable(arguments, false)
    }),
    command(
        &["mycode"],
        "[on|off]",
        Nothing,
        "Whether steps pass over library code. On at first; without arguments: say which.",
        Terminal::my_code,
    ),
];

const STATE: &[Command] = &[
    command(&["where", "w", "bt"], "", Nothing, "Print the stack, the newest frame last.", |t, _| t.print_stack()),
    command(&["up", "u"], "[COUNT]", Nothing, "Look at an older frame.", |t, arguments| t.select(arguments, true)),
    command(&["down", "d"], "[COUNT]", Nothing, "Look at a newer frame.", |t, arguments| t.select(arguments, false)),
    command(&["p"], "EXPRESSION", Expression, "Print an expression's value.", |t, arguments| {
        t.print(arguments, "repr")
    }),
    command(&["pp"], "EXPRESSION", Expression, "Print an expression's value over several lines.", |t, arguments| {
        t.print(arguments, "pretty")
    }),
    command(&["whatis"], "EXPRESSION", Expression, "Print an expression's type.", |t, arguments| {
        t.print(arguments, "whatis")
    }),
    command(&["args", "a"], "", Nothing, "Print this function's arguments.", |t, _| t.print_arguments()),
    command(
        &["display"],
        "[EXPRESSION]",
        Expression,
        "Print an expression's value at each stop in this function where it is another one. Without: list them.",
        Terminal::display,
    ),
    command(&["undisplay"], "[EXPRESSION]", Expression, "Do not print it any more; none without.", Terminal::undisplay),
    command(
        &["list", "l"],
        "[FIRST[, LAST] | .]",
        Nothing,
        "List eleven lines of source around here, or go on with the listing; around FIRST, or a range.",
        Terminal::list,
    ),
    command(&["longlist", "ll"], "", Nothing, "List this function's source.", |t, _| t.long_list()),
    command(
        &["source"],
        "EXPRESSION",
        Expression,
        "List the source of a function or class.",
        Terminal::list_definition,
    ),
];

const OTHERS: &[Command] = &[
    command(&["help", "h"], "[COMMAND]", Takes::Command, "List the commands, or say what one does.", Terminal::help),
    command(&["quit", "q", "exit"], "", Nothing, "Leave.", |t, _| {
        t.is_done = true;
        Ok(())
    }),
    command(&["jump", "j"], "LINE", Nothing, "A recording can't jump.", |_, _| {
        message(
            "a recording runs as it ran: no line of it can be left out. `goto` and the reverse commands go elsewhere",
        )
    }),
    command(
        &["interact", "commands", "alias", "unalias", "debug", "retval", "rv"],
        "",
        Nothing,
        "Not there.",
        |_, _| message("pdb has this command, the debugger of recordings has not"),
    ),
];

pub fn all() -> impl Iterator<Item = &'static Command> {
    GROUPS.iter().flat_map(|(_, commands)| *commands)
}

fn find(name: &str) -> Option<&'static Command> {
    all().find(|command| command.names.contains(&name))
}

/// The command that a line is, and its arguments. None: it is Python.
pub fn parse(line: &str) -> Option<(&'static Command, &str)> {
    if let Some(topic) = line.strip_prefix('?') {
        return Some((find("help")?, topic.trim()));
    }
    let (word, rest) = line.split_at(line.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(line.len()));
    let arguments = rest.trim_start();
    // `c = 1`, `n.x`, `p(3)`: names of the program's that are short.
    let is_python =
        !rest.is_empty() && arguments.len() == rest.len() || arguments.starts_with('=') && !arguments.starts_with("==");
    find(word).filter(|_| !is_python).map(|command| (command, arguments))
}

impl Terminal {
    pub(super) fn command(&mut self, line: &str) -> Result<()> {
        if let Some(statement) = line.strip_prefix('!') {
            return self.execute(statement.trim());
        }
        match parse(line) {
            Some((command, arguments)) => (command.run)(self, arguments),
            None => self.execute(line),
        }
    }

    fn help(&mut self, topic: &str) -> Result<()> {
        if topic.is_empty() {
            for (group, commands) in GROUPS {
                self.say(&format!("{group}:"));
                for command in *commands {
                    self.say(&format!("    {:<18} {}", command.names.join(", "), command.help));
                }
            }
            self.say("Everything else is Python, evaluated in the frame that is looked at; `!` says so.");
            self.say("An empty line does the last one again. `help COMMAND` says more.");
            return Ok(());
        }
        let Some(command) = find(topic) else { return message(format!("no help on {topic:?}: no such command")) };
        let names = command.names.join(" | ");
        self.say(format!("{names} {}", command.arguments).trim_end());
        self.say(&format!("    {}", command.help));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_command_or_python() {
        let name = |line| parse(line).map(|(command, arguments)| (command.names[0], arguments));
        assert_eq!(name("n"), Some(("next", "")));
        assert_eq!(name("p x == 1"), Some(("p", "x == 1")));
        assert_eq!(name("? up"), Some(("help", "up")));
        for python in ["n = 1", "c.x", "p(3)", "total + 1", "[n]"] {
            assert_eq!(name(python), None, "{python}");
        }
    }

    #[test]
    fn each_name_is_one_command() {
        let mut names: Vec<&str> = all().flat_map(|command| command.names).copied().collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
