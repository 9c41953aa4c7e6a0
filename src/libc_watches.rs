//! epoll: a program is told of a descriptor by data of its own, often an address. The log has the descriptor in its place, and
//! replay finds what that is called there.

use crate::console;
use crate::libc_calls::Arguments;
use crate::libc_memory::{Reader, put_number};
use crate::libc_table::{Function, Shape};
use crate::turns::locked;
use retrace_abi::boundary::Fds;
use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{LazyLock, Mutex};

/// `struct epoll_event`: packed on one architecture.
const EVENT: usize = if cfg!(target_arch = "x86_64") { 12 } else { 16 };
const EVENT_DATA: usize = EVENT - 8;

/// EPOLL_CTL_DEL, on every architecture.
pub const STOP_WATCHING: c_int = 2;

/// An epoll instance, which several descriptors may stand for: tokio adds to a duplicate, and waits for the first.
type Instance = u32;

#[derive(Default)]
struct Watched {
    instances: HashMap<c_int, Instance>,
    made: Instance,
    /// What each watched descriptor is called …
    data: HashMap<(Instance, c_int), u64>,
    /// … and which one is called so. Where two are, the program can't tell them apart either, or one is no longer watched: it
    /// is the last.
    descriptors: HashMap<(Instance, u64), c_int>,
}

static WATCHED: LazyLock<Mutex<Watched>> = LazyLock::new(Mutex::default);

impl Watched {
    fn instance(&mut self, epoll: c_int) -> Instance {
        match self.instances.get(&epoll) {
            Some(&instance) => instance,
            None => self.make(epoll),
        }
    }

    fn make(&mut self, epoll: c_int) -> Instance {
        self.made += 1;
        self.stands_for(epoll, Some(self.made));
        self.made
    }

    /// `epoll` stands for `instance` from now on. What it stood for is forgotten where nothing else does.
    fn stands_for(&mut self, epoll: c_int, instance: Option<Instance>) {
        let before = match instance {
            Some(instance) => self.instances.insert(epoll, instance),
            None => self.instances.remove(&epoll),
        };
        if let Some(before) = before
            && !self.instances.values().any(|&other| other == before)
        {
            self.data.retain(|(of, _), _| *of != before);
            self.descriptors.retain(|(of, _), _| *of != before);
        }
    }

    fn watch(&mut self, epoll: c_int, fd: c_int, data: u64) {
        let instance = self.instance(epoll);
        let before = self.data.insert((instance, fd), data);
        if let Some(before) = before.filter(|&before| before != data)
            && self.descriptors.get(&(instance, before)) == Some(&fd)
        {
            self.descriptors.remove(&(instance, before));
        }
        self.descriptors.insert((instance, data), fd);
    }
}

/// After a call that succeeded: what is watched from now on, and by which descriptors.
///
/// # Safety
/// The arguments are those that the function was called with.
pub unsafe fn note(function: &Function, args: &Arguments, result: usize) {
    let [first, second, third] = [args[0], args[1], args[2]].map(|argument| argument as c_int);
    let duplicate = match function.fds {
        Fds::Open if function.name.to_bytes().starts_with(b"epoll_create") => {
            locked(&WATCHED).make(result as c_int);
            return;
        }
        Fds::Dup => result as c_int,
        Fds::Dup2 => second,
        Fds::Fcntl if console::duplicates(second.into()) => result as c_int,
        Fds::None
            if args[3] != 0 && second != STOP_WATCHING && matches!(function.arguments.get(3), Some(Shape::Watch)) =>
        {
            // SAFETY: by contract, an event. One that is no longer watched is not met again.
            let data = unsafe { ((args[3] + EVENT_DATA) as *const u64).read_unaligned() };
            locked(&WATCHED).watch(first, third, data);
            return;
        }
        _ => return,
    };
    let mut watched = locked(&WATCHED);
    let instance = watched.instances.get(&first).copied();
    if duplicate != first && (instance.is_some() || watched.instances.contains_key(&duplicate)) {
        watched.stands_for(duplicate, instance);
    }
}

/// The events met, each with the descriptor in place of its data.
///
/// # Safety
/// As [`note`]; as many events were written to `address` as were returned.
pub unsafe fn met(args: &Arguments, address: usize, result: usize) -> Vec<u8> {
    let mut watched = locked(&WATCHED);
    let instance = watched.instance(args[0] as c_int);
    let mut out = Vec::new();
    for event in 0..usize::try_from(result as c_int).unwrap_or(0) {
        let at = address + event * EVENT;
        // SAFETY: by contract.
        let (events, data) = unsafe { (*(at as *const u32), ((at + EVENT_DATA) as *const u64).read_unaligned()) };
        let fd = watched.descriptors.get(&(instance, data)).copied().unwrap_or(-1);
        put_number(&mut out, events);
        put_number(&mut out, fd as u32);
    }
    out
}

/// Has the recorded events be met by the names that their descriptors have here.
///
/// # Safety
/// As [`note`]; there is room for so many events at `address` as the arguments say.
pub unsafe fn make(args: &Arguments, address: usize, bytes: &[u8]) {
    let mut watched = locked(&WATCHED);
    let instance = watched.instance(args[0] as c_int);
    let room = usize::try_from(args[2] as c_int).unwrap_or(0);
    let mut reader = Reader(bytes);
    for event in 0..room.min(bytes.len() / 8) {
        let (events, fd) = (reader.number(), reader.number() as c_int);
        let data = watched.data.get(&(instance, fd)).copied().unwrap_or_default();
        let at = address + event * EVENT;
        // SAFETY: by contract.
        unsafe {
            (at as *mut u32).write_unaligned(events);
            ((at + EVENT_DATA) as *mut u64).write_unaligned(data);
        }
    }
}
