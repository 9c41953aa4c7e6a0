//! What is known of the code that lines belong to, and of each tick of a window.

use super::generators::Generators;
use crate::gil::GilCell;
use crate::python::{Owned, attribute, text};
use pyo3_ffi::*;
use retrace_abi::line_events::{depth_of, retrace_frame_codes};
use retrace_abi::retrace_code_names;
use retrace_replay::debug_protocol::{Find, Found, FunctionBreakpoint, Stops};
use retrace_replay::start::{COMMAND, STDIN};
use std::collections::HashMap;
use std::ffi::c_int;
use std::ptr;

/// What is known of a code object. The object is not held: its constants would live on, and a collection would find less
/// unreachable than the recording's. Another one may get its address; it is the same to us if its names are.
pub struct Code {
    names: Names,
    pub path: String,
    pub name: String,
    pub qualified_name: String,
    /// Not of a library.
    pub is_mine: bool,
    /// Lines with breakpoints and the breakpoints' places in the list.
    pub breakpoints: Vec<(u32, usize)>,
    /// Instructions with breakpoints, the same; None where they have not been looked for.
    inside: Option<Vec<(c_int, usize)>>,
    /// The places in the list of the breakpoints on its beginning.
    pub functions: Vec<usize>,
}

/// Whether code is of what a client sees as that file: what libraries make of strings has the name of `python -c`'s program.
fn is_of_file(path: &str, is_mine: bool, file: &str) -> bool {
    path == file && (is_mine || path != COMMAND)
}

/// A code object's strings, as `retrace_code_names` gives them; held, so that no others get their addresses.
struct Names([Owned; 3]);

impl Names {
    fn are(&self, names: &[*mut PyObject; 3]) -> bool {
        self.0.iter().zip(names).all(|(held, name)| held.0 == *name)
    }
}

/// A code object's path, name and qualified name; borrowed.
///
/// # Safety
/// `code` is a live code object.
pub unsafe fn names_of(code: *mut PyObject) -> [*mut PyObject; 3] {
    let mut names = [ptr::null_mut(); 3];
    // SAFETY: a live code object, and room for its three strings.
    unsafe { retrace_code_names(code, &mut names) };
    names
}

/// Folders of the standard library and of installed packages.
static LIBRARY: GilCell<Vec<String>> = GilCell::new(Vec::new());

/// The program is `python -c`'s argument.
static mut IS_COMMAND: bool = false;

/// Where the library's own code is.
///
/// # Safety
/// The GIL is held.
pub unsafe fn learn_library() {
    // SAFETY: by contract; PySys_GetObject is borrowed.
    unsafe {
        let folder = PySys_GetObject(c"_stdlib_dir".as_ptr());
        let folder = if folder.is_null() { String::new() } else { text(folder) };
        if !folder.is_empty() {
            LIBRARY.get().push(folder + "/");
        }
        let arguments = PySys_GetObject(c"argv".as_ptr());
        IS_COMMAND = !arguments.is_null()
            && PyList_Check(arguments) != 0
            && PyList_GET_SIZE(arguments) > 0
            && text(PyList_GET_ITEM(arguments, 0)) == "-c";
    }
}

/// What is in a file, by its path, or by its name in the standard library that replays: read without the recording's knowledge.
pub fn library_file(name: &str) -> Option<Vec<u8>> {
    // SAFETY: the GIL is held by whoever asks.
    let library = unsafe { &*LIBRARY.get() };
    std::fs::read(std::path::Path::new(library.first()?).join(name)).ok()
}

