//! What is known of the recording as a whole: its processes, events and exceptions.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use retrace_replay::Trace;
use retrace_replay::debug_protocol::Cause;
use retrace_replay::event::Event;
use retrace_replay::thinned::Thinned;
use serde_json::{Value, json};

use super::{Session, position_json};
use crate::debug::engine::Result;
use crate::debug::protocol::Request;

/// For how long exceptions are looked for at a time: who asks again gets those that are found later.
const LOOKING: Duration = Duration::from_secs(1);

impl Session {
    pub(super) fn processes(&mut self) -> Result<Value> {
        let trace = &self.debuggee()?.trace;
        let processes = trace.processes().into_iter().map(|summary| {
            let start = summary.start.as_ref();
            let argv = start.and_then(|start| start.arguments("argv")).unwrap_or_default();
            let argv: Vec<String> = argv.iter().map(|item| String::from_utf8_lossy(item).into_owned()).collect();
            json!({
                "number": summary.index,
                "pid": start.and_then(|start| start.int("pid")),
                "parent": start.and_then(|start| start.parent()),
                "argv": argv,
                "forked": start.is_some_and(|start| start.forked().is_some()),
                "end": end_of(trace, summary.index),
            })
        });
        Ok(json!({ "processes": processes.collect::<Vec<_>>() }))
    }

    pub(super) fn timeline(&mut self, request: &Request) -> Result<Value> {
        let start = request.int("start").unwrap_or(0).max(0) as u64;
        let count = request.int("count").filter(|count| *count >= 0).map(|count| count as u64);
        let detail = request.int("detail").filter(|detail| *detail > 0).unwrap_or(2000) as usize;
        let debuggee = self.debuggee()?;
        let (end, events) = list_events(&debuggee.trace, debuggee.process, start, count, detail);
        let threads = self.threads()?["threads"].clone();
        let stops = self.stops();
        let waiting = Arc::clone(&self.shared.waiting);
        let debuggee = self.debuggee()?;
        debuggee.timeline.crash()?;
        // Whoever waits for an answer comes first; then this is asked again.
        let is_busy = || waiting.load(Ordering::Relaxed) > 0;
        let hits = debuggee.timeline.list_hits(&stops, &is_busy)?;
        let began = Instant::now();
        debuggee.timeline.look_for_raised(&|| is_busy() || began.elapsed() > LOOKING)?;
        let exceptions: Vec<Value> = debuggee
            .timeline
            .raised()
            .map(|(window, at, uncaught)| {
                let class = match &at.cause {
                    Cause::Exception { class, .. } => class.as_str(),
                    _ => "",
                };
                json!({
                    "event": at.event, "thread": at.thread + 1, "type": class, "message": "",
                    "uncaught": uncaught, "position": position_json(window, at),
                })
            })
            .collect();
        let hits = hits.iter().map(|(window, at)| {
            let id = if let Cause::Breakpoint(id) = at.cause { id } else { 0 };
            json!({ "position": position_json(*window, at), "thread": at.thread + 1, "id": id })
        });
        let hits: Vec<Value> = hits.collect();
        let current = debuggee.timeline.present().ok().map(|present| {
            json!({ "position": position_json(present.window, &present.at), "thread": present.at.thread + 1 })
        });
        Ok(json!({
            "end": end, "threads": threads, "events": events, "exceptions": exceptions, "hits": hits, "current": current,
        }))
    }
}

fn end_of(trace: &Trace, process: u32) -> String {
    let mut end = "ended abruptly".to_owned();
    let Ok(mut stream) = trace.events(process) else { return end };
    while let Ok(Some((_, event))) = stream.next_event() {
        match event {
            Event::End { status: -1, .. } => end = "ended".to_owned(),
            Event::End { status, .. } => end = format!("exited with status {status}"),
            Event::Stopped(reason) => end = format!("recording stopped: {}", reason.to_string_lossy()),
            _ => {}
        }
    }
    end
}

/// The number of events, and calls among them, thinned evenly.
fn list_events(trace: &Trace, process: u32, start: u64, count: Option<u64>, detail: usize) -> (u64, Vec<Value>) {
    let Ok(mut stream) = trace.events(process) else { return (0, Vec::new()) };
    let (mut end, mut thread, mut names) = (0, 0, BTreeMap::new());
    // A recording may have millions.
    let mut listed = Thinned::new(detail.saturating_mul(8));
    while let Ok(Some((index, event))) = stream.next_event() {
        end = index.0 + 1;
        let what = match event {
            Event::Hooks { first, hooks } => {
                names.extend((first..).zip(hooks.into_iter().map(|hook| hook.name)));
                continue;
            }
            Event::Switch { thread: next, .. } => {
                thread = next;
                continue;
            }
            Event::Call(call) => Listed::Call(call.hook),
            Event::Signal { number, .. } => Listed::Signal(number),
            Event::Fork { .. } => Listed::Fork,
            _ => continue,
        };
        if index.0 >= start && count.is_none_or(|count| index.0 - start < count) {
            listed.push(|| (index.0, thread, what));
        }
    }
    let events = evenly(listed.take(), detail).into_iter().map(|(index, thread, what)| {
        let (function, kind) = match what {
            Listed::Call(hook) => {
                let name = names.get(&u64::from(hook)).map(|name| name.to_string_lossy());
                (name.unwrap_or_default(), "call")
            }
            Listed::Signal(number) => (format!("signal {number}"), "signal"),
            Listed::Fork => ("fork".to_owned(), "fork"),
        };
        json!({ "index": index, "thread": thread + 1, "function": function, "kind": kind })
    });
    (end, events.collect())
}

enum Listed {
    Call(u16),
    Signal(u64),
    Fork,
}

/// At most so many of some items, evenly spread.
fn evenly<T>(mut items: Vec<T>, most: usize) -> Vec<T> {
    let all = items.len();
    if all > most {
        let mut place = 0;
        items.retain(|_| {
            place += 1;
            (place - 1) * most / all != place * most / all
        });
    }
    items
}

#[cfg(test)]
mod tests {
    use super::{Thinned, evenly};

    #[test]
    fn what_is_thinned_is_spread_evenly() {
        for count in [0, 1, 99, 100, 101, 799, 800, 801, 5_000, 123_457] {
            let mut thinned = Thinned::new(800);
            (0..count).for_each(|item| thinned.push(|| item));
            let kept = evenly(thinned.take(), 100);
            assert_eq!(kept.len(), count.min(100));
            let widest = kept.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(1);
            assert!(widest <= (count / 100 * 3 / 2).max(2), "{count}: {widest}");
            assert!(kept.last().is_none_or(|last| count - last <= (count / 100 * 3 / 2).max(1)), "{count}");
        }
    }
}
