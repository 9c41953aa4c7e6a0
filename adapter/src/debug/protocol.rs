//! Messages of the Debug Adapter Protocol: a header with the length, and JSON.

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

/// A longer message is not a client's.
const LONGEST: usize = 64 << 20;
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

    /// A string argument; empty where it is missing.
    pub fn text(&self, name: &str) -> &str {
        self.arguments[name].as_str().unwrap_or_default()
    }

    /// An integer argument.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.arguments[name].as_i64()
    }
}

/// Reads requests on a thread of its own. `watch` sees each before it waits for its turn.
pub fn read(from: impl Read + Send + 'static, watch: impl Fn(&mut Incoming) + Send + 'static) -> Receiver<Incoming> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut incoming = read_one(&mut from).unwrap_or(Incoming::Gone);
            watch(&mut incoming);
            let is_end = matches!(incoming, Incoming::Gone);
            if sender.send(incoming).is_err() || is_end {
                return;
            }
        }
    });
    receiver
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
    let message: Value = serde_json::from_slice(body).map_err(|error| format!("a message is not JSON: {error}"))?;
    let seq = message["seq"].as_i64().unwrap_or(0);
    match (message["type"].as_str(), message["command"].as_str()) {
        (Some("request"), Some(command)) => {
            let (command, arguments) = (command.to_owned(), message["arguments"].clone());
            Ok(Incoming::Request(Request { seq, command, arguments, has_asked: false }))
        }
        _ => Err("a message is no request with a command".to_owned()),
    }
}

/// Writes messages. A client that has gone is noticed by the reader. Copies write to the same client.
pub struct Writer<W>(Rc<RefCell<(W, i64)>>);

impl<W> Clone for Writer<W> {
    fn clone(&self) -> Writer<W> {
        Writer(Rc::clone(&self.0))
    }
}

impl<W: Write> Writer<W> {
    pub fn new(to: W) -> Writer<W> {
        Writer(Rc::new(RefCell::new((to, 0))))
    }

    fn send(&mut self, mut message: Value) {
        let (to, seq) = &mut *self.0.borrow_mut();
        *seq += 1;
        message["seq"] = (*seq).into();
        let body = message.to_string();
        let _ = write!(to, "Content-Length: {}\r\n\r\n{body}", body.len()).and_then(|()| to.flush());
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
            "body": { "error": { "id": 1, "format": "{message}", "variables": { "message": message }, "showUser": true } },
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
