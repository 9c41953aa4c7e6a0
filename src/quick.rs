//! The quick way of recording, for what a busy program calls most: short arguments, a receiver whose mirrored state is
//! a few scalars at most, and None, a number or bytes for a result.
//!
//! After a system call the processor starts afresh, so every instruction that follows one is dear. Hence all that can be
//! done before the original is called is done before; afterwards the event is written straight into the log, and nothing
//! else is called. And the original is called from the very function that the trampoline jumps to, because each frame
//! that was entered before a system call costs a mispredicted return after it.

use crate::call::Call;
use crate::callback;
use crate::encode::bytes_of;
use crate::hook::Hook;
use crate::record::{Event, before_call, enter_external, leave_external, offset_in};
use crate::session::{self, writer};
use crate::thread::Thread;
use pyo3_ffi::*;
use retrace_replay::event::{ARGUMENTS_BIT, form};
use retrace_replay::trace_writer::MAX_INLINE;
use retrace_replay::value::{put_varint, tag};
use std::mem::MaybeUninit;
use std::ptr;

/// The head and the caller's position.
const HEAD: usize = 4;
/// Room for an arguments section under assembly.
const ARGUMENTS: usize = 384;
/// The most bytes that [`put_argument`] writes.
const ARGUMENT: usize = 80;
/// The most bytes that [`copy_loosely`] copies too many.
const BEHIND: usize = 80;
/// Room for a result but for the contents of bytes, and for what is copied too much.
const RESULT: usize = BEHIND;
/// The most contents that are written here.
const CONTENTS: usize = MAX_INLINE - HEAD - ARGUMENTS - RESULT;

/// Calls and records a function that takes no arguments.
///
/// # Safety
/// Recording; the GIL is held; the thread is not external; `hook` is direct, for METH_NOARGS, and mirrors no state.
#[inline(always)]
pub unsafe fn plain(hook: &'static Hook, thread: &Thread, receiver: *mut PyObject) -> *mut PyObject {
    // SAFETY: by contract; the event is written only after its room was granted.
    unsafe {
        before_call();
        let head = head(hook, 0, thread);
        let kept = thread.results.get().len();
        let outer = thread.call.replace(ptr::null());
        enter_external(thread);
        let result = (hook.function.PyCFunction)(receiver, ptr::null_mut());
        leave_external(thread);
        thread.call.set(outer);
        if session::is_recording() && !result.is_null() {
            let room = writer().cursor(HEAD + RESULT);
            if !room.is_null()
                && let Some((form, end)) =
                    put_result(room.add(HEAD), result).or_else(|| put_float(room.add(HEAD), result))
            {
                put_head(room, head, form);
                writer().commit(end);
                callback::release_results(thread, kept);
                return result;
            }
        }
        finish_slowly(&Call::without_arguments(hook, receiver), thread, head, &[], result, [0; 2], kept)
    }
}

/// Calls and records through `original`. `None` where an argument is not short: nothing has happened then.
///
/// # Safety
/// Recording; the GIL is held; the thread is not external; `call.hook` is quick, and `original` calls its original.
#[inline(always)]
pub unsafe fn record(call: &Call, thread: &Thread, original: impl FnOnce() -> *mut PyObject) -> Option<*mut PyObject> {
    // SAFETY: by contract; what `arguments` holds up to `size` was written.
    unsafe {
        let mut arguments = [const { MaybeUninit::<u8>::uninit() }; ARGUMENTS];
        let arguments = arguments.as_mut_ptr().cast::<u8>();
        let size = put_arguments(arguments, call)?;
        before_call();
        let head = head(call.hook, if size > 0 { ARGUMENTS_BIT } else { 0 }, thread);
        let before = call.hook.state(call.receiver);
        writer().prefetch();
        let kept = thread.results.get().len();
        let outer = thread.call.replace(ptr::from_ref(call).cast());
        enter_external(thread);
        let result = original();
        leave_external(thread);
        thread.call.set(outer);
        if likely(
            session::is_recording()
                && !result.is_null()
                && call.hook.state(call.receiver) == before
                && append(head, arguments, size, result),
        ) {
            callback::release_results(thread, kept);
            return Some(result);
        }
        let arguments = std::slice::from_raw_parts(arguments, size);
        Some(finish_slowly(call, thread, head, arguments, result, before, kept))
    }
}

/// What an event begins with, but for its form.
#[inline(always)]
unsafe fn head(hook: &Hook, bits: u16, thread: &Thread) -> u32 {
    // SAFETY: the GIL is held by `thread`.
    let at = unsafe { offset_in(thread.tstate) };
    u32::from(hook.index | bits) | u32::from(at) << 16
}

