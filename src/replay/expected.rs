//! Events that are no calls, where the program comes to what they are of.

use super::front::{read_pending_hooks, settle};
use super::{next_has, source};
use crate::call::Call;
use crate::decode::Failure;
use crate::{callback, divergence};
use pyo3_ffi::*;
use retrace_replay::event::{Event, ModuleTreatment, code};

/// After a callback ran: the log must say that it ended, and in the same way.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn expect_callback_end(serial: u64, raised: bool) -> Result<(), Failure> {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        let source = source();
        if source.at_end() || source.peek_code()? != code::CALLBACK_END {
            return Err(Failure::Missing(format!("callback {serial} ended earlier than in the recording")));
        }
        source.read_u16()?;
        let recorded = (source.read_varint()?, source.read_u8()? != 0);
        source.finish_event();
        settle();
        if recorded != (serial, raised) {
            let word = |raised| if raised { "raised" } else { "returned" };
            return Err(Failure::Missing(format!(
                "callback {serial} {}, it {} in the recording",
                word(raised),
                word(recorded.1)
            )));
        }
        Ok(())
    }
}

/// Whether the recording says, here, that this finalized object was still open. One that was closed leaves no event, so
/// the next may be another's.
///
/// # Safety
/// Replaying; the GIL is held; `object` is an external object.
pub unsafe fn finalizer_was_open(object: *mut PyObject) -> bool {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        if source().at_end() || source().peek_code().ok() != Some(code::WARNING) {
            return false;
        }
        let number = crate::external::handle_of(object).unwrap_or(0);
        let event = source().clone().next_event();
        if !matches!(event, Ok(Some((_, Event::Warning { handle }))) if handle == u64::from(number)) {
            return false;
        }
        let read = source().next_event().is_ok();
        settle();
        read
    }
}

/// An extension module is about to be loaded: it must be the recorded one. How it was treated, and what it
/// imported.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn extension_module(file: &crate::modules::ExtensionFile) -> (ModuleTreatment, String) {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        if source().at_end() || source().peek_code().ok() != Some(code::MODULE) {
            let why = format!("the extension module {} is loaded here, which the recording did not do", file.name);
            divergence::stop(None, &Failure::Missing(why));
        }
        let module = source().next_event();
        settle();
        match module {
            Ok(Some((_, Event::Module { name, size, hash, treatment, reasons, .. }))) => {
                if name.to_string_lossy() == file.name && (size, hash) != (file.size, file.hash) {
                    eprintln!(
                        "retrace: the extension module {} ({}) is another version than the recorded one: install the \
                         version that was recorded, or replay with the recorded environment (--python)",
                        file.name, file.file
                    );
                    libc::_exit(2);
                }
                (treatment, reasons.to_string_lossy())
            }
            _ => divergence::stop(None, &Failure::Missing("an extension module's event is damaged".into())),
        }
    }
}

/// An extension module's file can't be read here.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn extension_missing(call: &Call) {
    // SAFETY: by contract.
    unsafe {
        if source().at_end() || source().peek_code().ok() != Some(code::MODULE) {
            return;
        }
        let Some(&spec) = call.args.first() else { return };
        let name = crate::python::text(crate::python::attribute(spec, c"name").0);
        let file = crate::python::text(crate::python::attribute(spec, c"origin").0);
        eprintln!(
            "retrace: the extension module {name} is not here ({file}): install the version that was recorded, or \
             replay with the recorded environment (--python)"
        );
        libc::_exit(2);
    }
}

/// Runs the callback that the next event is, of no call: on a thread that Python did not make, or of an object that is freed.
/// False where it is another event.
///
/// # Safety
/// Replaying; the GIL is held.
pub unsafe fn foreign_callback() -> Result<bool, Failure> {
    // SAFETY: by contract.
    unsafe {
        read_pending_hooks();
        if next_has(code::DROPPED) {
            callback::replay_dropped();
            read_pending_hooks();
        }
        if next_has(code::FORGOTTEN) {
            callback::replay_forgotten();
            read_pending_hooks();
        }
        if !next_has(code::CALLBACK) {
            return Ok(false);
        }
        source().read_u16()?;
        callback::replay(None)?;
        Ok(true)
    }
}
