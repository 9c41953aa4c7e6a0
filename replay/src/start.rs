//! The dict of a process's `start` event, by field.
#![forbid(unsafe_code)]

use crate::text::Text;
use crate::value::Value;

/// CPython's name for the file of a program that it reads from stdin.
pub const STDIN: &str = "<stdin>";
/// And of one that `-c` gives; what is made of strings has it as well.
pub const COMMAND: &str = "<string>";

/// What is known of a process since its start. A field that is missing, or is not what it should be, reads as `None`:
/// a trace may be damaged, and an older recorder may not have written it.
#[derive(Debug, Clone, PartialEq)]
pub struct Start {
    dict: Value,
}

impl Start {
    /// Wraps the `start` event's value.
    pub fn new(dict: Value) -> Start {
        Start { dict }
    }

    /// The whole dict.
    pub fn value(&self) -> &Value {
        &self.dict
    }

    /// Any field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.dict.get(key)
    }

    /// A string field's characters.
    pub fn text(&self, key: &str) -> Option<&Text> {
        self.get(key)?.as_text()
    }

    /// A string field, for messages and listings.
    pub fn string(&self, key: &str) -> Option<String> {
        self.text(key).map(Text::to_string_lossy)
    }

    /// An int field.
    pub fn int(&self, key: &str) -> Option<i64> {
        self.get(key)?.as_int()
    }

    /// A field that is a list or tuple of strings, as the bytes the operating system takes.
    pub fn arguments(&self, key: &str) -> Option<Vec<Vec<u8>>> {
        self.get(key)?.as_items()?.iter().map(|item| item.as_text().map(Text::to_fs_bytes)).collect()
    }

    /// The index of the process this one was forked or started from.
    pub fn parent(&self) -> Option<u32> {
        u32::try_from(self.int("parent")?).ok()
    }

    /// For a forked process: its parent's index, and which of that one's forks made it.
    pub fn forked(&self) -> Option<(u32, u64)> {
        Some((self.parent()?, u64::try_from(self.int("forked_at")?).ok()?))
    }

    /// The environment the process was started with.
    pub fn environ(&self) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let Value::Dict(pairs) = self.get("environ")? else {
            return None;
        };
        pairs.iter().map(|(key, value)| Some((bytes(key)?, bytes(value)?))).collect()
    }
}

fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Bytes(bytes) => Some(bytes.clone()),
        _ => value.as_text().map(Text::to_fs_bytes),
    }
}