#[inline(always)]
unsafe fn put_head(room: *mut u8, head: u32, form: u16) {
    // SAFETY: there is room for HEAD bytes.
    unsafe { ptr::write_unaligned(room.cast(), (head | u32::from(form) << form::SHIFT).to_le()) };
}

/// Appends the event of a call that returned `result`; `false` where the result is not one of those written here.
#[inline(always)]
unsafe fn append(head: u32, arguments: *const u8, size: usize, result: *mut PyObject) -> bool {
    // SAFETY: by the contract of `record`; the room asked for is that of all that is written, and of whole copies.
    unsafe {
        if likely(PyBytes_CheckExact(result) != 0) {
            let contents = bytes_of(result);
            let n = contents.len();
            let room = if likely(n <= CONTENTS) { writer().cursor(HEAD + size + RESULT + n) } else { ptr::null_mut() };
            if room.is_null() {
                return append_parts(head, arguments, size, result);
            }
            copy_loosely(arguments, room.add(HEAD), size);
            let place = room.add(HEAD + size);
            *place = tag::BYTES;
            *place.add(1) = n as u8;
            let mut end = place.add(2);
            if unlikely(n >= 0x80) {
                *place.add(1) = n as u8 | 0x80;
                *place.add(2) = (n >> 7) as u8;
                end = place.add(3);
            }
            copy(contents.as_ptr(), end, n);
            put_head(room, head, form::VALUE);
            writer().commit(end.add(n));
            return true;
        }
        let room = writer().cursor(HEAD + size + RESULT);
        if room.is_null() {
            return append_parts(head, arguments, size, result);
        }
        copy_loosely(arguments, room.add(HEAD), size);
        let Some((form, end)) = put_result(room.add(HEAD + size), result) else { return false };
        put_head(room, head, form);
        writer().commit(end);
        true
    }
}

/// [`append`] where the log's window ends, or where there is much.
#[cold]
#[inline(never)]
unsafe fn append_parts(head: u32, arguments: *const u8, size: usize, result: *mut PyObject) -> bool {
    // SAFETY: as in `append`.
    unsafe {
        let arguments = std::slice::from_raw_parts(arguments, size);
        let mut event = [0u8; HEAD];
        if PyBytes_CheckExact(result) != 0 {
            let contents = bytes_of(result);
            let mut prefix = vec![tag::BYTES];
            put_varint(&mut prefix, contents.len() as u64);
            put_head(event.as_mut_ptr(), head, form::VALUE);
            session::append(&[&event, arguments, &prefix, contents]);
            return true;
        }
        let mut value = [0u8; RESULT];
        let Some((form, end)) = put_result(value.as_mut_ptr(), result) else { return false };
        let n = end.offset_from(value.as_ptr()) as usize;
        put_head(event.as_mut_ptr(), head, form);
        session::append(&[&event, arguments, &value[..n]]);
        true
    }
}

/// What came of a call that only the general way can encode, or that the recording did not outlive.
#[cold]
#[inline(never)]
unsafe fn finish_slowly(
    call: &Call,
    thread: &Thread,
    head: u32,
    arguments: &[u8],
    result: *mut PyObject,
    before: [u64; 2],
    kept: usize,
) -> *mut PyObject {
    // SAFETY: by the contract of `record`.
    unsafe {
        if !session::is_recording() {
            return result;
        }
        let mut event = Event::resume(thread, &[&head.to_le_bytes(), arguments]);
        let mirrored = call.mirrored().map(|external| (external, external.snapshot_of(before)));
        event.outcome(call, result, mirrored.as_ref().map(|(external, before)| (*external, before)));
        event.append(thread, result);
        callback::release_results(crate::thread::current(), kept);
        result
    }
}

#[inline(always)]
unsafe fn put_float(place: *mut u8, result: *mut PyObject) -> Option<(u16, *mut u8)> {
    // SAFETY: there is room for RESULT bytes.
    unsafe {
        if PyFloat_CheckExact(result) == 0 {
            return None;
        }
        ptr::write_unaligned(place.cast(), PyFloat_AS_DOUBLE(result).to_bits().to_le());
        Some((form::FLOAT, place.add(8)))
    }
}

/// An int or None: the event's form and its end.
#[inline(always)]
unsafe fn put_result(place: *mut u8, result: *mut PyObject) -> Option<(u16, *mut u8)> {
    // SAFETY: there is room for RESULT bytes.
    unsafe {
        if PyLong_CheckExact(result) != 0 {
            return match retrace_abi::small_int(result) {
                Some(value) => Some((form::VALUE, put_int(place, value))),
                None => put_long(place, result),
            };
        }
        (result == Py_None()).then_some((form::NONE, place))
    }
}

