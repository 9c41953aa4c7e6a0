//! What threads wait for each other with in a library's own code, where they take turns (`crate::turns`): condition
//! variables, semaphores, read-write locks, futexes, and yielding. A thread that has the turn never waits in the system: it
//! gives the turn up until somebody else, who has it then, has done what it waits for. So who gets what is told by the order
//! of turns, and nothing is logged but a wait whose time was over.
//!
//! A thread without the turn does all of this with the system, as if we were not there.

use crate::gil::GilCell;
use crate::hook::{self, Hook};
use crate::imports::{self, Binding, replaced};
use crate::session::{self, Mode};
use crate::turns::{self, Deadline};
use crate::{divergence, libc_ipc, library_locks, native_handlers, platform, replay, schedule, user_threads};
use retrace_replay::event::{Call, NO_FRAME, Outcome};
use std::collections::HashMap;
use std::ffi::{CStr, c_int, c_long, c_void};
use std::ptr;
use std::sync::{LazyLock, Mutex, MutexGuard};

type Cond = *mut libc::pthread_cond_t;
type NativeMutex = *mut libc::pthread_mutex_t;
type RwLock = *mut libc::pthread_rwlock_t;
type Semaphore = *mut libc::sem_t;
type Time = *const libc::timespec;

const FUNCTIONS: usize = 18;
static mut NEXT: [*mut c_void; FUNCTIONS] = [ptr::null_mut(); FUNCTIONS];

static HOOK: GilCell<Option<&'static Hook>> = GilCell::new(None);

/// What is put into an extension module's import table.
///
/// # Safety
/// In a session; the GIL is held.
pub unsafe fn bindings() -> Vec<Binding> {
    let functions: [(&CStr, *mut c_void); FUNCTIONS] = [
        (c"pthread_cond_init", cond_init as *mut c_void),
        (c"pthread_cond_destroy", cond_destroy as *mut c_void),
        (c"pthread_cond_wait", cond_wait as *mut c_void),
        (c"pthread_cond_timedwait", cond_timedwait as *mut c_void),
        (c"pthread_cond_clockwait", cond_clockwait as *mut c_void),
        (c"pthread_cond_signal", cond_signal as *mut c_void),
        (c"pthread_cond_broadcast", cond_broadcast as *mut c_void),
        (c"pthread_rwlock_rdlock", read_lock as *mut c_void),
        (c"pthread_rwlock_wrlock", write_lock as *mut c_void),
        (c"pthread_rwlock_unlock", rwlock_unlock as *mut c_void),
        (c"sem_wait", sem_wait as *mut c_void),
        (c"sem_timedwait", sem_timedwait as *mut c_void),
        (c"sem_clockwait", sem_clockwait as *mut c_void),
        (c"sem_post", sem_post as *mut c_void),
        (c"sched_yield", sched_yield as *mut c_void),
        (c"syscall", syscall as *mut c_void),
        (c"pthread_mutex_timedlock", mutex_timedlock as *mut c_void),
        (c"pthread_mutex_clocklock", mutex_clocklock as *mut c_void),
    ];
    // SAFETY: by contract.
    unsafe {
        let name = "libc.pthread_cond_timedwait";
        HOOK.get().get_or_insert_with(|| hook::of_library(name));
    }
    // SAFETY: `NEXT` has a place for each.
    unsafe { imports::optional(functions, (&raw mut NEXT).cast()) }
}

/// Whether the calling thread has the turn, in a session that is not a diversion.
pub fn in_turn() -> bool {
    // SAFETY: called by an extension module's code.
    turns::are_on() && unsafe { matches!(native_handlers::mode(), Mode::Recording | Mode::Replaying) } && turns::has()
}

/// A wait of the calling thread's ended, and nobody has done what it waited for: its time is over.
///
/// # Safety
/// In a session; the calling thread has the turn.
pub unsafe fn timed_out(has_deadline: bool) {
    // SAFETY: by contract.
    unsafe {
        let index = HOOK.get().map_or(0, |hook| hook.index);
        match session::mode() {
            Mode::Recording if turns::has() && !turns::is_in_call() => {
                let arguments = Some(Vec::new());
                schedule::append_native_call(Call { hook: index, at: NO_FRAME, arguments, outcome: Outcome::None });
            }
            Mode::Replaying => {
                if has_deadline && replay::front_call(index).is_some() {
                    user_threads::pass_native_call();
                } else if replay::source().at_end() {
                    divergence::recording_cut("a wait by C code");
                } else {
                    user_threads::lost_without_gil("C code waits here for what no thread has done".into());
                }
            }
            _ => {}
        }
    }
}

