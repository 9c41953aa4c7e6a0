//! Addresses that the program is shown: asked for (`id()`), and in text (`%p` of `PyUnicode_FromFormat`: default reprs). On
//! replay a number stands for the object that had it when recorded.
//!
//! Code that the recorded program never ran, which a debugger evaluates, asks for itself; it must get the same numbers,
//! as the program's own dictionaries have them for keys, and its output shows them. Of an object that the program has not
//! shown, nobody knows which number it had: its address in text is `0x?`. One of the replay's own would differ from one
//! copy of it to another.

use crate::call::Call;
use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::imports::Binding;
use crate::session::{self, Mode};
use crate::{divergence, platform, record, replay, schedule, thread};
use pyo3_ffi::*;
use retrace_abi::text;
use retrace_replay::event::{self, Event, Outcome};
use retrace_replay::value::Value;
use rustc_hash::FxHashMap;

/// Recorded numbers by addresses here, and back.
#[derive(Default)]
struct Numbers {
    recorded: FxHashMap<usize, i64>,
    here: FxHashMap<i64, usize>,
}

impl Numbers {
    /// What has died meanwhile is replaced, by what is asked for at the same place, here or in the recording.
    fn insert(&mut self, address: usize, number: i64) {
        if let Some(before) = self.recorded.insert(address, number)
            && before != number
        {
            self.here.remove(&before);
        }
        if let Some(before) = self.here.insert(number, address)
            && before != address
        {
            self.recorded.remove(&before);
        }
    }
}

static NUMBERS: GilCell<Option<Numbers>> = GilCell::new(None);

unsafe fn note(address: usize, number: i64) {
    // SAFETY: the GIL is held.
    unsafe { NUMBERS.get().get_or_insert_default().insert(address, number) };
}

unsafe fn noted(address: usize) -> Option<i64> {
    // SAFETY: the GIL is held.
    unsafe { NUMBERS.get().as_ref()?.recorded.get(&address).copied() }
}

/// What the recording answered.
///
/// # Safety
/// The GIL is held; `result` is what replay returns from `call`, an int.
pub unsafe fn remember(call: &Call, result: *mut PyObject) {
    // SAFETY: by contract.
    unsafe {
        let number = PyLong_AsLongLong(result);
        if let [object] = call.args {
            note(*object as usize, number);
        }
    }
}

/// The answer in a diversion.
///
/// # Safety
/// The GIL is held.
pub unsafe fn diverted(call: &Call) -> *mut PyObject {
    // SAFETY: by contract.
    unsafe {
        let recorded = match call.args {
            [object] => noted(*object as usize),
            _ => None,
        };
        if let Some(number) = recorded {
            return PyLong_FromLongLong(number);
        }
        let made_up = call.invoke();
        if let [object] = call.args {
            let numbers = MADE_UP.get();
            if numbers.len() < MOST_MADE_UP && !numbers.contains(&(*object as usize)) {
                numbers.push(*object as usize);
            }
        }
        made_up
    }
}

/// Addresses of this replay's that code in a diversion has been given for a number.
static MADE_UP: GilCell<Vec<usize>> = GilCell::new(Vec::new());
/// Text in which there are more is shown as it is.
const MOST_MADE_UP: usize = 100;

/// Those since this was asked last: what is shown of them is another number in each copy of the replay, and none of the
/// program's.
///
/// # Safety
/// The GIL is held.
pub unsafe fn made_up() -> Vec<usize> {
    // SAFETY: by contract.
    unsafe { std::mem::take(MADE_UP.get()) }
}

// ---- in text ----

static HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);

/// Makes the hook of the events.
///
/// # Safety
/// The GIL is held; called once, before a session begins.
pub unsafe fn prepare() {
    // SAFETY: by contract.
    unsafe { *HOOK.get() = Some(hook::of_library("text.address")) };
}

/// What takes the place of the interpreter's imports, in both directions. It has one of the two.
pub fn bindings() -> [Binding; 2] {
    let hook = |name, with, next| Binding { name, with, next, needed: false };
    [
        hook(c"sprintf", text::retrace_hook_sprintf as *mut _, &raw mut text::retrace_next_sprintf),
        hook(c"__sprintf_chk", text::retrace_hook_sprintf_chk as *mut _, &raw mut text::retrace_next_sprintf),
    ]
}

/// The number to be shown for an address; 0 where nobody knows what the recording had.
///
/// # Safety
/// Called by cshim/address_text.c, in the place of what the interpreter calls.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn retrace_shown_address(address: usize) -> usize {
    // SAFETY: the GIL is held where text is made of an object.
    unsafe {
        let mode = session::mode();
        if mode == Mode::Diverted {
            return noted(address).map_or(0, |number| number as usize);
        }
        if mode == Mode::Off || !schedule::holds_gil() || !is_programs() || thread::current().external.get() {
            return address;
        }
        let Some(hook) = *HOOK.get() else { return address };
        let errno = platform::errno();
        let shown = if mode == Mode::Recording { record_shown(hook, address) } else { replay_shown(hook, address) };
        platform::set_errno(errno);
        shown
    }
}

/// Whether the calling thread runs the interpreter that is recorded, and no other one in its process.
unsafe fn is_programs() -> bool {
    // SAFETY: the GIL is held.
    unsafe { PyInterpreterState_Get() == PyInterpreterState_Main() }
}

unsafe fn record_shown(hook: &Hook, address: usize) -> usize {
    let outcome = Outcome::Value(Value::Int(address as i64));
    // SAFETY: recording, the GIL held.
    unsafe {
        let call = event::Call { hook: hook.index, at: record::caller_offset(), arguments: None, outcome };
        session::append_event(&Event::Call(call));
    }
    address
}

unsafe fn replay_shown(hook: &Hook, address: usize) -> usize {
    // SAFETY: replaying, the GIL held.
    unsafe {
        let call = replay::native_call(hook);
        let number = match call.outcome {
            Outcome::Value(Value::Int(number)) if call.at == record::caller_offset() => number,
            _ => divergence::stop_at("an address is put into text here"),
        };
        replay::pass_native_call();
        note(address, number);
        number as usize
    }
}
