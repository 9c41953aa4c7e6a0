//! What is shown where the debugger stands: threads, stacks, variables, and what the user evaluates.

use retrace_replay::debug_protocol::{Cause, Target};
use serde_json::{Value, json};

use super::Session;
use crate::debug::debuggee::{DIVERSION, Evaluation};
use crate::debug::engine::{Failure, Result, message};
use crate::debug::protocol::Request;

/// What a `variablesReference` stands for.
#[derive(Clone)]
pub(super) struct Reference {
    pub(super) thread: u32,
    /// None where it is of no frame, but of the module that the thread is in.
    pub(super) frame: Option<u64>,
    root: String,
    expression: Option<String>,
    steps: Value,
    /// How the user would write it.
    name: Option<String>,
    lazy: bool,
}

/// What the client was given numbers for, until the next movement.
#[derive(Default)]
pub(super) struct Handles {
    frames: Vec<(u32, u64)>,
    references: Vec<Reference>,
    /// What can be stepped into: the thread, the frame's depth and the call.
    targets: Vec<(u32, u32, Target)>,
}

impl Session {
    pub(super) fn threads(&mut self) -> Result<Value> {
        let Some(debuggee) = &mut self.debuggee else { return Ok(json!({ "threads": [] })) };
        if debuggee.timeline.present().is_err() {
            return Ok(json!({ "threads": [{ "id": 1, "name": "MainThread" }] }));
        }
        let threads = debuggee.timeline.ask(json!({ "ask": "threads" }), false)?;
        let threads = threads.as_array().into_iter().flatten();
        let threads =
            threads.map(|thread| json!({ "id": thread["thread"].as_i64().unwrap_or(0) + 1, "name": thread["name"] }));
        Ok(json!({ "threads": threads.collect::<Vec<_>>() }))
    }

    pub(super) fn stack_trace(&mut self, request: &Request) -> Result<Value> {
        let (debuggee, handles) = self.parts()?;
        let thread = request.int("threadId").and_then(|id| u32::try_from(id - 1).ok()).unwrap_or(0);
        let format = request.get("format");
        let entries = match format.is_object() {
            true => {
                let question = json!({ "ask": "stack", "thread": thread, "format": format });
                debuggee.timeline.ask(question, false)?.as_array().cloned().unwrap_or_default()
            }
            false => debuggee.stack(thread)?,
        };
        let start = request.int("startFrame").unwrap_or(0).max(0) as usize;
        let levels = request.int("levels").filter(|levels| *levels > 0).map_or(usize::MAX, |levels| levels as usize);
        let mut frames = Vec::new();
        for entry in entries.iter().skip(start).take(levels) {
            let path = entry["path"].as_str().unwrap_or_default();
            handles.frames.push((thread, entry["frame"].as_u64().unwrap_or(0)));
            let mut frame = json!({
                "id": handles.frames.len(),
                "name": entry["name"],
                "source": debuggee.sources.describe(path),
                "line": entry["line"],
                "column": debuggee.sources.column(path, &entry["line"], &entry["column"]).unwrap_or(1),
                "moduleId": entry["module"],
                "instructionPointerReference": entry["instruction"].as_u64().map(|at| format!("{at:#x}")),
            });
            if path.starts_with("<frozen ") {
                frame["presentationHint"] = "subtle".into();
            }
            frames.push(frame);
        }
        Ok(json!({ "stackFrames": frames, "totalFrames": entries.len() }))
    }

    pub(super) fn scopes(&mut self, request: &Request) -> Result<Value> {
        let (debuggee, handles) = self.parts()?;
        let (thread, frame) = handles.frame(request.int("frameId").unwrap_or(0))?;
        let scopes = debuggee.timeline.ask(json!({ "ask": "scopes", "thread": thread, "frame": frame }), false)?;
        let mut answers = Vec::new();
        for scope in scopes.as_array().into_iter().flatten() {
            let root = scope["root"].as_str().unwrap_or_default();
            let reference = handles.add(Reference {
                thread,
                frame: Some(frame),
                root: root.to_owned(),
                expression: None,
                steps: json!([]),
                name: None,
                lazy: false,
            });
            let mut answer =
                json!({ "name": scope["name"], "variablesReference": reference, "expensive": root == "globals" });
            if root == "locals" {
                answer["presentationHint"] = "locals".into();
            }
            answers.push(answer);
        }
        Ok(json!({ "scopes": answers }))
    }