// ---- condition variables ----

/// The clocks of those whose time-outs are not by the clock on the wall.
static CLOCKS: LazyLock<Mutex<HashMap<usize, libc::clockid_t>>> = LazyLock::new(Mutex::default);

fn clocks() -> MutexGuard<'static, HashMap<usize, libc::clockid_t>> {
    turns::locked(&CLOCKS)
}

#[cfg(target_os = "linux")]
unsafe fn clock_of(attributes: *const libc::pthread_condattr_t) -> libc::clockid_t {
    let mut clock = libc::CLOCK_REALTIME;
    if !attributes.is_null() {
        // SAFETY: the caller's attributes.
        unsafe { libc::pthread_condattr_getclock(attributes, &mut clock) };
    }
    clock
}

#[cfg(not(target_os = "linux"))]
unsafe fn clock_of(_: *const libc::pthread_condattr_t) -> libc::clockid_t {
    libc::CLOCK_REALTIME
}

unsafe extern "C" fn cond_init(cond: Cond, attributes: *const libc::pthread_condattr_t) -> c_int {
    // SAFETY: called by an extension module with pthread_cond_init's arguments.
    unsafe {
        match clock_of(attributes) {
            libc::CLOCK_REALTIME => clocks().remove(&(cond as usize)),
            clock => clocks().insert(cond as usize, clock),
        };
        replaced!(NEXT[0], Cond, *const libc::pthread_condattr_t => c_int)(cond, attributes)
    }
}

unsafe extern "C" fn cond_destroy(cond: Cond) -> c_int {
    clocks().remove(&(cond as usize));
    // SAFETY: as above.
    unsafe { replaced!(NEXT[1], Cond => c_int)(cond) }
}

unsafe fn wait_for_signal(cond: Cond, mutex: NativeMutex, until: Option<Deadline>) -> c_int {
    // SAFETY: the calling thread has the turn and the mutex.
    unsafe {
        let woken = turns::wait_at(cond as usize, until, || library_locks::unlock_in_turn(mutex));
        library_locks::lock_in_turn(mutex, None);
        if woken { 0 } else { libc::ETIMEDOUT }
    }
}

unsafe extern "C" fn cond_wait(cond: Cond, mutex: NativeMutex) -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if in_turn() {
            return wait_for_signal(cond, mutex, None);
        }
        replaced!(NEXT[2], Cond, NativeMutex => c_int)(cond, mutex)
    }
}

unsafe extern "C" fn cond_timedwait(cond: Cond, mutex: NativeMutex, until: Time) -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if in_turn() {
            let clock = clocks().get(&(cond as usize)).copied().unwrap_or(libc::CLOCK_REALTIME);
            return wait_for_signal(cond, mutex, Some(Deadline { clock, at: *until }));
        }
        replaced!(NEXT[3], Cond, NativeMutex, Time => c_int)(cond, mutex, until)
    }
}

unsafe extern "C" fn cond_clockwait(cond: Cond, mutex: NativeMutex, clock: libc::clockid_t, until: Time) -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if in_turn() {
            return wait_for_signal(cond, mutex, Some(Deadline { clock, at: *until }));
        }
        replaced!(NEXT[4], Cond, NativeMutex, libc::clockid_t, Time => c_int)(cond, mutex, clock, until)
    }
}

// Some may wait here, and others, who have no turn, in the system.

unsafe extern "C" fn cond_signal(cond: Cond) -> c_int {
    let _inside = turns::enter();
    if turns::wake(cond as usize, 1) > 0 {
        return 0;
    }
    // SAFETY: as above.
    unsafe { replaced!(NEXT[5], Cond => c_int)(cond) }
}

unsafe extern "C" fn cond_broadcast(cond: Cond) -> c_int {
    let _inside = turns::enter();
    turns::wake(cond as usize, usize::MAX);
    // SAFETY: as above.
    unsafe { replaced!(NEXT[6], Cond => c_int)(cond) }
}

