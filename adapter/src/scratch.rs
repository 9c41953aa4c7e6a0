//! The folder of a replay's own files. One whose process was killed stays behind, and the next replay removes it.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

const PREFIX: &str = "retrace-";
/// How an attempt ended.
pub const ATTEMPT: &str = "attempt";
/// The socket by which a debugged replay's copies are reached.
pub const SOCKET: &str = "debugger";
/// What a debugged replay writes to its stderr.
pub const STDERR: &str = "stderr";
/// All that there is in one.
const FILES: [&str; 3] = [ATTEMPT, SOCKET, STDERR];
/// Younger ones may not be locked yet.
const AGE: Duration = Duration::from_secs(60);

/// A folder for temporary files, removed when this is dropped.
pub struct Scratch {
    folder: TempDir,
    /// Locked as long as the folder is used.
    _lock: File,
}

impl Scratch {
    /// Makes one.
    pub fn new() -> io::Result<Scratch> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        let lock = File::open(folder.path())?;
        lock_alone(&lock)?;
        if let Some(parent) = folder.path().parent() {
            remove_left(parent);
        }
        Ok(Scratch { folder, _lock: lock })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

/// Removes what killed replays have left, as far as that is ours. Whatever goes wrong, the replay does not need it.
fn remove_left(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_named = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Not through a symbolic link.
        if is_named
            && let Ok(about) = fs::symlink_metadata(entry.path())
            && about.is_dir()
            && is_old(&about)
            && let Ok(folder) = File::open(entry.path())
            && lock_alone(&folder).is_ok()
            && is_a_replays(&entry.path())
        {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn is_old(about: &fs::Metadata) -> bool {
    about.modified().is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age > AGE))
}

/// Whether there is nothing in it but what a replay puts there.
fn is_a_replays(folder: &Path) -> bool {
    let known = |name: &str| FILES.contains(&name);
    fs::read_dir(folder)
        .is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(|e| e.file_name().to_str().is_some_and(known))))
}

fn lock_alone(folder: &File) -> rustix::io::Result<()> {
    flock(folder, FlockOperation::NonBlockingLockExclusive)
}