/// The names of what is in a folder: read without the recording's knowledge.
pub fn library_folder(path: &str) -> Vec<String> {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// The codes of the frames of the running thread, the outermost first; borrowed.
///
/// # Safety
/// The GIL is held.
pub unsafe fn running_codes() -> Vec<*mut PyObject> {
    // SAFETY: by contract; there is room for so many.
    unsafe {
        let tstate = PyThreadState_Get().cast();
        let mut codes = vec![ptr::null_mut(); depth_of(tstate) as usize];
        retrace_frame_codes(tstate, codes.as_mut_ptr(), codes.len() as c_int);
        codes
    }
}

/// The codes of the program of a `python -c`, by address. They live for ever.
static OF_COMMAND: GilCell<Vec<usize>> = GilCell::new(Vec::new());

/// Whether a code made of a string is of the program itself: it is below everything else that its thread runs, or in that.
/// Libraries make some (`namedtuple`).
unsafe fn is_of_command(code: *mut PyObject) -> bool {
    // SAFETY: a live code object; the GIL is held; nothing else has the list meanwhile.
    unsafe {
        let known = OF_COMMAND.get();
        let mut outermost = ptr::null_mut();
        if known.is_empty() {
            outermost = running_codes().first().copied().unwrap_or(ptr::null_mut());
        }
        if !outermost.is_null() && text(attribute(outermost, c"co_filename").0) == COMMAND {
            Py_INCREF(outermost);
            let mut next = 0;
            known.push(outermost as usize);
            while let Some(&code) = known.get(next) {
                next += 1;
                let constants = attribute(code as *mut PyObject, c"co_consts");
                let constants = (0..PyTuple_GET_SIZE(constants.0)).map(|i| PyTuple_GET_ITEM(constants.0, i));
                known.extend(constants.filter(|constant| PyCode_Check(*constant) != 0).map(|code| code as usize));
            }
        }
        known.contains(&(code as usize))
    }
}

/// Whether a file is not a library's.
pub fn is_mine(path: &str) -> bool {
    // SAFETY: the GIL is held by whoever runs Python code.
    let library = unsafe { &*LIBRARY.get() };
    let installed = ["/site-packages/", "/dist-packages/"].iter().any(|folder| path.contains(folder));
    // Code that somebody made out of a string, unless the program is one.
    // SAFETY: as above.
    let made_up = path.starts_with('<') && !(path == STDIN || path == COMMAND && unsafe { IS_COMMAND });
    !installed && !made_up && !library.iter().any(|folder| path.starts_with(folder.as_str()))
}

#[derive(Default)]
pub struct Codes {
    /// By address.
    known: HashMap<usize, usize>,
    codes: Vec<Code>,
    /// The last one asked for.
    last: (usize, usize),
}

impl Codes {
    /// The index of a code object.
    ///
    /// # Safety
    /// `code` is a live code object; the GIL is held.
    pub unsafe fn index(&mut self, code: *mut PyObject, stops: Option<&Stops>) -> usize {
        let address = code as usize;
        // SAFETY: by contract.
        let names = unsafe { names_of(code) };
        let known = if self.last.0 == address { Some(self.last.1) } else { self.known.get(&address).copied() };
        let index = match known {
            Some(index) if self.codes[index].names.are(&names) => index,
            Some(index) => {
                // SAFETY: the strings of a live code object.
                self.codes[index] = unsafe { describe(code, names, stops) };
                index
            }
            None => {
                // SAFETY: as above.
                self.codes.push(unsafe { describe(code, names, stops) });
                self.known.insert(address, self.codes.len() - 1);
                self.codes.len() - 1
            }
        };
        self.last = (address, index);
        index
    }

    /// Whether a code object is the user's.
    ///
    /// # Safety
    /// As [`Codes::index`].
    pub unsafe fn is_mine(&mut self, code: *mut PyObject, stops: Option<&Stops>) -> bool {
        // SAFETY: by contract.
        let index = unsafe { self.index(code, stops) };
        self.codes[index].is_mine
    }

    pub fn get(&self, index: usize) -> &Code {
        &self.codes[index]
    }

    /// The breakpoints on an instruction that is not a line's first, by their places in the list.
    ///
    /// # Safety
    /// As [`Codes::index`]; `index` is the code's.
    pub unsafe fn breakpoints_inside(
        &mut self,
        index: usize,
        code: *mut PyObject,
        offset: c_int,
        stops: &Stops,
    ) -> Vec<usize> {
        let Code { inside, path, is_mine, .. } = &mut self.codes[index];
        let breakpoints = inside.get_or_insert_with(|| {
            let mut found = Vec::new();
            for (place, breakpoint) in stops.breakpoints.iter().enumerate() {
                if let (Some(column), true) = (breakpoint.column, is_of_file(path, *is_mine, &breakpoint.path)) {
                    // SAFETY: by contract.
                    let offsets = unsafe { super::inspect::offsets(code, breakpoint.line, column) };
                    found.extend(offsets.into_iter().map(|offset| (offset, place)));
                }
            }
            found
        });
        breakpoints.iter().filter(|(other, _)| *other == offset).map(|(_, place)| *place).collect()
    }

    /// Other breakpoints are looked for from now on.
    pub fn set_stops(&mut self, stops: Option<&Stops>) {
        for code in &mut self.codes {
            place_breakpoints(code, stops);
        }
    }
}

unsafe fn describe(code: *mut PyObject, names: [*mut PyObject; 3], stops: Option<&Stops>) -> Code {
    // SAFETY: by the contract of `index`. What the conversion of a string makes is not the program's.
    unsafe {
        super::clock::uncounted(|| {
            let [path, name, qualified_name] = names.map(|name| text(name));
            let mut made = Code {
                names: Names(names.map(|name| Owned::borrowed(name))),
                is_mine: is_mine(&path) && (path != COMMAND || is_of_command(code)),
                path,
                name,
                qualified_name,
                breakpoints: Vec::new(),
                inside: None,
                functions: Vec::new(),
            };
            place_breakpoints(&mut made, stops);
            made
        })
    }
}

fn place_breakpoints(code: &mut Code, stops: Option<&Stops>) {
    code.breakpoints.clear();
    code.functions.clear();
    code.inside = None;
    let Some(stops) = stops else { return };
    for (place, breakpoint) in stops.breakpoints.iter().enumerate() {
        if is_of_file(&code.path, code.is_mine, &breakpoint.path) && breakpoint.column.is_none() {
            code.breakpoints.push((breakpoint.line, place));
        }
    }
    let is_on = |f: &FunctionBreakpoint| {
        f.is_on(&code.path, &code.name, &code.qualified_name) && (code.is_mine || !f.mine_only)
    };
    code.functions.extend(stops.functions.iter().enumerate().filter(|(_, f)| is_on(f)).map(|(place, _)| place));
}

/// One tick.
#[derive(Clone, Copy)]
pub struct Tick {
    pub thread: u16,
    pub depth: u32,
    /// The fewest frames its thread has had since its tick before.
    pub low: u32,
    pub is_mine: bool,
    /// The generators that it is in: see [`Generators`].
    pub stack: u32,
}

/// The answer to `Find::Back`; `ends`: the fewest frames each thread has had since its last tick.
pub fn find_back(ticks: &[Tick], ends: &[u32], generators: &Generators, find: &Find) -> Found {
    let Find::Back { thread, before, depth, change, mine_only, generators: ref later, leaves } = *find else {
        return Found::default();
    };
    // Ticks are counted from 1.
    let here = before.and_then(|tick| ticks.get((tick as usize).wrapping_sub(1)));
    let end = || thread.and_then(|thread| ends.get(thread as usize)).copied().unwrap_or(u32::MAX);
    let mut any_depth = change > 0;
    let mut allowed = match (depth, before) {
        _ if any_depth => u32::MAX,
        (Some(depth), _) => depth,
        (None, Some(_)) => here.map_or(u32::MAX, |here| here.low.min(here.depth.saturating_add_signed(change))),
        (None, None) => u32::MAX,
    };
    let last = match before {
        Some(tick) => (tick as usize).saturating_sub(1).min(ticks.len()),
        None => {
            if !any_depth {
                allowed = allowed.min(end());
            }
            ticks.len()
        }
    };
    // Frames that may have been left and gone back to.
    let (mut followed, mut unmet) = (Vec::new(), Vec::new());
    match here {
        _ if any_depth => {}
        Some(here) if Some(u32::from(here.thread)) == thread => {
            let deepest = depth.unwrap_or(here.depth.saturating_add_signed(change));
            followed = generators.up_to(here.stack, deepest);
            followed.retain(|generator| !mine_only || !generators.is_library(*generator));
        }
        _ => {
            for frame in later {
                match generators.by_address(*frame) {
                    Ok(number) => followed.push(number),
                    Err(frame) => unmet.push(frame),
                }
            }
        }
    }
    // The fewest frames the thread has had since. Frames of generators are left and come back to: not what calls them
    // is left with them, until they have begun.
    let mut fewest = match before {
        _ if depth.is_some() && before.is_some() => u32::MAX,
        Some(_) => here.map_or(u32::MAX, |here| here.low),
        None => end(),
    };
    if let Some(tick) = before {
        followed.retain(|generator| !generators.begins_at(*generator, tick));
    }
    any_depth |= followed.is_empty() && unmet.is_empty() && fewest < leaves;
    for (place, tick) in ticks[..last].iter().enumerate().rev() {
        if thread.is_some_and(|thread| u32::from(tick.thread) != thread) {
            continue;
        }
        let is_followed = !followed.is_empty() && followed.contains(&generators.at(tick.stack, tick.depth));
        let number = place as u64 + 1;
        if (any_depth || tick.depth <= allowed || is_followed) && (tick.is_mine || !mine_only) {
            return Found { tick: Some(number), ..Found::default() };
        }
        (allowed, fewest) = (allowed.min(tick.low), fewest.min(tick.low));
        followed.retain(|generator| !generators.begins_at(*generator, number));
        any_depth |= followed.is_empty() && unmet.is_empty() && fewest < leaves;
    }
    unmet.extend(generators.first_addresses(&followed));
    Found { depth: (!any_depth).then_some(allowed), generators: unmet, ..Found::default() }
}
