//! What to stop at: lines, functions, exceptions and values that change.

use retrace_replay::debug_protocol::{Breakpoint, Exceptions, FunctionBreakpoint, Hits, Stops, Watch};
use serde_json::{Value, json};

use super::Session;
use crate::debug::engine::{Result, message};
use crate::debug::protocol::Request;

/// Where the number of a breakpoint stands in a request that waits for the recording.
const GIVEN: &str = "retraceId";
const NOT_OPEN: &str = "the recording is not open yet";
const WHAT_HITS_ARE: &str = "a hit condition is a number, `>= number` or `% number`";

#[derive(Default)]
pub(super) struct Breakpoints {
    lines: Vec<(String, Breakpoint)>,
    functions: Vec<FunctionBreakpoint>,
    pub(super) exceptions: Exceptions,
    watches: Vec<Watch>,
    /// The number given last.
    given: i64,
}

impl Breakpoints {
    /// Whether the breakpoint with that number is on a function.
    pub(super) fn is_on_function(&self, id: i64) -> bool {
        self.functions.iter().any(|breakpoint| breakpoint.id == id)
    }
}

impl Session {
    /// All breakpoints.
    pub(super) fn stops(&self) -> Stops {
        let exceptions = &self.breakpoints.exceptions;
        Stops {
            breakpoints: self.breakpoints.lines.iter().map(|(_, breakpoint)| breakpoint.clone()).collect(),
            functions: self.breakpoints.functions.clone(),
            exceptions: (exceptions.raised || exceptions.user_unhandled).then(|| exceptions.clone()),
            watches: self.breakpoints.watches.clone(),
            mine_only: self.debuggee.as_ref().is_some_and(|debuggee| debuggee.mine_only),
            ..Stops::default()
        }
    }

    fn new_id(&mut self) -> i64 {
        self.breakpoints.given += 1;
        self.breakpoints.given
    }

    /// Breakpoints are checked when there is a recording; of those for the same source only the last. They have their
    /// numbers from now on.
    fn check_later(&mut self, request: &Request) -> Value {
        let key = |request: &Request| (request.command.clone(), request.get("source")["path"].clone());
        self.waiting.retain(|earlier| key(earlier) != key(request));
        let mut later = request.clone();
        let mut answers = Vec::new();
        for wanted in later.arguments["breakpoints"].as_array_mut().into_iter().flatten() {
            let id = self.new_id();
            if !wanted.is_object() {
                *wanted = json!({});
            }
            wanted[GIVEN] = id.into();
            let mut answer = json!({ "id": id, "verified": false, "message": NOT_OPEN });
            if wanted["line"].is_number() {
                answer["line"] = wanted["line"].clone();
            }
            answers.push(answer);
        }
        self.waiting.push(later);
        json!({ "breakpoints": answers })
    }

    /// The number of a breakpoint that is set: the one that it has been given, or a new one.
    fn id_of(&mut self, wanted: &Value) -> i64 {
        wanted[GIVEN].as_i64().unwrap_or_else(|| self.new_id())
    }

