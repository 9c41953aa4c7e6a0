//! Replay shows what the program wrote to its stdout and stderr. Which descriptors those were follows from what the
//! recorded calls did to descriptors: pytest, for one, duplicates stdout, points 1 at a file, and writes its report to
//! the duplicate.
//!
//! Every other recorded descriptor is an open `/dev/null` here, under its recorded number: C code of the interpreter's
//! own that takes a number from `fileno()` (the traceback printer seeks in it) finds what it can do nothing with.

use crate::buffers;
use crate::call::Call;
use crate::gil::GilCell;
use crate::{schedule, session};
use pyo3_ffi::*;
use retrace_abi::boundary::{Echo, Fds};
use retrace_replay::event::Event;
use std::collections::HashMap;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Recorded descriptor to the replay's own.
static DESCRIPTORS: GilCell<Option<HashMap<i64, i32>>> = GilCell::new(None);

unsafe fn descriptors() -> &'static mut HashMap<i64, i32> {
    // SAFETY: only with the GIL held.
    unsafe { DESCRIPTORS.get().get_or_insert_with(|| HashMap::from([(1, 1), (2, 2)])) }
}

/// Numbers that stand for recorded descriptors, and for how many: a thread may have closed one, and another got the
/// number again, before the first came back to say so.
static RESERVED: GilCell<Option<HashMap<i64, u32>>> = GilCell::new(None);

unsafe fn reserved() -> &'static mut HashMap<i64, u32> {
    // SAFETY: only with the GIL held.
    unsafe { RESERVED.get().get_or_insert_with(HashMap::new) }
}

/// A recorded descriptor is open from now on: it is not one of the console's, and its number is taken. By `/dev/null`,
/// or, where a recorded source was opened, by that source: the traceback printer reads the encoding from it in C.
unsafe fn opened(fd: Option<i64>, path: *mut PyObject) {
    let Some(fd) = fd else { return };
    // SAFETY: by the contract of `after`; a number that is in use here already is left alone.
    unsafe {
        descriptors().remove(&fd);
        let Ok(number) = i32::try_from(fd) else { return };
        if number <= 2 || !reserved().contains_key(&fd) && libc::fcntl(number, libc::F_GETFD) != -1 {
            return;
        }
        let source = if path.is_null() { None } else { crate::start::source_file(&crate::python::text(path)) };
        let null = source.unwrap_or_else(|| libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC));
        if null < 0 {
            return;
        }
        if null != number {
            libc::dup2(null, number);
            libc::close(null);
            libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        *reserved().entry(fd).or_insert(0) += 1;
    }
}

unsafe fn closed(fd: Option<i64>) {
    let Some(fd) = fd else { return };
    // SAFETY: by the contract of `after`.
    unsafe {
        descriptors().remove(&fd);
        if let Some(count) = reserved().get_mut(&fd) {
            *count -= 1;
            if *count == 0 {
                reserved().remove(&fd);
                libc::close(fd as i32);
            }
        }
    }
}

/// A path that names one of our own standard streams.
unsafe fn names_stream(path: *mut PyObject) -> Option<i32> {
    // SAFETY: by the contract of `after`.
    let path = unsafe { crate::python::text(path) };
    match path.as_str() {
        "/dev/stdout" => Some(1),
        "/dev/stderr" => Some(2),
        other => other.strip_prefix("/dev/fd/").or_else(|| other.strip_prefix("/proc/self/fd/"))?.parse().ok(),
    }
}

unsafe fn number(object: *mut PyObject) -> Option<i64> {
    // SAFETY: checked to be an int.
    unsafe {
        if object.is_null() || PyLong_Check(object) == 0 {
            return None;
        }
        let mut value = 0;
        (retrace_abi::retrace_long_as_i64(object, &mut value) != 0).then_some(value)
    }
}

unsafe fn item(object: *mut PyObject, i: Py_ssize_t) -> Option<i64> {
    // SAFETY: checked to be a tuple.
    unsafe {
        if object.is_null() || PyTuple_Check(object) == 0 || PyTuple_GET_SIZE(object) <= i {
            return None;
        }
        number(PyTuple_GET_ITEM(object, i))
    }
}

unsafe fn receiver_descriptor(call: &Call) -> Option<i64> {
    // SAFETY: the receiver is an instance of its external type.
    unsafe { call.mirrored()?.special.descriptor(call.receiver).map(i64::from) }
}

