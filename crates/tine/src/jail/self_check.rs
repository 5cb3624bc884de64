//! Tries to break out of the jail, before the first client: what is said to be refused is refused.

use std::io;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, getppid, test_kill_process};
use rustix::thread::{CapabilitySet, capabilities, no_new_privs};
use tine_sys::jail::{try_user_namespace, try_writable_code};
use tine_sys::process::{Alone, Fresh, How, Side, exit_now, fork, wait_for};

use super::choices::PrivateNetwork;
use super::client_socket::ClientSocket;
use super::filter::CallFilter;
use super::full::FullJail;
use super::layer::Layer;
use super::plan::Plan;
use crate::error::{Error, ErrorKind};

/// An attempt: the layer that refuses it, what it is, and how it is made.
type Attempt = (Layer, &'static str, fn(&Inside) -> AttemptEnd);

/// The process that makes an attempt.
struct Inside<'a> {
    plan: &'a Plan,
    fresh: &'a Fresh,
    /// The parent of the process that has entered the jail, which is outside; `None` if it has no
    /// number in there.
    outside: Option<Pid>,
    client: Option<&'a ClientSocket>,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    (Layer::ClientSocket, "connect elsewhere by the socket of its client", connect_elsewhere),
    (Layer::WriteExecute, "make code", make_code),
];

impl Plan {
    /// Makes the attempts that the layers in force refuse, in a process that has entered the jail
    /// and exits afterwards.
    ///
    /// # Errors
    /// One of them succeeds.
    pub(crate) fn check_from_inside(
        &self,
        alone: &Alone,
        fresh: &Fresh,
        client: Option<&ClientSocket>,
    ) -> Result<(), Error> {
        let outside = getppid();
        let on = ATTEMPTS.iter().filter(|(layer, ..)| self.is_on(*layer));
        for (layer, what, attempt) in on {
            let end = match self.filter.as_ref().is_some_and(CallFilter::kills) {
                true => {
                    self.attempt_aside(alone, |fresh| attempt(&Inside { plan: self, fresh, outside, client }))
                }
                false => attempt(&Inside { plan: self, fresh, outside, client }),
            };
            if end == AttemptEnd::Succeeded {
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

    /// Makes an attempt in another process, where the filter ends the one that makes it. Without
    /// the calls for that it is not made.
    fn attempt_aside(&self, alone: &Alone, attempt: impl FnOnce(&Fresh) -> AttemptEnd) -> AttemptEnd {
        let needed = ["clone", "exit_group", "set_robust_list", "wait4"];
        if self.filter.as_ref().is_some_and(|filter| !filter.covers(&needed)) {
            return AttemptEnd::Allowed;
        }
        match fork(alone, Signal::CHILD.as_raw()) {
            Ok(Side::Child(fresh)) => exit_now(i32::from(attempt(&fresh) == AttemptEnd::Succeeded)),
            Ok(Side::Parent(pid)) => match wait_for(pid) {
                Ok(How::Exited(0)) => AttemptEnd::Refused,
                Ok(How::Signaled(signal)) if signal == Signal::SYS.as_raw() => AttemptEnd::Refused,
                _ => AttemptEnd::Succeeded,
            },
            Err(_) => AttemptEnd::Succeeded,
        }
    }
}

/// Whether a call failed, or was refused.
fn refused<T, E>(result: Result<T, E>) -> AttemptEnd {
    if result.is_ok() { AttemptEnd::Succeeded } else { AttemptEnd::Refused }
}

fn gain_privileges(_: &Inside) -> AttemptEnd {
    if no_new_privs() == Ok(true) { AttemptEnd::Refused } else { AttemptEnd::Succeeded }
}

fn use_capability(Inside { plan, .. }: &Inside) -> AttemptEnd {
    let kept = plan.capabilities.unwrap_or(CapabilitySet::all());
    match capabilities(None) {
        Ok(own) if kept.contains(own.permitted | own.effective | own.inheritable) => AttemptEnd::Refused,
        _ => AttemptEnd::Succeeded,
    }
}

fn make_namespace(Inside { plan, fresh, .. }: &Inside) -> AttemptEnd {
    match &plan.filter {
        Some(filter) if !filter.calls.has("unshare") => refused(try_user_namespace(fresh)),
        _ => AttemptEnd::Allowed,
    }
}

/// Of the family AF_NETLINK, by which the network is configured.
fn make_socket(Inside { plan, .. }: &Inside) -> AttemptEnd {
    use rustix::net::{AddressFamily, SocketType, socket};
    let families = plan.filter.as_ref().and_then(|filter| filter.families.as_ref());
    match families {
        Some(families) if !families.has(AddressFamily::NETLINK) => {
            refused(socket(AddressFamily::NETLINK, SocketType::RAW, None))
        }
        _ => AttemptEnd::Allowed,
    }
}

/// The parent has no number in a pid namespace of its own, and `/proc` shows no process from later.
fn see_processes(Inside { outside, .. }: &Inside) -> AttemptEnd {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let mut pids = names.filter_map(|name| name.to_str()?.parse::<i32>().ok());
    if outside.is_none() && pids.all(|pid| pid <= own) { AttemptEnd::Refused } else { AttemptEnd::Succeeded }
}

/// The port answers or refuses; a network without anything has no way to it.
fn reach_network(Inside { plan, .. }: &Inside) -> AttemptEnd {
    use rustix::net::{AddressFamily, SocketType, connect, socket};
    let discard = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let is_refused = |full: &FullJail| full.network == PrivateNetwork::Empty && !full.allowed.has(discard);
    if !plan.full.as_ref().is_some_and(is_refused) {
        return AttemptEnd::Allowed;
    }
    let connected =
        socket(AddressFamily::INET, SocketType::STREAM, None).and_then(|socket| connect(&socket, &discard));
    match connected {
        Ok(()) | Err(Errno::CONNREFUSED) => AttemptEnd::Succeeded,
        Err(_) => AttemptEnd::Refused,
    }
}

fn connect_elsewhere(Inside { client, .. }: &Inside) -> AttemptEnd {
    match client {
        None => AttemptEnd::Allowed,
        Some(client) if client.connects_elsewhere() => AttemptEnd::Succeeded,
        Some(_) => AttemptEnd::Refused,
    }
}

fn write_file(Inside { plan, .. }: &Inside) -> AttemptEnd {
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

/// The process outside is one of the same user, at most.
fn signal(Inside { outside, .. }: &Inside) -> AttemptEnd {
    refused(outside.ok_or(Errno::SRCH).and_then(test_kill_process))
}

fn make_code(_: &Inside) -> AttemptEnd {
    refused::<(), io::Error>(try_writable_code())
}