/// An int of more than one digit, such as an address.
#[inline(never)]
unsafe fn put_long(place: *mut u8, result: *mut PyObject) -> Option<(u16, *mut u8)> {
    // SAFETY: there is room for RESULT bytes; `result` is an int.
    unsafe {
        let mut overflow = 0;
        let value = PyLong_AsLongLongAndOverflow(result, &raw mut overflow);
        if overflow != 0 {
            return None;
        }
        *place = tag::INT8;
        ptr::write_unaligned(place.add(1).cast(), value.to_le());
        Some((form::VALUE, place.add(9)))
    }
}

/// The arguments section's length; `None` where an argument is not short.
#[inline(always)]
unsafe fn put_arguments(start: *mut u8, call: &Call) -> Option<usize> {
    if call.args.is_empty() || call.hook.blind {
        return Some(0);
    }
    if !call.keyword_names.is_null() || call.args.len() > 254 {
        return None;
    }
    // SAFETY: by the contract of `record`; each argument is written only where there is room for any.
    unsafe {
        *start = call.args.len() as u8;
        let mut end = start.add(1);
        for &arg in call.args {
            if start.add(ARGUMENTS).offset_from(end) < ARGUMENT as isize {
                return None;
            }
            end = put_argument(end, arg)?;
        }
        Some(end.offset_from(start) as usize)
    }
}

/// An argument as [`crate::encode::Encoder::argument`] would write it.
#[inline(always)]
unsafe fn put_argument(place: *mut u8, arg: *mut PyObject) -> Option<*mut u8> {
    // SAFETY: there is room for ARGUMENT bytes.
    unsafe {
        if PyLong_CheckExact(arg) != 0 {
            return Some(put_int(place, retrace_abi::small_int(arg)?));
        }
        if PyBytes_CheckExact(arg) != 0 {
            let contents = bytes_of(arg);
            if contents.len() > 64 {
                return None;
            }
            *place = tag::BYTES;
            *place.add(1) = contents.len() as u8;
            copy(contents.as_ptr(), place.add(2), contents.len());
            return Some(place.add(2 + contents.len()));
        }
        if arg == Py_None() {
            *place = tag::NONE;
            return Some(place.add(1));
        }
        None
    }
}

/// An int of one digit, as [`retrace_replay::value::put_int`] writes it. Eight bytes are written in any case.
#[inline(always)]
unsafe fn put_int(place: *mut u8, value: i64) -> *mut u8 {
    // 0, 1, 2 for one, two, four bytes: the tags follow one another.
    let width = u8::from(i64::from(value as i8) != value) + u8::from(i64::from(value as i16) != value);
    let is_small = (value as u64) < 128;
    let word = if is_small {
        value as u64 | u64::from(tag::SMALL_INT)
    } else {
        (value as u64) << 8 | u64::from(tag::INT1 + width)
    };
    let length = if is_small { 1 } else { 1 + (1 << width) };
    // SAFETY: by contract.
    unsafe {
        ptr::write_unaligned(place.cast(), word.to_le());
        place.add(length)
    }
}

/// Copies `n` bytes, and up to [`BEHIND`] behind them, which have to be there on both sides.
#[inline(always)]
unsafe fn copy_loosely(from: *const u8, to: *mut u8, n: usize) {
    // SAFETY: by contract.
    unsafe {
        copy_chunk::<16>(from, to);
        if n > 16 {
            copy_chunk::<64>(from.add(16), to.add(16));
            if unlikely(n > BEHIND) {
                ptr::copy_nonoverlapping(from.add(BEHIND), to.add(BEHIND), n - BEHIND);
            }
        }
    }
}

/// Copies `n` bytes; where they are few, in parts that may cover each other.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    // SAFETY: by contract.
    unsafe {
        if n >= 16 {
            if n > 256 {
                return ptr::copy_nonoverlapping(from, to, n);
            }
            let mut done = 0;
            while done < n - 16 {
                copy_chunk::<16>(from.add(done), to.add(done));
                done += 16;
            }
            copy_chunk::<16>(from.add(n - 16), to.add(n - 16));
        } else {
            ptr::copy_nonoverlapping(from, to, n);
        }
    }
}

#[inline(always)]
unsafe fn copy_chunk<const N: usize>(from: *const u8, to: *mut u8) {
    // SAFETY: by contract. Perhaps not initialised, so not read as a number.
    unsafe { to.cast::<[MaybeUninit<u8>; N]>().write_unaligned(from.cast::<[MaybeUninit<u8>; N]>().read_unaligned()) };
}

/// Marks the way that is to be laid out straight: branches not taken need no prediction.
#[inline(always)]
fn likely(condition: bool) -> bool {
    if !condition {
        elsewhere();
    }
    condition
}

#[inline(always)]
fn unlikely(condition: bool) -> bool {
    !likely(!condition)
}

/// Never inlined, or the mark would be lost.
#[cold]
#[inline(never)]
fn elsewhere() {}
