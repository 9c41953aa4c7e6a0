//! What a copy of a replay may still do in which code runs that was never recorded: nothing that reaches outside. The
//! kernel refuses all system calls (seccomp) but those that only compute, look, wait, or end the copy.

use std::ffi::{c_int, c_long, c_void};
use std::sync::atomic::{AtomicI64, Ordering};

/// The first call that was refused, or -1.
static REFUSED: AtomicI64 = AtomicI64::new(-1);

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

/// What may be called however.
const ALLOWED: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_memfd_create,
    libc::SYS_ftruncate,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_msync,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_times,
    libc::SYS_getrusage,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getpgid,
    libc::SYS_getsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getgroups,
    libc::SYS_getpriority,
    libc::SYS_process_vm_readv,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_delete,
    // Copies of the copy are confined too.
    libc::SYS_clone,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_select,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_getpgrp,
];

/// What may be called depending on an argument.
enum Allowed {
    /// None of these bits in it.
    Without(u32),
    /// This at least.
    From(u32),
    /// One of these.
    OneOf(&'static [u32]),
}

/// No file is made or written to: only those are open for writing that were when the copy was made, of which the
/// standard ones may be somebody's.
const WRITES: u32 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u32;
const STANDARD: u32 = 3;

const DEPENDING: &[(c_long, u32, Allowed)] = &[
    (libc::SYS_openat, 2, Allowed::Without(WRITES)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1, Allowed::Without(WRITES)),
    (libc::SYS_write, 0, Allowed::From(STANDARD)),
    (libc::SYS_writev, 0, Allowed::From(STANDARD)),
    // By the socket that the copy has to the debugger; there is no other.
    (libc::SYS_sendto, 4, Allowed::OneOf(&[0])),
    (libc::SYS_recvfrom, 4, Allowed::OneOf(&[0])),
    (
        libc::SYS_fcntl,
        1,
        Allowed::OneOf(&[
            libc::F_DUPFD as u32,
            libc::F_DUPFD_CLOEXEC as u32,
            libc::F_GETFD as u32,
            libc::F_SETFD as u32,
            libc::F_GETFL as u32,
            libc::F_SETFL as u32,
        ]),
    ),
    (libc::SYS_ioctl, 1, Allowed::OneOf(&[libc::TCGETS as u32, libc::TIOCGWINSZ as u32, libc::FIONREAD as u32])),
    // A limit may be asked for, not set.
    (libc::SYS_prlimit64, 2, Allowed::OneOf(&[0])),
];

/// Names of what is refused, for the user.
const NAMES: &[(c_long, &str)] = &[
    (libc::SYS_openat, "open"),
    (libc::SYS_write, "write"),
    (libc::SYS_unlinkat, "unlink"),
    (libc::SYS_mkdirat, "mkdir"),
    (libc::SYS_renameat2, "rename"),
    (libc::SYS_linkat, "link"),
    (libc::SYS_symlinkat, "symlink"),
    (libc::SYS_fchmodat, "chmod"),
    (libc::SYS_fchownat, "chown"),
    (libc::SYS_truncate, "truncate"),
    (libc::SYS_utimensat, "utime"),
    (libc::SYS_chdir, "chdir"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_connect, "connect"),
    (libc::SYS_sendto, "send"),
    (libc::SYS_kill, "kill"),
    (libc::SYS_tgkill, "kill"),
    (libc::SYS_ptrace, "ptrace"),
    (libc::SYS_execve, "exec"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, "open"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, "symlink"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, "chmod"),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, "chown"),
];

/// What was refused since this was last asked.
pub fn refused_call() -> Option<String> {
    // Relaxed: written by a handler on this very thread.
    let number = REFUSED.swap(-1, Ordering::Relaxed);
    if number < 0 {
        return None;
    }
    let name = NAMES.iter().find(|(call, _)| *call == number).map(|(_, name)| (*name).to_owned());
    Some(name.unwrap_or_else(|| format!("system call {number}")))
}

/// The kernel's signal for a call that the filter does not let pass.
extern "C" fn refuse(_signal: c_int, _about: *mut libc::siginfo_t, context: *mut c_void) {
    let context = context.cast::<libc::ucontext_t>();
    // SAFETY: called by the kernel with the interrupted call's registers: its number is in, its result goes into, the same
    // one, or the eighth and the first.
    let number = unsafe {
        #[cfg(target_arch = "x86_64")]
        {
            let result = &mut (*context).uc_mcontext.gregs[libc::REG_RAX as usize];
            let number = *result;
            *result = -i64::from(libc::EPERM);
            number
        }
        #[cfg(target_arch = "aarch64")]
        {
            let registers = &mut (*context).uc_mcontext.regs;
            registers[0] = -i64::from(libc::EPERM) as u64;
            registers[8] as i64
        }
    };
    let _ = REFUSED.compare_exchange(-1, number, Ordering::Relaxed, Ordering::Relaxed);
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const AND: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn filter() -> Vec<libc::sock_filter> {
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // Goes on with the next one, or passes over so many.
    let unless = |code, k, over| libc::sock_filter { code, jt: 0, jf: over, k };
    let (allow, trap) = (step(RETURN, libc::SECCOMP_RET_ALLOW), step(RETURN, libc::SECCOMP_RET_TRAP));
    // struct seccomp_data: the number, the architecture, the instruction's address, the arguments.
    let is_ours = libc::sock_filter { code: EQUAL, jt: 1, jf: 0, k: ARCHITECTURE };
    let mut filter = vec![step(LOAD, 4), is_ours, trap, step(LOAD, 0)];
    for call in ALLOWED {
        filter.extend([unless(EQUAL, *call as u32, 1), allow]);
    }
    for (call, argument, allowed) in DEPENDING {
        let mut test = vec![step(LOAD, 16 + 8 * argument)];
        match allowed {
            Allowed::Without(bits) => test.extend([step(AND, *bits), unless(EQUAL, 0, 1), allow]),
            Allowed::From(least) => test.extend([unless(AT_LEAST, *least, 1), allow]),
            Allowed::OneOf(values) => {
                for value in *values {
                    test.extend([unless(EQUAL, *value, 1), allow]);
                }
            }
        }
        test.push(trap);
        filter.push(unless(EQUAL, *call as u32, test.len() as u8));
        filter.extend(test);
    }
    // The C library then uses the older call.
    filter.push(unless(EQUAL, libc::SYS_clone3 as u32, 1));
    filter.push(step(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32));
    filter.push(trap);
    filter
}

/// From now on this process reaches nothing outside. False where the kernel has no filters.
///
/// # Safety
/// In a copy that is thrown away; this thread is the only one.
pub unsafe fn confine() -> bool {
    // SAFETY: plain data for which zeros are valid; a program that outlives the call.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = refuse as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigaction(libc::SIGSYS, &action, std::ptr::null_mut());
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, libc::SIGSYS);
        libc::sigprocmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
        let mut filter = filter();
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) == 0
    }
}
