//! The tie between `shingle up` and its children: they end when it ends, even by `kill -9`.

use std::ffi::CString;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

use crate::failure::Failure;

/// Set for children: the process id of the `up` they belong to.
pub const PARENT_VARIABLE: &str = "SHINGLE_PARENT";
/// Set for children: what they are called in process lists.
pub const NAME_VARIABLE: &str = "SHINGLE_NAME";

/// In a child of `up`: asks the kernel for SIGTERM when the parent dies. Does nothing in a process started by hand.
pub fn die_with_parent() -> Result<(), Failure> {
    let Ok(parent) = std::env::var(PARENT_VARIABLE) else { return Ok(()) };
    set_parent_process_death_signal(Some(Signal::TERM))
        .map_err(|error| Failure::io("cannot tie this process to its parent")(error.into()))?;
    // The parent may have died before the kernel was told.
    if getppid().map(Pid::as_raw_nonzero).map(|pid| pid.to_string()) != Some(parent) {
        return Err(Failure::Interrupted);
    }
    // The program was started through /proc/self/exe, which is all process lists would show.
    let name = std::env::var(NAME_VARIABLE).unwrap_or_default();
    if let Ok(name) = CString::new(format!("shingle {name}"))
        && let Err(error) = rustix::thread::set_name(&name)
    {
        eprintln!("note: this process keeps its name: {error}");
    }
    Ok(())
}