/// The descriptor that a method is about to give up: read before the mirrored state is written.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn descriptor_before(call: &Call) -> Option<i64> {
    match call.hook.entry.fds {
        // SAFETY: by contract.
        Fds::CloseReceiver | Fds::DetachReceiver => unsafe {
            let owns = call.mirrored()?.special.owns_descriptor(call.receiver);
            if owns { receiver_descriptor(call) } else { None }
        },
        _ => None,
    }
}

/// After a replayed call: what it did to descriptors, and what it wrote to those that are shown.
///
/// # Safety
/// Replaying; the GIL is held; `result` is what the call returned, not null.
pub unsafe fn after(call: &Call, result: *mut PyObject, before: Option<i64>) {
    // SAFETY: by contract.
    unsafe {
        let arg = |i: usize| call.args.get(i).and_then(|&a| number(a));
        let map = descriptors();
        match call.hook.entry.fds {
            Fds::None | Fds::DetachReceiver => {}
            Fds::Open => {
                opened(number(result), ptr::null_mut());
                show_if_stream(call, number(result));
            }
            Fds::OpenFirst => opened(item(result, 0), ptr::null_mut()),
            Fds::OpenSecond => opened(item(result, 1), ptr::null_mut()),
            Fds::OpenBoth => {
                opened(item(result, 0), ptr::null_mut());
                opened(item(result, 1), ptr::null_mut());
            }
            Fds::Dup => duplicate(arg(0), number(result)),
            Fds::Dup2 => duplicate(arg(0), arg(1)),
            Fds::Fcntl => {
                if arg(1).is_some_and(duplicates) {
                    duplicate(arg(0), number(result));
                }
            }
            Fds::Close => closed(arg(0)),
            Fds::CloseRange => {
                if let (Some(low), Some(high)) = (arg(0), arg(1)) {
                    map.retain(|&fd, _| fd < low || fd >= high);
                    let gone: Vec<i64> = reserved().keys().copied().filter(|fd| (low..high).contains(fd)).collect();
                    for fd in gone {
                        reserved().insert(fd, 1);
                        closed(Some(fd));
                    }
                }
            }
            Fds::LoginTty => map.retain(|&fd, _| fd > 2),
            Fds::OpenReceiver => {
                // A FileIO made from a number keeps that descriptor as it is.
                if arg(0).is_none() {
                    let fd = receiver_descriptor(call);
                    opened(fd, call.args.first().copied().unwrap_or(ptr::null_mut()));
                    show_if_stream(call, fd);
                }
            }
            Fds::CloseReceiver => closed(before),
        }
        let Some((fd, data, limit)) = written(call, result) else { return };
        if let Some(&own) = descriptors().get(&fd)
            && !crate::replay::is_muted()
        {
            show(own, data, limit);
        }
    }
}

/// To which descriptor a call wrote, of what, and how many bytes.
unsafe fn written(call: &Call, result: *mut PyObject) -> Option<(i64, *mut PyObject, usize)> {
    // SAFETY: by the contract of `after`.
    unsafe {
        let (fd, data) = match call.hook.entry.echo {
            Echo::None => return None,
            Echo::Fd => (number(*call.args.first()?), 1),
            Echo::Receiver => (receiver_descriptor(call), 0),
        };
        Some((fd?, *call.args.get(data)?, usize::try_from(number(result)?).ok()?))
    }
}

/// What a call of the C library's did to descriptors: the first and second argument and the result are numbers.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn effect(fds: Fds, first: i64, second: i64, result: i64) {
    // SAFETY: by contract.
    unsafe {
        match fds {
            Fds::Open => opened(Some(result), ptr::null_mut()),
            Fds::Dup => duplicate(Some(first), Some(result)),
            Fds::Dup2 => duplicate(Some(first), Some(second)),
            Fds::Fcntl if duplicates(second) => duplicate(Some(first), Some(result)),
            Fds::Close => closed(Some(first)),
            _ => {}
        }
    }
}

/// Whether a number here stands for a recorded descriptor.
///
/// # Safety
/// As [`effect`].
pub unsafe fn stands_for(number: i32) -> bool {
    // SAFETY: by contract.
    unsafe { reserved().contains_key(&number.into()) }
}

/// Shows what was written to a recorded descriptor, if that is stdout or stderr.
///
/// # Safety
/// As [`effect`].
pub unsafe fn show_bytes(fd: i64, bytes: &[u8]) {
    // SAFETY: by contract.
    unsafe {
        if let Some(&own) = descriptors().get(&fd)
            && !crate::replay::is_muted()
        {
            write_out(own, bytes);
        }
    }
}

