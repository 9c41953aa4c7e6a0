//! Messages of the Debug Adapter Protocol: a header with the length, and JSON.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// A longer message is not a client's.
const LONGEST: usize = 64 << 20;
/// So much is written at a time.
const PART: usize = 64 << 10;
/// The header that there must be, in lower case.
const CONTENT_LENGTH: &str = "content-length:";

/// What a client sent.
pub enum Incoming {
    Request(Request),
    /// What is wrong with a message that is none; the next one may be right.
    Malformed(String),
    /// It has gone.
    Gone,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Request {
    pub seq: i64,
    pub command: String,
    pub arguments: Value,
    /// It has asked for what is going on to be given up.
    pub has_asked: bool,
}

impl Request {
    /// An argument, or null.
    pub fn get(&self, name: &str) -> &Value {
        &self.arguments[name]
    }

    /// The client has no more to ask.
    pub fn is_last(&self) -> bool {
        matches!(&*self.command, "disconnect" | "terminate")
    }

    /// A string argument; empty where it is missing.
    pub fn text(&self, name: &str) -> &str {
        self.arguments[name].as_str().unwrap_or_default()
    }

    /// An integer argument.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.arguments[name].as_i64()
    }
}

/// Reads requests on a thread of its own, and writes on another. `watch` sees each request before it waits for its turn.
pub fn connect(
    from: impl Read + Send + 'static,
    to: impl Write + Send + 'static,
    watch: impl Fn(&mut Incoming) + Send + Sync + 'static,
) -> (Receiver<Incoming>, Writer) {
    let (sender, receiver) = channel();
    let watch = Arc::new(watch);
    let writer = Writer(Arc::default());
    let (written, gone, seen) = (writer.clone(), sender.clone(), Arc::clone(&watch));
    thread::spawn(move || {
        written.write_all_to(to);
        // Whoever does not read any more has gone, whether it says so or not.
        pass(Incoming::Gone, &*seen, &gone);
    });
    let read_for = writer.clone();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let incoming = read_one(&mut from).unwrap_or(Incoming::Gone);
            let is_end = matches!(incoming, Incoming::Gone);
            let leaves = is_end || matches!(&incoming, Incoming::Request(request) if request.is_last());
            let is_taken = pass(incoming, &*watch, &sender);
            if leaves {
                read_for.hurry();
            }
            if !is_taken || is_end {
                return;
            }
        }
    });
    (receiver, writer)
}

fn pass(mut incoming: Incoming, watch: &dyn Fn(&mut Incoming), sender: &Sender<Incoming>) -> bool {
    watch(&mut incoming);
    sender.send(incoming).is_ok()
}

fn read_one(from: &mut impl BufRead) -> io::Result<Incoming> {
    let mut length = None;
    let mut line = Vec::new();
    loop {
        if from.by_ref().take(4096).read_until(b'\n', &mut line)? == 0 {
            return Ok(Incoming::Gone);
        }
        if line.last() != Some(&b'\n') {
            line.drain(..line.len().saturating_sub(CONTENT_LENGTH.len()));
            continue;
        }
        let text = String::from_utf8_lossy(&line).trim_end().to_ascii_lowercase();
        line.clear();
        if text.is_empty() {
            break;
        }
        // Behind a message whose length was wrong, the next one's header comes where that message ends.
        if let Some(place) = text.rfind(CONTENT_LENGTH) {
            length = text[place + CONTENT_LENGTH.len()..].trim().parse::<usize>().ok();
        }
    }
    let Some(length) = length else {
        return Ok(Incoming::Malformed("a message has no Content-Length".to_owned()));
    };
    if length > LONGEST {
        io::copy(&mut from.by_ref().take(length as u64), &mut io::sink())?;
        return Ok(Incoming::Malformed(format!("a message of {length} bytes is too long")));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(parse(&body).unwrap_or_else(Incoming::Malformed))
}

fn parse(body: &[u8]) -> Result<Incoming, String> {
    let message: Value = serde_json::from_slice(body)
        .or_else(|error| serde_json::from_slice(&without_halves(body)).map_err(|_| error))
        .map_err(|error| format!("a message is not JSON: {error}"))?;
    let seq = message["seq"].as_i64().unwrap_or(0);
    match (message["type"].as_str(), message["command"].as_str()) {
        (Some("request"), Some(command)) => {
            let (command, arguments) = (command.to_owned(), message["arguments"].clone());
            Ok(Incoming::Request(Request { seq, command, arguments, has_asked: false }))
        }
        _ => Err("a message is no request with a command".to_owned()),
    }
}

/// JSON with U+FFFD in the place of each half of a pair of surrogates: a text that a client has cut may end with one.
fn without_halves(body: &[u8]) -> Vec<u8> {
    let mut whole = body.to_vec();
    let half = |at: usize| {
        let is_escape = body.get(at..at + 2) == Some(br"\u");
        let digits = body.get(at + 2..at + 6).filter(|_| is_escape)?;
        let code = u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        (0xd800..0xe000).contains(&code).then_some(code < 0xdc00)
    };
    let mut at = 0;
    while at < body.len() {
        match half(at) {
            Some(true) if half(at + 6) == Some(false) => at += 12,
            Some(_) => {
                whole[at + 2..at + 6].copy_from_slice(b"fffd");
                at += 6;
            }
            // What a backslash stands before is no escape.
            None => at += if body[at] == b'\\' { 2 } else { 1 },
        }
    }
    whole
}

/// So much waits for a client that does not read; then the session waits too.
const MOST_WAITING: usize = 4 << 20;
/// How long a client that leaves may read nothing while there is something for it.
const LAST_READING: Duration = Duration::from_secs(2);

/// Writes messages, on a thread of its own: whoever has them written need not wait for a client that has left without
/// reading. Copies write to the same client.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    /// Bytes that wait, the message that is being written too.
    waiting: usize,
    /// Parts of messages that have been written.
    written: u64,
    seq: i64,
    /// The client is leaving: it is not waited for any longer than it reads.
    hurries: bool,
    /// Nothing can be written any more, or nobody will.
    is_closed: bool,
}

