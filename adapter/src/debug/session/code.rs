//! Code: where breakpoints can be, what can be stepped into, and instructions.

use serde_json::{Value, json};

use super::Session;
use crate::debug::engine::{Result, message};
use crate::debug::protocol::Request;
use retrace_replay::debug_protocol::Target;

/// The longest label of a call.
const LABEL: usize = 60;
/// The most instructions that are listed at a time.
const MOST: i64 = 10_000;

impl Session {
    pub(super) fn breakpoint_locations(&mut self, request: &Request) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let Some(path) = debuggee.sources.path_of(request.get("source")) else {
            return message("breakpointLocations: the source has no path");
        };
        let number = |name: &str| request.int(name).and_then(|n| u32::try_from(n).ok());
        let first = number("line").unwrap_or(1);
        let last = number("endLine").unwrap_or(first);
        let begin = (first, number("column").unwrap_or(0));
        let end = (last, number("endColumn").unwrap_or(u32::MAX));
        let lines = debuggee.lines_with_code(&path).unwrap_or_default();
        let found = debuggee.locations(&path, first, last).unwrap_or_default();
        let mut answers: Vec<Value> = found
            .iter()
            .filter(|place| (begin..=end).contains(&(place.line, place.column)))
            .map(|place| {
                json!({
                    "line": place.line, "column": place.column,
                    "endLine": place.end_line, "endColumn": place.end_column,
                })
            })
            .collect();
        // Lines that no statement begins, as those of a long expression.
        let more = lines.into_iter().filter(|line| (first..=last).contains(line));
        let more = more.filter(|line| found.iter().all(|place| place.line != *line));
        answers.extend(more.map(|line| json!({ "line": line })));
        answers.sort_by_key(|answer| (answer["line"].as_u64(), answer["column"].as_u64()));
        Ok(json!({ "breakpoints": answers }))
    }

    pub(super) fn step_in_targets(&mut self, request: &Request) -> Result<Value> {
        let (debuggee, handles) = self.parts()?;
        let (thread, frame) = handles.frame(request.int("frameId").unwrap_or(0))?;
        let entries = debuggee.stack(thread)?;
        let Some(entry) = entries.iter().find(|entry| entry["frame"].as_u64() == Some(frame)) else {
            return message("that frame is not there any more");
        };
        let (depth, path) = (entry["depth"].as_u64().unwrap_or(0) as u32, entry["path"].as_str().unwrap_or_default());
        let calls = debuggee.timeline.ask(json!({ "ask": "calls", "thread": thread, "frame": frame }), false)?;
        let mut targets = Vec::new();
        for call in calls.as_array().into_iter().flatten() {
            let number = |value: &Value| value.as_i64().unwrap_or(0);
            let place = [0, 1, 2, 3].map(|part| number(&call["place"][part]) as usize);
            let label = debuggee.sources.text(path, place).map(|text| shortened(&text));
            let offset = |name: &str| number(&call[name]) as i32;
            let target = Target { from: offset("from"), begin: offset("begin"), end: offset("end") };
            let id = handles.add_target((thread, depth, target));
            targets.push(json!({
                "id": id, "label": label.unwrap_or_else(|| format!("call {}", targets.len() + 1)),
                "line": place[0], "endLine": place[1],
                "column": debuggee.sources.column(path, &place[0].into(), &place[2].into()),
                "endColumn": debuggee.sources.column(path, &place[1].into(), &place[3].into()),
            }));
        }
        Ok(json!({ "targets": targets }))
    }

    pub(super) fn disassemble(&mut self, request: &Request) -> Result<Value> {
        let debuggee = self.debuggee()?;
        let reference = request.text("memoryReference");
        let digits = reference.strip_prefix("0x").unwrap_or_default();
        let Ok(address) = i64::from_str_radix(digits, 16) else {
            return message(format!("disassemble: {reference:?} is no memory reference"));
        };
        let question = json!({
            "ask": "disassemble", "address": address, "offset": request.int("offset").unwrap_or(0),
            "distance": request.int("instructionOffset").unwrap_or(0),
            "count": request.int("instructionCount").unwrap_or(0).clamp(0, MOST),
        });
        let found = debuggee.timeline.ask(question, false)?;
        let instructions = found.as_array().into_iter().flatten().map(|entry| {
            let address = format!("{:#x}", entry["address"].as_i64().unwrap_or(0));
            let Some(text) = entry["text"].as_str() else {
                return json!({ "address": address, "instruction": "", "presentationHint": "invalid" });
            };
            let mut answer = json!({ "address": address, "instruction": text, "symbol": entry["function"] });
            let place = &entry["place"];
            if let Some(path) = place[0].as_str() {
                answer["location"] = debuggee.sources.describe(path);
                (answer["line"], answer["endLine"]) = (place[1].clone(), place[2].clone());
                for (name, line, column) in [("column", 1, 3), ("endColumn", 2, 4)] {
                    answer[name] = debuggee.sources.column(path, &place[line], &place[column]).into();
                }
            }
            answer
        });
        Ok(json!({ "instructions": instructions.collect::<Vec<_>>() }))
    }
}

fn shortened(text: &str) -> String {
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(LABEL) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
