//! The first steps of a process that helps the supervisor and serves nobody.

use std::ffi::CStr;

use rustix::process::Pid;
use tine_sys::process::exit_now;

use crate::processes::conn::kill_on_exit_of;
use crate::settings::Settings;

/// Gives the process a name and a group of its own: a terminal's Ctrl-C or a signal to another group does
/// not reach it.
pub(crate) fn begin(name: &CStr) {
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::thread::set_name(name);
}

/// The same for one that only waits for descriptors: it needs no privilege, and dies with the supervisor.
pub(crate) fn enter(settings: &Settings, supervisor: Pid, name: &CStr) {
    begin(name);
    if let (Some(identity), Ok(alone)) = (&settings.identity, tine_sys::process::Alone::check())
        && tine_sys::identity::become_user(&alone, &identity.to_ids()).is_err()
    {
        exit_now(111);
    }
    kill_on_exit_of(supervisor);
}
