//! What differs between platforms, one file each.

#[cfg(target_os = "linux")]
#[path = "platform_linux.rs"]
mod imp;
#[cfg(target_os = "macos")]
#[path = "platform_macos.rs"]
mod imp;

pub use imp::{address_size, data_size, other_address, set_other_address, written_by_ioctl};
pub use imp::{
    anonymous_file, answer_time_stamps, at_exit, confine, data_ranges, end_with_parent, errno, is_free, is_once_done,
    is_thread_asleep, key_destructor, let_timer_interrupt, other_threads_run, read_memory, refused_call, set_errno,
    set_stack, start_timer,
};
pub use imp::{thread_cpu_us, thread_id, wait_for_change, wake_all};

/// How [`wait_for_change`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waited {
    /// Perhaps: who waits looks again.
    Changed,
    /// A signal's handler ran.
    Interrupted,
    TimedOut,
}