    pub(super) fn set_breakpoints(&mut self, request: &Request) -> Result<Value> {
        let wanted = request.get("breakpoints").as_array().cloned().unwrap_or_default();
        if self.debuggee.is_none() {
            return Ok(self.check_later(request));
        }
        let debuggee = self.debuggee()?;
        let Some(path) = debuggee.sources.path_of(request.get("source")) else {
            return message("setBreakpoints: the source has no path");
        };
        let lines = debuggee.lines_with_code(&path);
        self.breakpoints.lines.retain(|(other, _)| *other != path);
        let mut answers = Vec::new();
        for wanted in &wanted {
            let id = self.id_of(wanted);
            let line = wanted["line"].as_u64().unwrap_or(0) as u32;
            let column = wanted["column"].as_u64().map(|column| column as u32);
            // Where a line has no code, the next one that has.
            let place = match &lines {
                Some(lines) => lines.iter().copied().find(|code| *code >= line),
                None => Some(line),
            };
            // Where a column has none, the next place of the line, or its last.
            let inside = match (column, place) {
                (Some(column), Some(place)) if place == line => {
                    let found = self.debuggee()?.locations(&path, line, line).unwrap_or_default();
                    let mut found: Vec<_> = found.into_iter().filter(|location| location.line == line).collect();
                    let next = found.iter().position(|location| location.column >= column);
                    next.or(found.len().checked_sub(1)).map(|place| found.swap_remove(place))
                }
                _ => None,
            };
            let Some(place) = place else {
                answers.push(
                    json!({ "id": id, "verified": false, "line": line, "message": "no code at or after this line" }),
                );
                continue;
            };
            let Ok(hits) = hits_of(wanted) else {
                answers.push(json!({ "id": id, "verified": false, "line": line, "message": WHAT_HITS_ARE }));
                continue;
            };
            let breakpoint = Breakpoint {
                id,
                path: path.clone(),
                line: place,
                column: inside.as_ref().and_then(|location| location.inside),
                condition: text_of(wanted, "condition"),
                log: text_of(wanted, "logMessage"),
                hits,
            };
            self.breakpoints.lines.push((path.clone(), breakpoint));
            let mut answer = json!({ "id": id, "verified": lines.is_some(), "line": place });
            if let Some(location) = inside {
                (answer["column"], answer["endColumn"]) = (location.column.into(), location.end_column.into());
                answer["endLine"] = location.end_line.into();
            }
            if lines.is_none() {
                answer["message"] = "the recording has no source of this file: the program did not load it".into();
            } else if place != line {
                answer["message"] = format!("line {line} has no code; this is the next one that has").into();
            }
            answers.push(answer);
        }
        Ok(json!({ "breakpoints": answers }))
    }

    pub(super) fn set_function_breakpoints(&mut self, request: &Request) -> Value {
        self.breakpoints.functions.clear();
        let all = request.get("breakpoints").as_array().cloned().unwrap_or_default();
        if self.debuggee.is_none() {
            return self.check_later(request);
        }
        let mut answers = Vec::new();
        for wanted in &all {
            let id = self.id_of(wanted);
            let Ok(hits) = hits_of(wanted) else {
                answers.push(json!({ "id": id, "verified": false, "message": WHAT_HITS_ARE }));
                continue;
            };
            let (name, condition) = (text_of(wanted, "name").unwrap_or_default(), text_of(wanted, "condition"));
            let mut breakpoint = FunctionBreakpoint { id, name, condition, hits, ..Default::default() };
            let is_there = self.debuggee.as_mut().is_some_and(|debuggee| debuggee.has_function(&mut breakpoint));
            let mut answer = json!({ "id": id, "verified": is_there });
            if !is_there {
                let name = &breakpoint.name;
                answer["message"] = format!("no source in the recording has a function {name}").into();
            }
            // It is looked for all the same: code that the program made out of a string has no source.
            self.breakpoints.functions.push(breakpoint);
            answers.push(answer);
        }
        json!({ "breakpoints": answers })
    }

    pub(super) fn set_exception_breakpoints(&mut self, request: &Request) -> Value {
        let mut exceptions = Exceptions::default();
        let mut set = |name: &str, condition: Option<&str>| {
            let wanted = match name {
                "raised" => {
                    exceptions.raised = true;
                    &mut exceptions.classes
                }
                "userUnhandled" => {
                    exceptions.user_unhandled = true;
                    &mut exceptions.user_classes
                }
                "uncaught" | "unhandled" => {
                    exceptions.uncaught = true;
                    return;
                }
                _ => return,
            };
            let classes = condition.unwrap_or_default().split(',').map(str::trim).filter(|class| !class.is_empty());
            wanted.extend(classes.map(str::to_owned));
        };
        let filters = request.get("filters").as_array().into_iter().flatten();
        filters.filter_map(Value::as_str).for_each(|name| set(name, None));
        for option in request.get("filterOptions").as_array().into_iter().flatten() {
            set(option["filterId"].as_str().unwrap_or_default(), option["condition"].as_str());
        }
        for option in request.get("exceptionOptions").as_array().into_iter().flatten() {
            let path = option["path"].as_array().map_or(&[][..], Vec::as_slice);
            let mode = option["breakMode"].as_str().unwrap_or("always");
            let filter = if mode == "always" { "raised" } else { mode };
            if path.is_empty() {
                set(filter, None);
            }
            for name in path.iter().flat_map(|part| part["names"].as_array().into_iter().flatten()) {
                set(filter, name.as_str());
            }
        }
        self.breakpoints.exceptions = exceptions;
        json!({})
    }