    pub(super) fn variables(&mut self, request: &Request) -> Result<Value> {
        let (debuggee, handles) = self.parts()?;
        let parent = handles.reference(request.int("variablesReference").unwrap_or(0))?;
        let mut question = parent.question(if parent.lazy { "lazy" } else { "variables" });
        for name in ["start", "count", "filter", "format"] {
            question[name] = request.get(name).clone();
        }
        let children = match debuggee.timeline.ask(question, false) {
            // A property that does not come to an end is one value among others.
            Err(Failure::Ended(why)) if parent.lazy => json!([{ "name": "", "value": format!("<{why}>"), "type": "" }]),
            children => children?,
        };
        let variables = children.as_array().into_iter().flatten();
        let variables: Vec<Value> = variables.map(|child| handles.variable(child, &parent)).collect();
        Ok(json!({ "variables": variables }))
    }

    pub(super) fn evaluate(&mut self, request: &Request) -> Result<Value> {
        let context = request.text("context").to_owned();
        let expression = request.text("expression").to_owned();
        let (debuggee, handles) = self.parts()?;
        let frame = match request.int("frameId") {
            Some(id) => Some(handles.frame(id)?),
            None => None,
        };
        let at = debuggee.timeline.present()?.at.thread;
        let (thread, number) = frame.map_or((at, Value::Null), |(thread, frame)| (thread, json!(frame)));
        let lasting = context == "repl";
        let question = json!({
            "ask": "evaluate", "thread": thread, "frame": number, "expression": expression,
            "statements": lasting, "full": context == "clipboard", "format": request.get("format"),
        });
        let Evaluation { answer, is_new_diversion } = debuggee.evaluate(question)?;
        if let Some(raised) = answer["raised"].as_str() {
            self.say_evaluated(&answer, lasting, is_new_diversion);
            return message(raised);
        }
        let reference = match answer["children"] == true {
            true => handles.add(Reference::of_expression(thread, frame.map(|(_, frame)| frame), expression)),
            false => 0,
        };
        self.say_evaluated(&answer, lasting, is_new_diversion);
        let mut body = json!({ "result": answer["value"], "type": answer["type"], "variablesReference": reference });
        if answer["indexed"].is_u64() {
            body["indexedVariables"] = answer["indexed"].clone();
        }
        Ok(body)
    }

    /// Says what was printed while something was evaluated in the console, and that a diversion has begun.
    fn say_evaluated(&mut self, answer: &Value, in_console: bool, is_new_diversion: bool) {
        let output = answer["output"].as_str().unwrap_or_default();
        if !output.is_empty() && in_console {
            self.say("console", output);
        }
        if is_new_diversion {
            self.say_diversion();
        }
    }

    pub(super) fn set_variable(&mut self, request: &Request) -> Result<Value> {
        let parent = self.handles.reference(request.int("variablesReference").unwrap_or(0))?;
        let mut question = parent.question("assign");
        question["name"] = request.get("name").clone();
        question["value"] = request.get("value").clone();
        question["format"] = request.get("format").clone();
        question["parent"] = json!(parent.name);
        self.change(question, &parent)
    }

    pub(super) fn set_expression(&mut self, request: &Request) -> Result<Value> {
        let (thread, frame) = self.handles.frame(request.int("frameId").unwrap_or(0))?;
        let parent = Reference::of_expression(thread, Some(frame), request.text("expression").to_owned());
        let question = json!({
            "ask": "set_expression", "thread": thread, "frame": frame,
            "expression": request.get("expression"), "value": request.get("value"), "format": request.get("format"),
        });
        self.change(question, &parent)
    }

    fn change(&mut self, question: Value, parent: &Reference) -> Result<Value> {
        let Evaluation { answer, is_new_diversion } = self.debuggee()?.change(question)?;
        if is_new_diversion {
            self.say_diversion();
        }
        let mut variable = self.handles.variable(&answer, parent);
        if let Some(body) = variable.as_object_mut() {
            body.retain(|key, _| matches!(&**key, "value" | "type" | "variablesReference" | "indexedVariables"));
        }
        Ok(variable)
    }

    fn say_diversion(&mut self) {
        self.say("console", &format!("retrace: {DIVERSION}\n"));
    }

    pub(super) fn completions(&mut self, request: &Request) -> Result<Value> {
        let (debuggee, handles) = self.parts()?;
        let at = debuggee.timeline.present()?.at.thread;
        let (thread, frame) = match request.int("frameId") {
            Some(id) => handles.frame(id).map(|(thread, frame)| (thread, json!(frame)))?,
            None => (at, Value::Null),
        };
        let column = (request.int("column").unwrap_or(1).max(1) - 1) as usize;
        let text: String = request.text("text").chars().take(column).collect();
        let question = json!({ "ask": "completions", "thread": thread, "frame": frame, "text": text });
        let targets = debuggee.timeline.ask(question, false).unwrap_or_else(|_| json!([]));
        Ok(json!({ "targets": targets }))
    }