// ---- mutexes with a time-out; the others are in `library_locks` ----

unsafe extern "C" fn mutex_timedlock(mutex: NativeMutex, until: Time) -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if in_turn() {
            return library_locks::lock_in_turn(mutex, Some(Deadline { clock: libc::CLOCK_REALTIME, at: *until }));
        }
        replaced!(NEXT[16], NativeMutex, Time => c_int)(mutex, until)
    }
}

unsafe extern "C" fn mutex_clocklock(mutex: NativeMutex, clock: libc::clockid_t, until: Time) -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if in_turn() {
            return library_locks::lock_in_turn(mutex, Some(Deadline { clock, at: *until }));
        }
        replaced!(NEXT[17], NativeMutex, libc::clockid_t, Time => c_int)(mutex, clock, until)
    }
}

// ---- read-write locks and semaphores ----

/// Tries until it is not busy, and waits in between for somebody to let it go. Returns the last try's result.
unsafe fn try_until_free(address: usize, until: Option<Deadline>, attempt: impl Fn() -> Option<c_int>) -> c_int {
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        // SAFETY: the calling thread has the turn.
        if !unsafe { turns::wait_at(address, until, || {}) } && until.is_some() {
            return libc::ETIMEDOUT;
        }
        if !in_turn() {
            return libc::EAGAIN;
        }
    }
}

type TakeRwLock = unsafe extern "C" fn(RwLock) -> c_int;

/// Takes a read-write lock, by trying where there are turns, and as the system does where there are none.
unsafe fn take_rwlock(lock: RwLock, next: TakeRwLock, attempt: TakeRwLock) -> c_int {
    let _inside = turns::enter();
    // SAFETY: called for an extension module with the lock that it wants.
    unsafe {
        if in_turn() {
            let unless_busy = |result| (result != libc::EBUSY).then_some(result);
            let result = try_until_free(lock as usize, None, || unless_busy(attempt(lock)));
            if result != libc::EAGAIN {
                return result;
            }
        }
        next(lock)
    }
}

unsafe extern "C" fn read_lock(lock: RwLock) -> c_int {
    // SAFETY: as above.
    unsafe { take_rwlock(lock, replaced!(NEXT[7], RwLock => c_int), libc::pthread_rwlock_tryrdlock) }
}

unsafe extern "C" fn write_lock(lock: RwLock) -> c_int {
    // SAFETY: as above.
    unsafe { take_rwlock(lock, replaced!(NEXT[8], RwLock => c_int), libc::pthread_rwlock_trywrlock) }
}

unsafe extern "C" fn rwlock_unlock(lock: RwLock) -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        let result = replaced!(NEXT[9], RwLock => c_int)(lock);
        turns::wake(lock as usize, usize::MAX);
        result
    }
}

unsafe fn wait_for_post(semaphore: Semaphore, until: Option<Deadline>) -> Option<c_int> {
    // SAFETY: the calling thread has the turn.
    unsafe {
        let result = try_until_free(semaphore as usize, until, || (libc::sem_trywait(semaphore) == 0).then_some(0));
        match result {
            0 => Some(0),
            libc::EAGAIN => None,
            error => {
                platform::set_errno(error);
                Some(-1)
            }
        }
    }
}

unsafe extern "C" fn sem_wait(semaphore: Semaphore) -> c_int {
    // SAFETY: called by an extension module with its arguments.
    if let Some(result) = unsafe { libc_ipc::of_named(c"sem_wait", semaphore, [0; 2]) } {
        return result;
    }
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if in_turn()
            && let Some(result) = wait_for_post(semaphore, None)
        {
            return result;
        }
        replaced!(NEXT[10], Semaphore => c_int)(semaphore)
    }
}

unsafe extern "C" fn sem_timedwait(semaphore: Semaphore, until: Time) -> c_int {
    // SAFETY: called by an extension module with its arguments.
    if let Some(result) = unsafe { libc_ipc::of_named(c"sem_timedwait", semaphore, [until as usize, 0]) } {
        return result;
    }
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if in_turn()
            && let Some(result) = wait_for_post(semaphore, Some(Deadline { clock: libc::CLOCK_REALTIME, at: *until }))
        {
            return result;
        }
        replaced!(NEXT[11], Semaphore, Time => c_int)(semaphore, until)
    }
}