    pub(super) fn data_breakpoint_info(&mut self, request: &Request) -> Result<Value> {
        let watch = self.watch_of(request, 0)?;
        let id = serde_json::to_string(&watch).unwrap_or_default();
        Ok(json!({ "dataId": id, "description": watch.expression, "accessTypes": ["write"], "canPersist": false }))
    }

    pub(super) fn set_data_breakpoints(&mut self, request: &Request) -> Result<Value> {
        self.breakpoints.watches.clear();
        let mut answers = Vec::new();
        for wanted in request.get("breakpoints").as_array().into_iter().flatten() {
            let id = self.new_id();
            let Ok(hits) = hits_of(wanted) else {
                answers.push(json!({ "id": id, "verified": false, "message": WHAT_HITS_ARE }));
                continue;
            };
            match serde_json::from_str::<Watch>(wanted["dataId"].as_str().unwrap_or_default()) {
                Ok(watch) => {
                    self.breakpoints.watches.push(Watch { id, condition: text_of(wanted, "condition"), hits, ..watch });
                    answers.push(json!({ "id": id, "verified": true }));
                }
                Err(_) => answers.push(json!({ "id": id, "verified": false, "message": "unknown data" })),
            }
        }
        Ok(json!({ "breakpoints": answers }))
    }

    /// What is watched: an expression in a frame, or a variable.
    pub(super) fn watch_of(&mut self, request: &Request, id: i64) -> Result<Watch> {
        let (debuggee, handles) = self.parts()?;
        let (thread, frame, expression) = match request.int("variablesReference").filter(|n| *n > 0) {
            Some(reference) => {
                let parent = handles.reference(reference)?;
                let name = request.text("name");
                let question = parent.question("variables");
                let children = debuggee.timeline.ask(question, false)?;
                let child = children.as_array().into_iter().flatten().find(|child| child["name"] == name);
                let Some(expression) = child.and_then(|child| child["evaluateName"].as_str()) else {
                    return message(format!("{name} is nothing that can be watched"));
                };
                if parent.is_of_globals() || parent.frame.is_none() {
                    return debuggee.watch_global(id, expression.to_owned(), parent.thread, parent.frame);
                }
                (parent.thread, parent.frame, expression.to_owned())
            }
            None => {
                let expression = match request.text("expression") {
                    "" => request.text("name"),
                    expression => expression,
                };
                match request.int("frameId") {
                    Some(id) => {
                        let (thread, frame) = handles.frame(id)?;
                        (thread, Some(frame), expression.to_owned())
                    }
                    // A name without a frame is a global's.
                    None => {
                        let thread = debuggee.timeline.present()?.at.thread;
                        return debuggee.watch_global(id, expression.to_owned(), thread, None);
                    }
                }
            }
        };
        debuggee.watch(id, expression, thread, frame)
    }
}

/// What a client says of a breakpoint, unless that is empty.
fn text_of(wanted: &Value, name: &str) -> Option<String> {
    wanted[name].as_str().filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

/// A breakpoint's hit condition, if it has one; an error where that is none.
fn hits_of(wanted: &Value) -> std::result::Result<Option<Hits>, ()> {
    text_of(wanted, "hitCondition").map(|text| parse_hits(&text).ok_or(())).transpose()
}

fn parse_hits(text: &str) -> Option<Hits> {
    let text = text.trim();
    for (sign, make) in
        [(">=", Hits::AtLeast as fn(u64) -> Hits), ("==", Hits::Equal), ("=", Hits::Equal), ("%", Hits::Every)]
    {
        if let Some(rest) = text.strip_prefix(sign) {
            return rest.trim().parse().ok().map(make);
        }
    }
    if let Some(rest) = text.strip_prefix('>') {
        return rest.trim().parse::<u64>().ok().map(|n| Hits::AtLeast(n + 1));
    }
    text.parse().ok().map(Hits::Equal)
}
