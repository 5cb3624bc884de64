//! Tries to break out of the jail, before the first client: what is said to be refused is refused.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, getppid, test_kill_process};
use rustix::thread::{CapabilitySet, capabilities, no_new_privs};
use tine_sys::jail::{try_user_namespace, try_writable_code};
use tine_sys::process::Fresh;

use super::layer::Layer;
use super::plan::Plan;
use crate::error::{Error, ErrorKind};

/// An attempt: the layer that refuses it, what it is, and how it is made.
type Attempt = (Layer, &'static str, fn(&Plan, &Fresh) -> AttemptEnd);

/// What came of an attempt.
enum AttemptEnd {
    Refused,
    /// It makes no sense in this jail.
    Allowed,
    Succeeded,
}

const ATTEMPTS: &[Attempt] = &[
    (Layer::Namespaces, "see a process outside", see_processes),
    (Layer::Namespaces, "reach the network", reach_network),
    (Layer::Root, "write a file of the system", write_file),
    (Layer::NoNewPrivileges, "gain privileges by a set-user-ID program", gain_privileges),
    (Layer::Capabilities, "use a capability", use_capability),
    (Layer::SystemCalls, "make a user namespace", make_namespace),
    (Layer::SystemCalls, "make a socket of another family", make_socket),
    (Layer::Files, "write a file", write_file),
    (Layer::Scope, "signal a process outside", signal),
    (Layer::WriteExecute, "make code", make_code),
];

impl Plan {
    /// Makes the attempts that the layers in force refuse, in a process that has entered the jail
    /// and exits afterwards.
    ///
    /// # Errors
    /// One of them succeeds.
    pub(crate) fn check_from_inside(&self, fresh: &Fresh) -> Result<(), Error> {
        let on = ATTEMPTS.iter().filter(|(layer, ..)| self.is_on(*layer));
        for (layer, what, attempt) in on {
            if matches!(attempt(self, fresh), AttemptEnd::Succeeded) {
                return Err(Error::new(
                    ErrorKind::Jail,
                    format_args!(
                        "the jail does not hold: a process in it can {what}, despite {}",
                        layer.name()
                    ),
                    "report it with the version of the kernel (`uname -r`); nothing is served",
                ));
            }
        }
        Ok(())
    }
}

/// Whether a call failed, or was refused.
fn refused<T, E>(result: Result<T, E>) -> AttemptEnd {
    if result.is_ok() { AttemptEnd::Succeeded } else { AttemptEnd::Refused }
}

fn gain_privileges(_: &Plan, _: &Fresh) -> AttemptEnd {
    if no_new_privs() == Ok(true) { AttemptEnd::Refused } else { AttemptEnd::Succeeded }
}

fn use_capability(plan: &Plan, _: &Fresh) -> AttemptEnd {
    let kept = plan.capabilities.unwrap_or(CapabilitySet::all());
    match capabilities(None) {
        Ok(own) if kept.contains(own.permitted | own.effective | own.inheritable) => AttemptEnd::Refused,
        _ => AttemptEnd::Succeeded,
    }
}

fn make_namespace(plan: &Plan, fresh: &Fresh) -> AttemptEnd {
    match &plan.filter {
        Some(filter) if !filter.calls.has("unshare") => refused(try_user_namespace(fresh)),
        _ => AttemptEnd::Allowed,
    }
}

/// Of the family AF_NETLINK, by which the network is configured.
fn make_socket(plan: &Plan, _: &Fresh) -> AttemptEnd {
    use rustix::net::{AddressFamily, SocketType, socket};
    let families = plan.filter.as_ref().and_then(|filter| filter.families.as_ref());
    match families {
        Some(families) if !families.has(AddressFamily::NETLINK) => {
            refused(socket(AddressFamily::NETLINK, SocketType::RAW, None))
        }
        _ => AttemptEnd::Allowed,
    }
}

/// Besides this process and the first one of the room, `/proc` shows none.
fn see_processes(_: &Plan, _: &Fresh) -> AttemptEnd {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut pids = names.filter_map(|name| name.to_str()?.parse::<i32>().ok());
    if own <= 2 && pids.all(|pid| pid <= own) { AttemptEnd::Refused } else { AttemptEnd::Succeeded }
}

/// The port answers or refuses; a network without anything has no way to it.
fn reach_network(plan: &Plan, _: &Fresh) -> AttemptEnd {
    use rustix::net::{AddressFamily, SocketType, connect, socket};
    if plan.full.as_ref().is_none_or(|full| full.has_network) {
        return AttemptEnd::Allowed;
    }
    let discard = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let connected =
        socket(AddressFamily::INET, SocketType::STREAM, None).and_then(|socket| connect(&socket, &discard));
    match connected {
        Ok(()) | Err(Errno::CONNREFUSED) => AttemptEnd::Succeeded,
        Err(_) => AttemptEnd::Refused,
    }
}

fn write_file(plan: &Plan, _: &Fresh) -> AttemptEnd {
    let may_write = |path: &Path| match (&plan.full, &plan.files) {
        (Some(full), _) => full.house.may_write(path),
        (None, rules) => rules.as_ref().is_some_and(|rules| rules.may_write(path)),
    };
    // The shared memory of a full jail is in its `/tmp`.
    let shared = if plan.full.is_some() { "/etc" } else { "/dev/shm" };
    let directories = ["/tmp", "/var/tmp", shared, "/usr", "/run", "/"].map(Path::new);
    let refused = directories.into_iter().filter(|path| !may_write(path));
    for directory in refused {
        let name = directory.join(format!(".tine-{}", rustix::process::getpid().as_raw_nonzero()));
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        if openat(CWD, &name, flags, Mode::RUSR).is_ok() {
            let _ = unlinkat(CWD, &name, AtFlags::empty());
            return AttemptEnd::Succeeded;
        }
    }
    AttemptEnd::Refused
}

/// The parent is a process of the same user, at most.
fn signal(_: &Plan, _: &Fresh) -> AttemptEnd {
    refused(getppid().ok_or(Errno::SRCH).and_then(|parent: Pid| test_kill_process(parent)))
}

fn make_code(_: &Plan, _: &Fresh) -> AttemptEnd {
    refused::<(), io::Error>(try_writable_code())
}