unsafe extern "C" fn sem_clockwait(semaphore: Semaphore, clock: libc::clockid_t, until: Time) -> c_int {
    // SAFETY: called by an extension module with its arguments.
    if let Some(result) = unsafe { libc_ipc::of_named(c"sem_clockwait", semaphore, [clock as usize, until as usize]) } {
        return result;
    }
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        if in_turn()
            && let Some(result) = wait_for_post(semaphore, Some(Deadline { clock, at: *until }))
        {
            return result;
        }
        replaced!(NEXT[12], Semaphore, libc::clockid_t, Time => c_int)(semaphore, clock, until)
    }
}

unsafe extern "C" fn sem_post(semaphore: Semaphore) -> c_int {
    // SAFETY: called by an extension module with its arguments.
    if let Some(result) = unsafe { libc_ipc::of_named(c"sem_post", semaphore, [0; 2]) } {
        return result;
    }
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        let result = replaced!(NEXT[13], Semaphore => c_int)(semaphore);
        turns::wake(semaphore as usize, 1);
        result
    }
}

// ---- yielding and raw system calls ----

unsafe extern "C" fn sched_yield() -> c_int {
    let _inside = turns::enter();
    // SAFETY: as above.
    unsafe {
        let next = replaced!(NEXT[14], => c_int);
        if in_turn() {
            return turns::without(|| if session::mode() == Mode::Replaying { 0 } else { next() });
        }
        next()
    }
}

#[cfg(target_os = "linux")]
unsafe extern "C" fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    // SAFETY: called by an extension module with syscall's arguments, and whatever stood behind them.
    unsafe {
        let next = replaced!(NEXT[15], c_long, usize, usize, usize, usize, usize, usize => c_long);
        match number {
            libc::SYS_futex if turns::are_on() => {
                let _inside = turns::enter();
                futex(a, b as c_int, c as u32, d as Time).unwrap_or_else(|| next(number, a, b, c, d, e, f))
            }
            // What is put into such a ring does not pass us.
            libc::SYS_io_uring_setup if native_handlers::mode() != Mode::Off => {
                platform::set_errno(libc::ENOSYS);
                -1
            }
            _ => match crate::libc_calls::by_number(number) {
                Some(place) => crate::libc_calls::enter_by_number(place, [number as usize, a, b, c, d, e, f]),
                None => next(number, a, b, c, d, e, f),
            },
        }
    }
}

#[cfg(not(target_os = "linux"))]
unsafe extern "C" fn syscall(number: c_long, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> c_long {
    // SAFETY: as above.
    unsafe { replaced!(NEXT[15], c_long, usize, usize, usize, usize, usize, usize => c_long)(number, a, b, c, d, e, f) }
}

/// `None`: it is for the system to do.
#[cfg(target_os = "linux")]
unsafe fn futex(address: usize, operation: c_int, value: u32, time: Time) -> Option<c_long> {
    // SAFETY: by the contract of `syscall`: the operation's own arguments.
    unsafe {
        match operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
            wait @ (libc::FUTEX_WAIT | libc::FUTEX_WAIT_BITSET) if in_turn() => {
                if std::sync::atomic::AtomicU32::from_ptr(address as *mut u32).load(std::sync::atomic::Ordering::SeqCst)
                    != value
                {
                    platform::set_errno(libc::EAGAIN);
                    return Some(-1);
                }
                let realtime = operation & libc::FUTEX_CLOCK_REALTIME != 0;
                let clock = if realtime { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC };
                let until = time.as_ref().map(|&at| match wait {
                    libc::FUTEX_WAIT => Deadline::after(at),
                    _ => Deadline { clock, at },
                });
                if turns::wait_at(address, until, || {}) {
                    return Some(0);
                }
                platform::set_errno(libc::ETIMEDOUT);
                Some(-1)
            }
            libc::FUTEX_WAKE | libc::FUTEX_WAKE_BITSET => {
                // Some may wait in the system, who have no turn.
                let woken = turns::wake(address, value as usize) as c_long;
                (in_turn() || woken > 0).then_some(woken)
            }
            _ => None,
        }
    }
}
