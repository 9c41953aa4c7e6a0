//! What callbacks of external calls returned. Strong references, so that what is returned to C can be named when C passes it
//! on, in both directions: until the call ends, or until the recorder has the only reference left, which it looks at when
//! the next callback begins, so that what many callbacks return (the rows of an `executemany`) is not piled up, and objects
//! die before the next line of Python runs, as they would have.

use crate::python::Owned;
use pyo3_ffi::*;
use rustc_hash::{FxBuildHasher, FxHashMap};
use std::ptr;

/// So many of the newest are looked at each time, and all of them once there are twice as many as were left of the last
/// such look.
const NEWEST: usize = 4;
const FEW: usize = 64;

#[repr(C)] // The length of the list is on the cache line of what every call touches.
pub struct Results {
    /// In the order of their making; of those that are only held there is no number.
    list: Vec<(Option<u64>, *mut PyObject)>,
    by_serial: FxHashMap<u64, *mut PyObject>,
    /// The number of an object, and the level that it is of.
    by_object: FxHashMap<usize, (u64, usize)>,
    /// Of the last callback.
    last: Option<u64>,
    /// Those before are of calls in whose callbacks this one is.
    level: usize,
    /// All are to be looked at when there are so many of this level.
    full: usize,
}

impl Results {
    pub const fn new() -> Results {
        Results {
            list: Vec::new(),
            by_serial: FxHashMap::with_hasher(FxBuildHasher),
            by_object: FxHashMap::with_hasher(FxBuildHasher),
            last: None,
            level: 0,
            full: 0,
        }
    }

    #[inline(always)]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// A callback runs: what comes is of calls within it. Returns what [`Results::leave`] is to be given.
    pub fn enter(&mut self) -> (usize, usize) {
        (std::mem::replace(&mut self.level, self.list.len()), std::mem::take(&mut self.full))
    }

    pub fn leave(&mut self, outer: (usize, usize)) {
        (self.level, self.full) = outer;
    }

    /// Keeps what the callback with this number returned or raised. One object is kept once, by its first number.
    ///
    /// # Safety
    /// The GIL is held; `object` is live.
    pub unsafe fn keep(&mut self, serial: u64, object: *mut PyObject) {
        // SAFETY: by contract.
        let is_number = unsafe { PyLong_CheckExact(object) != 0 || PyFloat_CheckExact(object) != 0 };
        // SAFETY: as above.
        if is_number || unsafe { PyBool_Check(object) != 0 || object == Py_None() } {
            return;
        }
        if let Some(&(first, level)) = self.by_object.get(&(object as usize))
            && level == self.level
        {
            self.last = Some(first);
            return;
        }
        // SAFETY: as above.
        self.list.push((Some(serial), unsafe { Owned::borrowed(object) }.into_raw()));
        self.by_serial.insert(serial, object);
        self.by_object.insert(object as usize, (serial, self.level));
        self.last = Some(serial);
    }

    /// Keeps an object until the external call has ended.
    ///
    /// # Safety
    /// As [`Results::keep`].
    pub unsafe fn hold(&mut self, object: *mut PyObject) {
        // SAFETY: by contract.
        self.list.push((None, unsafe { Owned::borrowed(object) }.into_raw()));
    }

    /// The number of the callback that returned this very object.
    pub fn serial_of(&self, object: *mut PyObject) -> Option<u64> {
        self.by_object.get(&(object as usize)).map(|known| known.0)
    }

    /// The number of the newest result that is as wanted.
    pub fn find(&self, mut is_wanted: impl FnMut(*mut PyObject) -> bool) -> Option<u64> {
        self.list.iter().rev().find_map(|&(serial, object)| serial.filter(|_| is_wanted(object)))
    }

    /// The newest of them with their numbers, borrowed, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = (u64, *mut PyObject)> {
        self.list.iter().rev().take(NEWEST).filter_map(|&(serial, object)| Some((serial?, object)))
    }

    /// What the callback with this number returned, borrowed, or null.
    pub fn result_of(&self, serial: u64) -> *mut PyObject {
        self.by_serial.get(&serial).copied().unwrap_or(ptr::null_mut())
    }

    /// What the last callback returned since there were so many results, borrowed, or null.
    pub fn last_since(&self, before: usize) -> *mut PyObject {
        let found = self.list[before..].iter().rev().find(|(serial, _)| serial.is_some() && *serial == self.last);
        found.map_or(ptr::null_mut(), |(_, object)| *object)
    }

    /// Takes out all but the first so many. The references are the caller's.
    pub fn take_after(&mut self, kept: usize) -> Vec<*mut PyObject> {
        let taken = self.list.split_off(kept);
        taken.iter().for_each(|&(serial, object)| self.forget(serial, object));
        if kept <= self.level {
            self.full = 0;
        }
        taken.into_iter().map(|(_, object)| object).collect()
    }

    /// Takes out what nobody else refers to, of the present level. The references are the caller's.
    ///
    /// # Safety
    /// The GIL is held.
    pub unsafe fn take_forgotten(&mut self) -> Vec<(u64, *mut PyObject)> {
        let count = self.list.len() - self.level;
        let is_all = count > self.full.max(FEW);
        let from = if is_all { self.level } else { self.list.len() - count.min(NEWEST) };
        let is_forgotten = |&mut (serial, object): &mut (Option<u64>, *mut PyObject)| {
            // SAFETY: by contract; these references are ours.
            serial.is_some() && unsafe { Py_REFCNT(object) } == 1
        };
        let taken: Vec<_> = self.list.extract_if(from.., is_forgotten).collect();
        if is_all {
            self.full = 2 * (self.list.len() - self.level);
        }
        taken.iter().for_each(|&(serial, object)| self.forget(serial, object));
        taken.into_iter().filter_map(|(serial, object)| Some((serial?, object))).collect()
    }

    /// Takes out what the recording took out; the numbers are in their order. The references are the caller's.
    pub fn take(&mut self, serials: &[u64]) -> Vec<*mut PyObject> {
        let level = self.level.min(self.list.len());
        let is_it = |(serial, _): &mut (Option<u64>, *mut PyObject)| {
            serial.is_some_and(|it| serials.binary_search(&it).is_ok())
        };
        // They are among the last ones, but for a look at all.
        let near = self.list.len().saturating_sub(2 * NEWEST).max(level);
        let mut taken: Vec<_> = self.list.extract_if(near.., is_it).collect();
        if taken.len() < serials.len() {
            taken.extend(self.list.extract_if(level.., is_it));
        }
        taken.iter().for_each(|&(serial, object)| self.forget(serial, object));
        taken.into_iter().map(|(_, object)| object).collect()
    }

    fn forget(&mut self, serial: Option<u64>, object: *mut PyObject) {
        let Some(serial) = serial else { return };
        self.by_serial.remove(&serial);
        if self.by_object.get(&(object as usize)).is_some_and(|known| known.0 == serial) {
            self.by_object.remove(&(object as usize));
        }
    }
}