    pub(super) fn exception_info(&mut self) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let info = debuggee.timeline.ask(json!({ "ask": "exception" }), false)?;
        if info.is_null() {
            return message("no exception passes here");
        }
        let present = debuggee.timeline.present()?;
        let position = present.position();
        let leaves = matches!(present.at.cause, Cause::Exception { user_unhandled: true, .. });
        let uncaught = debuggee.timeline.crash().ok().flatten() == Some(position);
        Ok(json!({
            "exceptionId": info["class"], "description": info["message"],
            "breakMode": if uncaught { "unhandled" } else if leaves { "userUnhandled" } else { "always" },
            "details": {
                "message": info["message"], "typeName": info["class"], "fullTypeName": info["class"],
                "stackTrace": info["stack"],
            },
        }))
    }

    pub(super) fn source(&mut self, request: &Request) -> Result<Value> {
        let sources = &self.debuggee()?.sources;
        let mut source = request.get("source").clone();
        if source.is_null() {
            source = json!({ "sourceReference": request.get("sourceReference") });
        }
        match sources.path_of(&source).and_then(|path| sources.contents(&path)) {
            Some(content) => Ok(json!({ "content": content, "mimeType": "text/x-python" })),
            None => message("the recording has no such source"),
        }
    }

    pub(super) fn modules(&mut self) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let modules = debuggee.timeline.ask(json!({ "ask": "modules" }), false)?;
        let modules: Vec<Value> = modules
            .as_array()
            .into_iter()
            .flatten()
            .map(|module| {
                json!({ "id": module["name"], "name": module["name"], "path": module["path"], "version": module["version"] })
            })
            .collect();
        Ok(json!({ "modules": modules, "totalModules": modules.len() }))
    }
}

impl Handles {
    pub(super) fn frame(&self, id: i64) -> Result<(u32, u64)> {
        let frame = usize::try_from(id - 1).ok().and_then(|place| self.frames.get(place));
        frame.copied().ok_or_else(|| Failure::Message("that frame is not there any more".to_owned()))
    }

    pub(super) fn reference(&self, number: i64) -> Result<Reference> {
        let reference = usize::try_from(number - 1).ok().and_then(|place| self.references.get(place));
        reference.cloned().ok_or_else(|| Failure::Message("that variable is not there any more".to_owned()))
    }

    pub(super) fn target(&self, number: i64) -> Result<(u32, u32, Target)> {
        let target = usize::try_from(number - 1).ok().and_then(|place| self.targets.get(place));
        target.copied().ok_or_else(|| Failure::Message("that call is not there any more".to_owned()))
    }

    pub(super) fn add_target(&mut self, target: (u32, u32, Target)) -> usize {
        self.targets.push(target);
        self.targets.len()
    }

    fn add(&mut self, reference: Reference) -> usize {
        self.references.push(reference);
        self.references.len()
    }

    /// DAP's form of an entry of `inspect.py`.
    fn variable(&mut self, child: &Value, parent: &Reference) -> Value {
        let mut variable = json!({ "name": child["name"], "value": child["value"], "type": child["type"] });
        let lazy = child["lazy"] == true;
        let mut reference = 0;
        if child["children"] == true {
            reference = self.add(Reference {
                steps: child["steps"].clone(),
                name: child["evaluateName"].as_str().map(str::to_owned),
                lazy,
                ..parent.clone()
            });
        }
        variable["variablesReference"] = reference.into();
        for (from, to) in [("evaluateName", "evaluateName"), ("indexed", "indexedVariables")] {
            if !child[from].is_null() {
                variable[to] = child[from].clone();
            }
        }
        if lazy || !child["attributes"].is_null() {
            variable["presentationHint"] = json!({ "lazy": lazy, "attributes": child["attributes"] });
            if child["attributes"].is_null() {
                variable["presentationHint"] = json!({ "lazy": true });
            }
        }
        variable
    }
}

impl Reference {
    fn of_expression(thread: u32, frame: Option<u64>, expression: String) -> Reference {
        let name = Some(expression.clone());
        let (root, steps) = ("expression".to_owned(), json!([]));
        Reference { thread, frame, root, expression: Some(expression), steps, name, lazy: false }
    }

    pub(super) fn is_of_globals(&self) -> bool {
        self.root == "globals"
    }

    pub(super) fn question(&self, ask: &str) -> Value {
        json!({
            "ask": ask, "thread": self.thread, "frame": self.frame, "root": self.root,
            "expression": self.expression, "steps": self.steps, "name": self.name,
        })
    }
}
