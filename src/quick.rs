//! The quick way of recording, for what a busy program calls most: short arguments, a receiver whose mirrored state is
//! a few scalars at most, and None, a number or bytes for a result.
//!
//! After a system call the processor starts afresh, so every instruction that follows one is dear, and every cache line
//! that it or its operands lie in. Hence all that can be done before the original is called is done before, and what is
//! looked at afterwards lies close together (`crate::hot`). The event is written straight into the log, and nothing else is
//! called. And the original is called from the very function that the trampoline jumps to, because each frame that was
//! entered before a system call costs a mispredicted return after it.
//!
//! What comes before the result is put together on the stack and not in the log: the kernel's first atomic operation
//! would wait until all that was written has reached the cache, and the log's lines come from another core's.

use crate::call::Call;
use crate::callback;
use crate::encode::bytes_of;
use crate::hook::Hook;
use crate::hot::hot;
use crate::record::{Event, before_call, enter_external, leave_external, offset_in};
use crate::session::{self, writer};
use crate::thread::Thread;
use pyo3_ffi::*;
use retrace_replay::event::{ARGUMENTS_BIT, form};
use retrace_replay::value::tag;
use std::mem::MaybeUninit;
use std::ptr;

/// The head and the caller's position.
const HEAD: usize = 4;
/// The most that an arguments section takes here.
const ARGUMENTS: usize = 384;
/// The most bytes that [`put_argument`] writes.
const ARGUMENT: usize = 80;
/// The most bytes that [`copy_loosely`] copies too many.
const BEHIND: usize = 80;
/// Contents below this are a result that there is always room for.
const SHORT: usize = 0x80;
/// Contents from this size on go the general way.
const LONG: usize = 0x4000;
/// Room for a result but for longer contents.
const RESULT: usize = SHORT + 16;

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
                writer().cursor_mut().commit(end);
                callback::release_results(thread, kept);
                return result;
            }
        }
        finish_slowly(&Call::without_arguments(hook, receiver), thread, result, None, kept)
    }
}

/// Calls and records through `original`. `None` where an argument is not short: nothing has happened then. `STATEFUL`: the
/// call may change the receiver's mirrored state.
///
/// # Safety
/// Recording; the GIL is held; the thread is not external; `call.hook` is quick, and `original` calls its original.
#[inline(always)]
pub unsafe fn record<const STATEFUL: bool>(
    call: &Call,
    thread: &Thread,
    original: impl FnOnce() -> *mut PyObject,
) -> Option<*mut PyObject> {
    // SAFETY: by contract; what `start` holds up to `size` was written, and may be copied with what lies behind.
    unsafe {
        let mut start = [const { MaybeUninit::<u8>::uninit() }; HEAD + ARGUMENTS + BEHIND];
        let start = start.as_mut_ptr().cast::<u8>();
        let end = put_arguments(start.add(HEAD), call)?;
        before_call();
        let size = end.offset_from(start) as usize;
        let head = head(call.hook, if size == HEAD { 0 } else { ARGUMENTS_BIT }, thread);
        put_head(start, head, form::VALUE);
        let before = if STATEFUL { call.hook.state(call.receiver) } else { [0; 2] };
        writer().look();
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
                && (!STATEFUL || call.hook.state(call.receiver) == before)
                && append(start, size, result),
        ) {
            callback::release_results(thread, kept);
            return Some(result);
        }
        Some(finish_slowly(call, thread, result, STATEFUL.then_some(before), kept))
    }
}