/// A descriptor opened by the name of a standard stream shows what that stream shows.
unsafe fn show_if_stream(call: &Call, fd: Option<i64>) {
    // SAFETY: by the contract of `after`.
    unsafe {
        let stream = call.args.first().and_then(|&path| names_stream(path));
        if let (Some(stream), Some(fd)) = (stream, fd)
            && let Some(own) = descriptors().get(&i64::from(stream)).copied()
        {
            descriptors().insert(fd, own);
        }
    }
}

/// Whether that command of `fcntl` makes a duplicate.
pub fn duplicates(command: i64) -> bool {
    command == i64::from(libc::F_DUPFD) || command == i64::from(libc::F_DUPFD_CLOEXEC)
}

unsafe fn duplicate(from: Option<i64>, to: Option<i64>) {
    let Some(to) = to else { return };
    // SAFETY: by the contract of `after`.
    unsafe {
        match from.and_then(|from| descriptors().get(&from).copied()) {
            Some(own) => {
                opened(Some(to), ptr::null_mut());
                descriptors().insert(to, own);
            }
            None => opened(Some(to), ptr::null_mut()),
        }
    }
}

// ---- the order of writes ----

/// What comes before held output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Earlier {
    /// What this thread's next call to end wrote.
    CallOf(u64),
    /// Held output, by its number.
    Output(u64),
}

/// Output that an earlier write of another thread comes before, whose event comes later.
struct Held {
    number: u64,
    thread: u64,
    /// The call that wrote it has not ended.
    is_of_call: bool,
    after: Vec<Earlier>,
    own: i32,
    bytes: Vec<u8>,
}

/// In the order of their events.
static HELD: GilCell<Vec<Held>> = GilCell::new(Vec::new());
/// Threads whose next call to end wrote after others' that come later.
static LATER: GilCell<Vec<(u64, Vec<Earlier>)>> = GilCell::new(Vec::new());

/// The running thread's next call to end wrote after calls of these threads that have not ended.
///
/// # Safety
/// Replaying, on its one thread.
pub unsafe fn wrote_after(threads: Vec<u64>) {
    let after = threads.into_iter().map(Earlier::CallOf).collect();
    // SAFETY: by contract.
    unsafe { LATER.get().push((crate::user_threads::running() as u64, after)) };
}

/// The running thread's call has ended, and what it wrote was shown or is held: what waited for it waits no longer, or
/// for that.
///
/// # Safety
/// As [`wrote_after`].
pub unsafe fn call_ended() {
    // SAFETY: by contract.
    unsafe {
        if LATER.get().is_empty() && HELD.get().is_empty() {
            return;
        }
        let thread = crate::user_threads::running() as u64;
        LATER.get().retain(|(later, _)| *later != thread);
        // What this call wrote may be held only because of what the thread wrote before; that alone is none of it.
        let mut instead = None;
        for held in HELD.get().iter_mut().filter(|held| held.thread == thread) {
            if std::mem::take(&mut held.is_of_call) {
                instead = Some(Earlier::Output(held.number));
            }
        }
        waits_no_longer(Earlier::CallOf(thread), instead);
        while let Some(first) = HELD.get().iter().position(|held| held.after.is_empty()) {
            let held = HELD.get().remove(first);
            write_out(held.own, &held.bytes);
            waits_no_longer(Earlier::Output(held.number), None);
        }
    }
}

/// Whatever waits for `earlier` waits for `instead`, or no longer.
unsafe fn waits_no_longer(earlier: Earlier, instead: Option<Earlier>) {
    // SAFETY: by the contract of `call_ended`.
    let held = unsafe { HELD.get().iter_mut().map(|held| &mut held.after) };
    // SAFETY: as above.
    let later = unsafe { LATER.get().iter_mut().map(|(_, after)| after) };
    for after in held.chain(later).filter(|after| after.contains(&earlier)) {
        after.retain(|other| *other != earlier);
        after.extend(instead);
    }
}

/// Shows what is held: the replay ends, and what it should come after does not come.
///
/// # Safety
/// As [`wrote_after`].
pub unsafe fn show_held() {
    // SAFETY: by contract.
    unsafe { std::mem::take(HELD.get()).iter().for_each(|held| write_out(held.own, &held.bytes)) };
}

