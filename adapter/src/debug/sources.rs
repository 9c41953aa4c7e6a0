//! Source files: the recording's own, which are shown where the file is gone or is another one now.

use std::collections::HashMap;
use std::fs;

use retrace_replay::start::{COMMAND, STDIN};
use retrace_replay::{Trace, Value};
use serde_json::json;

/// A folder here and the one that it was recorded as, without a slash at their ends.
pub struct Mapping {
    pub local: String,
    pub remote: String,
}

/// What comes behind a folder in the path of something in it.
fn below<'a>(path: &'a str, folder: &str) -> Option<&'a str> {
    path.strip_prefix(folder).filter(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub struct Sources {
    contents: HashMap<String, Vec<u8>>,
    order: Vec<String>,
    mappings: Vec<Mapping>,
    /// The path of the main program: of the module `__main__`.
    pub main: Option<String>,
}

impl Sources {
    /// All sources of a process and of those it was forked from.
    pub fn of(trace: &Trace, process: u32, mappings: Vec<Mapping>) -> Sources {
        let mut sources = Sources { contents: HashMap::new(), order: Vec::new(), mappings, main: None };
        let descent = trace.descent(process).ok();
        let ancestors = descent.iter().flat_map(|descent| {
            [descent.ancestor].into_iter().chain(descent.forks.iter().map(|(_, process)| *process)).collect::<Vec<_>>()
        });
        for process in ancestors.chain([process]) {
            for source in trace.sources(process).into_iter().flatten().flatten() {
                let path = source.path.to_string_lossy();
                if let Ok(contents) = source.contents()
                    && sources.contents.insert(path.clone(), contents).is_none()
                {
                    sources.order.push(path);
                }
            }
        }
        sources.add_main(trace, process);
        sources
    }

    /// The main program's source lies in the start event, wherever it came from.
    fn add_main(&mut self, trace: &Trace, process: u32) {
        let Ok(descent) = trace.descent(process) else { return };
        let Some(start) = trace.start(descent.ancestor) else { return };
        let (run, main) = (start.string("run").unwrap_or_default(), start.string("main").unwrap_or_default());
        let source = match start.get("main_source") {
            Some(Value::Bytes(source)) => Some(&source[..]),
            _ => None,
        };
        let (path, source) = match &*run {
            "file" => (main, source),
            "stdin" => (STDIN.to_owned(), source),
            "command" => (COMMAND.to_owned(), Some(main.as_bytes())),
            "path" => (format!("{main}/__main__.py"), None),
            "module" => {
                let name = main.replace('.', "/");
                let ends = [format!("/{name}/__main__.py"), format!("/{name}.py")];
                let has = |folder: &str| {
                    let mut paths = ends.iter().map(|end| format!("{folder}{end}"));
                    paths.find(|path| self.contents.contains_key(path))
                };
                // Where Python looks for it: the working directory comes first.
                let path = start.get("path").and_then(Value::as_items).unwrap_or_default();
                let folders = path.iter().filter_map(|folder| Some(folder.as_text()?.to_string_lossy()));
                let found = start.string("cwd").into_iter().chain(folders).find_map(|folder| has(&folder));
                let is_main = |path: &&String| ends.iter().any(|end| path.ends_with(end));
                let Some(path) = found.or_else(|| self.order.iter().find(is_main).cloned()) else { return };
                (path, None)
            }
            _ => return,
        };
        if let Some(source) = source {
            self.add(&path, source);
        }
        self.main = Some(path);
    }

    fn add(&mut self, path: &str, contents: &[u8]) {
        if self.contents.insert(path.to_owned(), contents.to_vec()).is_none() {
            self.order.push(path.to_owned());
        }
    }

    /// The path here of a recorded one.
    fn local(&self, recorded: &str) -> String {
        for Mapping { local, remote } in &self.mappings {
            if let Some(rest) = below(recorded, remote) {
                return format!("{local}{rest}");
            }
        }
        recorded.to_owned()
    }

    /// The recorded path of one here.
    pub fn recorded(&self, local: &str) -> String {
        for Mapping { local: prefix, remote } in &self.mappings {
            if let Some(rest) = below(local, prefix) {
                return format!("{remote}{rest}");
            }
        }
        if self.contents.contains_key(local) {
            return local.to_owned();
        }
        // The same file by another name: a link in the way, or a script that was started by a relative path.
        let real = fs::canonicalize(local).ok();
        let same = |recorded: &&String| {
            real.is_some() && fs::canonicalize(recorded).ok() == real || local.ends_with(&format!("/{recorded}"))
        };
        self.order.iter().find(same).cloned().unwrap_or_else(|| local.to_owned())
    }

    pub fn contents(&self, recorded: &str) -> Option<String> {
        let bytes = self.contents.get(recorded)?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// DAP's column of one in bytes, both numbers as `inspect.py` has them.
    pub fn column(&self, recorded: &str, line: &serde_json::Value, bytes: &serde_json::Value) -> Option<usize> {
        let source = String::from_utf8_lossy(self.contents.get(recorded)?);
        let line = source.split('\n').nth((line.as_u64()? as usize).checked_sub(1)?)?;
        Some(line.get(..bytes.as_u64()? as usize)?.encode_utf16().count() + 1)
    }

    /// A part of a source.
    pub fn text(&self, recorded: &str, [line, end_line, column, end_column]: [usize; 4]) -> Option<String> {
        let source = String::from_utf8_lossy(self.contents.get(recorded)?);
        let mut lines: Vec<&str> = source.split('\n').take(end_line).skip(line.checked_sub(1)?).collect();
        let last = lines.pop()?;
        lines.push(last.get(..end_column)?);
        Some(lines.join("\n").get(column..)?.to_owned())
    }

    /// DAP's description. `sourceReference` is set where the client has to ask for the text.
    pub fn describe(&self, recorded: &str) -> serde_json::Value {
        let name = recorded.rsplit('/').next().unwrap_or(recorded);
        let local = self.local(recorded);
        let Some(place) = self.order.iter().position(|path| path == recorded) else {
            return json!({ "name": name, "path": local });
        };
        let is_same = fs::read(&local).is_ok_and(|bytes| Some(&bytes) == self.contents.get(recorded));
        match is_same {
            true => json!({ "name": name, "path": local }),
            false => json!({
                "name": name, "path": local, "sourceReference": place + 1, "origin": "from the recording",
            }),
        }
    }

    /// The recorded path of DAP's description.
    pub fn path_of(&self, source: &serde_json::Value) -> Option<String> {
        let reference = source["sourceReference"].as_u64().unwrap_or(0) as usize;
        if reference > 0 {
            return self.order.get(reference - 1).cloned();
        }
        source["path"].as_str().map(|path| self.recorded(path))
    }

    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.order.iter()
    }
}