/// Appends the event that begins with `start` and ends with `result`; `false` where the result is not one of those written
/// here, or the log's window is at its end.
#[inline(always)]
unsafe fn append(start: *const u8, size: usize, result: *mut PyObject) -> bool {
    // SAFETY: by the contract of `record`; the room asked for is that of all that is written, and of whole copies.
    unsafe {
        let room = writer().cursor(size + RESULT);
        if unlikely(room.is_null()) {
            return false;
        }
        copy_loosely(start, room, size);
        let place = room.add(size);
        if likely(Py_TYPE(result) == (*hot()).bytes) {
            let contents = bytes_of(result);
            let n = contents.len();
            if likely(n < SHORT) {
                ptr::write_unaligned(place.cast(), (u16::from(tag::BYTES) | (n as u16) << 8).to_le());
                copy(contents.as_ptr(), place.add(2), n);
                writer().cursor_mut().commit(place.add(2 + n));
                return true;
            }
            let Some(end) = put_contents(place, contents) else { return false };
            writer().cursor_mut().commit(end);
            return true;
        }
        let Some((form, end)) = put_result(place, result) else { return false };
        if form == form::NONE {
            let head = room.cast::<u32>();
            let other = u32::from(form::VALUE ^ form::NONE) << form::SHIFT;
            head.write_unaligned(head.read_unaligned() ^ other.to_le());
        }
        writer().cursor_mut().commit(end);
        true
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

/// Bytes that are not short: their end, or `None` where there is no room for them.
#[inline(never)]
unsafe fn put_contents(place: *mut u8, contents: &[u8]) -> Option<*mut u8> {
    let n = contents.len();
    // SAFETY: by the contract of `record`; there is room for RESULT bytes, and for the contents where the writer says so.
    unsafe {
        if n >= LONG || !writer().has_room(place, n + RESULT) {
            return None;
        }
        *place = tag::BYTES;
        *place.add(1) = n as u8 | 0x80;
        *place.add(2) = (n >> 7) as u8;
        ptr::copy_nonoverlapping(contents.as_ptr(), place.add(3), n);
        Some(place.add(3 + n))
    }
}

/// What came of a call that only the general way can encode, or that the recording did not outlive. The arguments, which
/// do not change, are read again.
#[cold]
#[inline(never)]
unsafe fn finish_slowly(
    call: &Call,
    thread: &Thread,
    result: *mut PyObject,
    before: Option<[u64; 2]>,
    kept: usize,
) -> *mut PyObject {
    // SAFETY: by the contract of `record`.
    unsafe {
        if !session::is_recording() {
            return result;
        }
        let mut event = Event::with_arguments(call, thread);
        let mirrored =
            before.and_then(|before| call.mirrored().map(|external| (external, external.snapshot_of(before))));
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
        if Py_TYPE(result) == (*hot()).int {
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

/// The arguments section's end; `None` where an argument is not short.
#[inline(always)]
unsafe fn put_arguments(start: *mut u8, call: &Call) -> Option<*mut u8> {
    if call.args.is_empty() || call.hook.blind {
        return Some(start);
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
        Some(end)
    }
}

/// An argument as [`crate::encode::Encoder::argument`] would write it.
#[inline(always)]
unsafe fn put_argument(place: *mut u8, arg: *mut PyObject) -> Option<*mut u8> {
    // SAFETY: there is room for ARGUMENT bytes.
    unsafe {
        if Py_TYPE(arg) == (*hot()).int {
            return Some(put_int(place, retrace_abi::small_int(arg)?));
        }
        if Py_TYPE(arg) == (*hot()).bytes {
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

/// Copies fewer than [`SHORT`] bytes, in parts that may cover each other: without a call, which would be to libc's `memcpy`
/// for what is too short for chunks.
#[inline(always)]
unsafe fn copy(from: *const u8, to: *mut u8, n: usize) {
    // SAFETY: by contract; no part goes beyond `n`.
    unsafe {
        if likely(n >= 16) {
            let mut done = 0;
            while done < n - 16 {
                copy_chunk::<16>(from.add(done), to.add(done));
                done += 16;
            }
            copy_chunk::<16>(from.add(n - 16), to.add(n - 16));
        } else if n >= 8 {
            copy_chunk::<8>(from, to);
            copy_chunk::<8>(from.add(n - 8), to.add(n - 8));
        } else if n >= 4 {
            copy_chunk::<4>(from, to);
            copy_chunk::<4>(from.add(n - 4), to.add(n - 4));
        } else if n > 0 {
            *to = *from;
            copy_chunk::<1>(from.add(n / 2), to.add(n / 2));
            *to.add(n - 1) = *from.add(n - 1);
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
