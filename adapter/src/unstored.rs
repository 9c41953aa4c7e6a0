//! What a recording could not store: values whose type cannot be written down, and callables without a name. A replay that
//! needs one stops there.

use std::collections::BTreeMap;

use retrace_replay::event::{Call, Event, Outcome};
use retrace_replay::value::Value;
use serde_json::{Value as Json, json};

/// The unstored values of a process, counted.
#[derive(Default)]
pub struct Unstored {
    names: Vec<String>,
    /// By the function that returned or raised them, and their type.
    values: BTreeMap<(String, String), u64>,
    /// By the callable's type.
    callbacks: BTreeMap<String, u64>,
    /// What a callback was given, by its type.
    given: BTreeMap<String, u64>,
}

impl Unstored {
    pub fn see(&mut self, event: &Event) {
        match event {
            Event::Hooks { hooks, .. } => self.names.extend(hooks.iter().map(|hook| hook.name.to_string_lossy())),
            Event::Call(call) => self.see_call(call),
            Event::Callback { callable, arguments, keywords, .. } => {
                if let Value::Opaque(class) = callable {
                    *self.callbacks.entry(class.to_string_lossy()).or_default() += 1;
                }
                for class in types_in(arguments).into_iter().chain(types_in(keywords)) {
                    *self.given.entry(class).or_default() += 1;
                }
            }
            _ => {}
        }
    }

    fn see_call(&mut self, call: &Call) {
        let mut found = Vec::new();
        match &call.outcome {
            Outcome::Value(value) | Outcome::Raised(value) => found.extend(types_in(value)),
            Outcome::General(general) => {
                let values = [&general.result, &general.raised, &general.dict, &general.extra];
                let members = general.members.iter().flatten();
                found.extend(values.into_iter().flatten().chain(members).flat_map(types_in));
            }
            Outcome::None | Outcome::Float(_) | Outcome::Filled(_) | Outcome::End => {}
        }
        for class in found {
            let name = self.names.get(usize::from(call.hook)).cloned().unwrap_or_default();
            *self.values.entry((name, class)).or_default() += 1;
        }
    }

    /// One line each.
    pub fn lines(&self) -> Vec<String> {
        let values = self.values.iter().map(|((function, class), count)| {
            format!("{count} of {function}'s results held a {class}, which can't be stored")
        });
        let callbacks =
            self.callbacks.iter().map(|(class, count)| format!("{count} callbacks were of a {class} that has no name"));
        let given = self.given.iter().map(|(class, count)| {
            format!("{count} values that callbacks were given held a {class}, which can't be stored")
        });
        values.chain(callbacks).chain(given).collect()
    }

    pub fn json(&self) -> Json {
        let values = self
            .values
            .iter()
            .map(|((function, class), count)| json!({"function": function, "type": class, "count": count}));
        let by_type = |found: &BTreeMap<String, u64>| {
            found.iter().map(|(class, count)| json!({"type": class, "count": count})).collect::<Json>()
        };
        json!({
            "values": values.collect::<Json>(),
            "callbacks": by_type(&self.callbacks),
            "given": by_type(&self.given),
        })
    }
}

/// The types of what is opaque in a value.
fn types_in(value: &Value) -> Vec<String> {
    let of = |values: &[Value]| values.iter().flat_map(types_in).collect();
    match value {
        Value::Opaque(class) => vec![class.to_string_lossy()],
        Value::Tuple(items)
        | Value::List(items)
        | Value::Set(items)
        | Value::FrozenSet(items)
        | Value::StructSeq { items, .. }
        | Value::References { items, .. } => of(items),
        Value::Dict(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).flat_map(types_in).collect(),
        Value::Exception(parts) => of(&parts[..]),
        Value::NewHandle(handle) => handle.members.iter().chain([&handle.dict]).flat_map(types_in).collect(),
        Value::Keyword { value, .. } => types_in(value),
        Value::Keep(value) => types_in(value),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use retrace_replay::event::{Hook, HookKind, NO_FRAME};
    use retrace_replay::value::Str;

    fn text(text: &str) -> Str {
        Str::from(text)
    }

    #[test]
    fn what_could_not_be_stored_is_counted() {
        let lock = || Value::Opaque(text("_thread.lock"));
        let mut unstored = Unstored::default();
        unstored.see(&Event::Hooks { first: 0, hooks: vec![Hook { name: text("m.f"), kind: HookKind::Function }] });
        let outcome = Outcome::Value(Value::List(vec![lock(), Value::Int(1), Value::Tuple(vec![lock()])]));
        unstored.see(&Event::Call(Call { hook: 0, at: NO_FRAME, arguments: None, outcome }));
        let (arguments, keywords) = (Value::Tuple(vec![Value::None]), Value::Null);
        unstored.see(&Event::Callback { serial: 0, callable: Value::Opaque(text("x.call")), arguments, keywords });
        let lines = unstored.lines();
        assert_eq!(lines[0], "2 of m.f's results held a _thread.lock, which can't be stored");
        assert_eq!(lines[1], "1 callbacks were of a x.call that has no name");
        assert_eq!(lines.len(), 2);
        assert_eq!(unstored.json()["values"][0]["count"], 2);
    }
}