/// What a client asks to fill its views, by itself, and shows there. The debugger may have moved on meanwhile, which is nothing
/// to tell the user in a message of its own.
const FILLING_VIEWS: [&str; 14] = [
    "threads",
    "stackTrace",
    "scopes",
    "variables",
    "evaluate",
    "completions",
    "exceptionInfo",
    "source",
    "loadedSources",
    "modules",
    "stepInTargets",
    "breakpointLocations",
    "disassemble",
    "timeline",
];

impl Writer {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what there is to write, until nothing can be written or there will be nothing.
    fn write_all_to(&self, mut to: impl Write) {
        let mut queue = self.queue();
        loop {
            let Some(message) = queue.messages.pop_front() else {
                if queue.is_closed {
                    return;
                }
                queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(queue);
            let is_written = message.chunks(PART).try_for_each(|part| {
                to.write_all(part)?;
                self.queue().written += 1;
                self.0.changed.notify_all();
                Ok::<(), io::Error>(())
            });
            let is_written = is_written.and_then(|()| to.flush()).is_ok();
            queue = self.queue();
            queue.waiting -= message.len();
            if !is_written {
                queue.is_closed = true;
                queue.messages.clear();
                queue.waiting = 0;
            }
            self.0.changed.notify_all();
        }
    }

    /// The client leaves.
    fn hurry(&self) {
        self.queue().hurries = true;
        self.0.changed.notify_all();
    }

    /// Waits until no more than so much waits to be written.
    fn wait_until<'a>(&'a self, mut queue: MutexGuard<'a, Queue>, most: usize) -> MutexGuard<'a, Queue> {
        while queue.waiting > most && !queue.is_closed {
            if !queue.hurries {
                queue = self.0.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let written = queue.written;
            let is_same = |queue: &mut Queue| queue.written == written && queue.waiting > most && !queue.is_closed;
            let waited = self.0.changed.wait_timeout_while(queue, LAST_READING, is_same);
            let (after, timed_out) = waited.unwrap_or_else(PoisonError::into_inner);
            queue = after;
            if timed_out.timed_out() {
                queue.is_closed = true;
                queue.messages.clear();
            }
        }
        queue
    }

    /// No more will be written. Waits until all of it has been, or the client does not read any more.
    pub fn close(&self) {
        self.hurry();
        let mut queue = self.wait_until(self.queue(), 0);
        queue.is_closed = true;
        drop(queue);
        self.0.changed.notify_all();
    }

    fn send(&mut self, mut message: Value) {
        let mut queue = self.queue();
        queue.seq += 1;
        message["seq"] = queue.seq.into();
        if queue.is_closed {
            return;
        }
        let body = message.to_string();
        let message = format!("Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        queue.waiting += message.len();
        queue.messages.push_back(message);
        self.0.changed.notify_all();
        // What has been begun is written whole.
        drop(self.wait_until(queue, MOST_WAITING));
    }

    pub fn event(&mut self, name: &str, body: Value) {
        self.send(json!({ "type": "event", "event": name, "body": body }));
    }

    pub fn respond(&mut self, request: &Request, body: Value) {
        self.send(json!({
            "type": "response", "request_seq": request.seq, "success": true, "command": request.command, "body": body,
        }));
    }

    pub fn fail(&mut self, request: &Request, message: &str) {
        self.send(json!({
            "type": "response", "request_seq": request.seq, "success": false, "command": request.command,
            "message": message,
            "body": { "error": {
                "id": 1, "format": "{message}", "variables": { "message": message },
                "showUser": !FILLING_VIEWS.contains(&request.command.as_str()),
            } },
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_wrong_length_the_next_message_is_found() {
        for length in ["3", "70", "-1"] {
            let message = "{\"type\":\"request\",\"command\":\"threads\"}";
            let good = format!("Content-Length: {}\r\n\r\n{message}", message.len());
            let text = format!("Content-Length: {length}\r\n\r\n{message}{}{good}{good}{good}", "x".repeat(9000));
            let mut from = io::Cursor::new(text.into_bytes());
            let mut found = 0;
            loop {
                match read_one(&mut from).unwrap() {
                    Incoming::Request(_) => found += 1,
                    Incoming::Malformed(_) => {}
                    Incoming::Gone => break,
                }
            }
            assert_eq!(found, 3, "{length}");
        }
    }

    #[test]
    fn what_is_no_message_is_said_and_passed_over() {
        let text = b"X: 1\r\n\r\nContent-Length: 3\r\n\r\n{{{Content-Length: 36\r\n\r\n{\"type\":\"request\",\"command\":\"threads\"}";
        let text = String::from_utf8_lossy(text).replace("36", "38");
        let mut from = io::Cursor::new(text.into_bytes());
        assert!(matches!(read_one(&mut from).unwrap(), Incoming::Malformed(_)));
        assert!(matches!(read_one(&mut from).unwrap(), Incoming::Malformed(_)));
        let Incoming::Request(request) = read_one(&mut from).unwrap() else { panic!() };
        assert_eq!(request.command, "threads");
        assert!(matches!(read_one(&mut from).unwrap(), Incoming::Gone));
    }
}