/// Forgets what is held: it is an ancestor's output.
///
/// # Safety
/// As [`wrote_after`].
pub unsafe fn become_child() {
    // SAFETY: by contract.
    unsafe {
        HELD.get().clear();
        LATER.get().clear();
    }
}

/// Writes what the running thread's call wrote, or holds it.
unsafe fn write_in_order(own: i32, bytes: &[u8]) {
    static mut NUMBER: u64 = 0;
    // SAFETY: by the contract of `after`.
    unsafe {
        let thread = crate::user_threads::running() as u64;
        let before = HELD.get().iter().rev().find(|held| (held.thread, held.own) == (thread, own));
        let mut after = Vec::from_iter(before.map(|held| Earlier::Output(held.number)));
        if let Some((_, later)) = LATER.get().iter().find(|(later, _)| *later == thread) {
            after.extend(later);
        }
        if after.is_empty() {
            return write_out(own, bytes);
        }
        NUMBER += 1;
        HELD.get().push(Held { number: NUMBER, thread, is_of_call: true, after, own, bytes: bytes.to_vec() });
    }
}

/// External code has called what writes: what went to stdout or stderr is logged, for replay to show, where that code does not
/// run.
///
/// # Safety
/// The GIL is held; the thread is marked external; `result` is what the call returned, or null.
pub unsafe fn record_output(call: &Call, result: *mut PyObject) {
    // SAFETY: by contract; the view's memory is valid until it is released.
    unsafe {
        let is_ours = session::is_recording() && !schedule::is_foreign() && !schedule::is_outside();
        if !is_ours || result.is_null() {
            return;
        }
        let Some((fd @ 1..=2, data, limit)) = written(call, result) else { return };
        let mut view: Py_buffer = std::mem::zeroed();
        if PyObject_CheckBuffer(data) == 0 || PyObject_GetBuffer(data, &mut view, PyBUF_SIMPLE) < 0 {
            return PyErr_Clear();
        }
        let bytes = std::slice::from_raw_parts(view.buf.cast::<u8>(), limit.min(view.len as usize)).to_vec();
        PyBuffer_Release(&mut view);
        session::append_event(&Event::Output { fd: fd as u64, bytes });
    }
}

/// Writes up to `limit` bytes of a buffer, or of a sequence of buffers.
unsafe fn show(own: i32, data: *mut PyObject, limit: usize) {
    // SAFETY: by the contract of `after`.
    unsafe {
        let mut left = limit;
        if PyObject_CheckBuffer(data) == 0
            && let Some(parts) = buffers::items_of(data)
        {
            for part in parts {
                left -= show_one(own, part, left);
            }
            return;
        }
        show_one(own, data, left);
    }
}

unsafe fn show_one(own: i32, data: *mut PyObject, limit: usize) -> usize {
    // SAFETY: by the contract of `after`.
    unsafe {
        let mut view: Py_buffer = std::mem::zeroed();
        if PyObject_GetBuffer(buffers::exporter(data), &mut view, PyBUF_SIMPLE) < 0 {
            PyErr_Clear();
            return 0;
        }
        let n = limit.min(view.len as usize);
        write_in_order(own, std::slice::from_raw_parts(view.buf.cast::<u8>(), n));
        PyBuffer_Release(&mut view);
        n
    }
}

static WRITING: AtomicBool = AtomicBool::new(false);

/// Whether the replay is writing: it may have to wait.
pub fn is_writing() -> bool {
    WRITING.load(Ordering::Relaxed)
}

unsafe fn write_out(own: i32, bytes: &[u8]) {
    WRITING.store(true, Ordering::Relaxed);
    // SAFETY: by the contract of `after`.
    unsafe { write_all(own, bytes) };
    WRITING.store(false, Ordering::Relaxed);
}

unsafe fn write_all(own: i32, bytes: &[u8]) {
    // SAFETY: by the contract of `after`.
    unsafe {
        if crate::timeline::takes_output(own, bytes) {
            return;
        }
        let mut rest = crate::attempt::unseen(own, bytes);
        while !rest.is_empty() {
            let written = libc::write(own, rest.as_ptr().cast(), rest.len());
            match usize::try_from(written) {
                Ok(written) => rest = &rest[written..],
                Err(_) if crate::platform::errno() == libc::EINTR => {}
                // Nobody reads our output any more: the replay itself goes on.
                Err(_) => break,
            }
        }
    }
}
