//! Makes a jail: what is the same for all connections once in a forker, the rest in the process of
//! each connection.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::CapabilitySet;
use seccompiler::{BackendError, BpfProgram};
use tine_sys::exec::Confine;
use tine_sys::fd::Floor;
use tine_sys::identity::{Ids, become_user};
use tine_sys::jail;
use tine_sys::namespaces::{Password, PidNamespace};
use tine_sys::process::Alone;
use tine_sys::socket_filter::hold_to_port;

use super::filter::{Passwords, refusing, without_passwords};
use super::full::FullJail;
use super::landlock_rules::{self, Subjects};
use super::layer::Layer;
use super::plan::Plan;
use super::rights::{drop_bounding_set, install, keep_capabilities};
use super::room::{Doorway, Room};
use super::step::step;
use crate::error::{Error, ErrorKind, next_move};

/// The system calls of a forker, and of the processes that it forks until they enter the jail.
const OF_A_FORKER: &[&str] = &[
    "accept4",
    "capget",
    "capset",
    "clone",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "close_range",
    "dup2",
    "dup3",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_wait",
    "execve",
    "exit_group",
    "fchmod",
    "fcntl",
    "fstat",
    "futex",
    "getpid",
    "getppid",
    "getrusage",
    "getsockname",
    "getsockopt",
    "gettid",
    "ioctl",
    "kill",
    "landlock_restrict_self",
    "madvise",
    "mkdir",
    "mkdirat",
    "mmap",
    "mprotect",
    "mremap",
    "munmap",
    "newfstatat",
    "open",
    "openat",
    "pipe2",
    "poll",
    "ppoll",
    "prctl",
    "prlimit64",
    "read",
    "recvfrom",
    "recvmsg",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sendmsg",
    "sendto",
    "setpgid",
    "setsid",
    "setsockopt",
    "shutdown",
    "socket",
    "statx",
    "wait4",
    "waitid",
    "write",
    "writev",
];

/// Those that are needed for a full jail in addition, beside setns(2) with the password.
const OF_A_FULL_JAIL: &[&str] = &["chdir", "setgroups", "setresgid", "setresuid"];

/// Those that are needed beside them where the process of a connection is the first of its pid
/// namespace.
const WITHOUT_INIT: &[&str] = &["pidfd_open"];

/// A jail that a forker has made, as far as the processes of connections enter it.
#[derive(Debug, Default)]
pub(crate) struct Confinement {
    /// The filter, where the forker could not live with it.
    programs: Vec<BpfProgram>,
    ruleset: Option<OwnedFd>,
    /// The capabilities that are kept; `None` changes none.
    capabilities: Option<CapabilitySet>,
    /// Whether the sockets of clients are held to their port.
    holds_clients: bool,
    /// Whether that of the present client is not: this process may not do it.
    is_client_loose: bool,
    /// What the process of such a client adds.
    without_listening: Option<BpfProgram>,
    /// Of a full jail.
    doorway: Option<Doorway>,
    /// What a process adds that could find the passwords of the filter in its memory.
    without_passwords: Option<BpfProgram>,
    /// Whether the connector has to read the memory of what executes nothing.
    is_readable: bool,
}

/// What the processes of connections do, for the filter and the jail.
#[derive(Debug)]
pub(crate) struct ServingKind<'a> {
    /// System calls that this server makes for a connection, beside those of every server.
    pub(crate) more_calls: &'a [&'a str],
    /// Whether they execute a program.
    pub(crate) executes: bool,
    /// The working directory, if it is not `/` in a full jail.
    pub(crate) directory: Option<PathBuf>,
}

impl Confinement {
    /// Makes the jail, in a forker that has made everything else.
    ///
    /// # Errors
    /// The kernel refuses a layer of the plan, or a path of it cannot be opened.
    pub(crate) fn make(plan: &Plan, serving: ServingKind, place: Floor) -> Result<Confinement, Error> {
        if !plan.is_any() {
            return Ok(Confinement::default());
        }
        let ruleset = landlock_rules::make(Subjects {
            files: plan.files.as_ref(),
            scope: plan.is_on(Layer::Scope),
            connections: plan.is_on(Layer::Connections),
        })?;
        let ruleset = ruleset.map(|ruleset| place.duplicate(ruleset)).transpose();
        let ruleset = ruleset.map_err(|why| refused("keep its rules", &why))?;
        if let Some(kept) = plan.capabilities {
            drop_bounding_set(kept).map_err(|why| refused("drop capabilities", &why.into()))?;
        }
        if plan.is_on(Layer::NoNewPrivileges) {
            rustix::thread::set_no_new_privs(true).map_err(|why| refused("set no_new_privs", &why.into()))?;
        }
        if plan.is_on(Layer::WriteExecute) {
            jail::deny_write_execute().map_err(|why| refused("set PR_SET_MDWE", &why))?;
        }
        let holds_clients = plan.holds_clients;
        let is_readable = plan.is_on(Layer::NetworkAllow);
        let capabilities = plan.capabilities;
        let mut confinement =
            Confinement { ruleset, capabilities, holds_clients, is_readable, ..Confinement::default() };
        if holds_clients && plan.is_on(Layer::Connections) {
            confinement.without_listening = Some(refusing("listen").map_err(cannot_compile)?);
        }
        let passwords = confinement.add_filter(plan, &serving)?;
        confinement.doorway = plan.full.as_ref().map(|full| Doorway::new(full, passwords, serving.directory));
        Ok(confinement)
    }

    /// Compiles the filter, and installs it here if the forker can live with it. Returns the
    /// passwords that it then wants to see.
    fn add_filter(&mut self, plan: &Plan, serving: &ServingKind) -> Result<Option<Passwords>, Error> {
        let Some(filter) = &plan.filter else { return Ok(None) };
        let has_init = plan.full.as_ref().is_none_or(|full| full.has_init);
        let of_a_full_jail: &[&str] = if plan.full.is_some() { OF_A_FULL_JAIL } else { &[] };
        let without_init: &[&str] = if has_init { &[] } else { WITHOUT_INIT };
        // The kernel takes long to install a filter. Inherited, it costs a connection nothing.
        let needed = [OF_A_FORKER, serving.more_calls, of_a_full_jail, without_init];
        if !needed.iter().all(|calls| filter.covers(calls)) {
            self.programs = filter.compile(None).map_err(cannot_compile)?;
            return Ok(None);
        }
        let mut passwords = None;
        if plan.full.is_some() {
            let random = || Password::random().map_err(|why| refused("make a password", &why));
            let creating = if has_init { None } else { Some(random()?) };
            passwords = Some(Passwords { joining: random()?, creating });
            if !serving.executes {
                self.without_passwords = Some(without_passwords(!has_init).map_err(cannot_compile)?);
            }
        }
        let programs = filter.compile(passwords.as_ref()).map_err(cannot_compile)?;
        install(&programs).map_err(|why| refused("install the filter", &why))?;
        Ok(passwords)
    }

    /// Descriptors that have to stay open until the process of a connection enters the jail.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let room = self.doorway.iter().flat_map(Doorway::descriptors);
        self.ruleset.iter().map(AsFd::as_fd).chain(room).collect()
    }

    /// Whether a process of a connection has anything to enter.
    #[inline]
    pub(crate) fn is_any(&self) -> bool {
        self.ruleset.is_some()
            || self.capabilities.is_some()
            || !self.programs.is_empty()
            || self.doorway.is_some()
    }

    /// Whether the process of a connection is the first of its pid namespace.
    pub(crate) fn is_first(&self) -> bool {
        matches!(self.pids(), PidNamespace::Own(_))
    }

    /// Has the next process that this one creates join this room, for the connection in a slot.
    ///
    /// # Errors
    /// The room is gone: its first process has ended.
    pub(crate) fn open(&mut self, room: Room, slot: usize) -> io::Result<()> {
        self.doorway.as_mut().map_or(Ok(()), |doorway| doorway.open(room, slot))
    }

    /// The way into the rooms of a full jail for a process that forks those which make the jail
    /// themselves. Without one, nothing.
    pub(crate) fn of_rooms(full: Option<&FullJail>, directory: Option<PathBuf>) -> Confinement {
        let doorway = full.map(|full| Doorway::new(full, None, directory));
        Confinement { doorway, ..Confinement::default() }
    }

    /// Joins the room that the process has opened which has forked this one.
    pub(crate) fn take_room_of(&mut self, other: &mut Confinement) {
        if let (Some(own), Some(other)) = (&mut self.doorway, &mut other.doorway) {
            own.take_room_of(other);
        }
    }

    /// Tells the room that a template was created in it.
    pub(crate) fn close_for_template(&mut self) {
        self.doorway.iter_mut().for_each(Doorway::close_for_template);
    }

    /// Tells the room that its process was created, or, after an error, that none was.
    pub(crate) fn close(&mut self, created: bool) {
        self.doorway.iter_mut().for_each(|doorway| doorway.close(created));
    }

    /// The same after a process was created for a client that waits: the room is told by
    /// [`Confinement::settle`].
    pub(crate) fn close_later(&mut self) {
        self.doorway.iter_mut().for_each(Doorway::close_later);
    }

    /// Tells the rooms that have not been told yet.
    pub(crate) fn settle(&mut self) {
        self.doorway.iter_mut().for_each(Doorway::settle);
    }

    /// Holds the socket of a client to its port, before the jail is entered. That of a client which
    /// connected before the listener was held can be held by a privileged process only: then the
    /// handler or program can make no listener.
    ///
    /// # Errors
    /// The kernel refuses the filter; the text names the step.
    #[inline]
    pub(crate) fn hold(&mut self, client: impl AsFd) -> io::Result<()> {
        if !self.holds_clients {
            return Ok(());
        }
        let held = hold_to_port(client.as_fd());
        self.is_client_loose = held.as_ref().is_err_and(|why| why.kind() == io::ErrorKind::PermissionDenied)
            && self.without_listening.is_some();
        if self.is_client_loose { Ok(()) } else { held.map_err(|why| in_jail("filter of the socket", &why)) }
    }

    /// Whether the last socket could not be held to its port.
    pub(crate) fn is_client_loose(&self) -> bool {
        self.is_client_loose
    }

    /// As [`Confinement::hold`], in a worker, which has entered the jail before its client came.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn hold_inside(&mut self, client: impl AsFd) -> io::Result<()> {
        self.hold(client)?;
        self.refuse_listening()
    }

    fn refuse_listening(&self) -> io::Result<()> {
        let refusal = self.without_listening.as_slice();
        let refusal = if self.is_client_loose { refusal } else { &[] };
        install(refusal).map_err(|why| in_jail("seccomp", &why))
    }

    /// Enters the jail, in a process that executes nothing.
    ///
    /// # Errors
    /// The kernel refuses a step; the text names it.
    pub(crate) fn enter_alone(&self, alone: &Alone) -> io::Result<()> {
        self.enter_room(alone)?;
        if self.is_readable {
            // The change of user has taken it, for all but those with privileges over the machine.
            set_dumpable_behavior(DumpableBehavior::Dumpable)
                .map_err(|why| in_jail("PR_SET_DUMPABLE (prctl)", &why.into()))?;
        }
        self.enter()?;
        install(self.without_passwords.as_slice()).map_err(|why| in_jail("seccomp", &why))
    }

    /// Joins the room and becomes the user of the connection, in a process that stays beside the
    /// one that enters the jail.
    ///
    /// # Errors
    /// As [`Confinement::enter_alone`].
    pub(crate) fn enter_room(&self, alone: &Alone) -> io::Result<()> {
        self.join()?;
        match self.ids() {
            Some(ids) => become_user(alone, &ids).map_err(|why| in_jail("change of user", &why)),
            None => Ok(()),
        }
    }
}

impl Confine for Confinement {
    fn join(&self) -> io::Result<()> {
        match &self.doorway {
            Some(doorway) => doorway.join().map_err(|why| in_jail("room", &why)),
            None => Ok(()),
        }
    }

    fn pids(&self) -> PidNamespace {
        self.doorway.as_ref().map_or(PidNamespace::Inherited, Doorway::pids)
    }

    fn ids(&self) -> Option<Ids<'_>> {
        self.doorway.as_ref()?.ids()
    }

    /// Enters the jail, in the process of a connection, which has made all other changes.
    fn enter(&self) -> io::Result<()> {
        if let Some(kept) = self.capabilities {
            keep_capabilities(kept).map_err(|why| in_jail("capset", &why.into()))?;
        }
        if let Some(ruleset) = &self.ruleset {
            jail::restrict_self(ruleset.as_fd()).map_err(|why| in_jail("landlock_restrict_self", &why))?;
        }
        self.refuse_listening()?;
        install(&self.programs).map_err(|why| in_jail("seccomp", &why))
    }
}

/// An error of a step into the jail, for the outcome of a connection.
fn in_jail(name: &str, why: &io::Error) -> io::Error {
    io::Error::new(why.kind(), format!("jail: {}", crate::error::reason(&step(name, why))))
}

fn cannot_compile(why: BackendError) -> Error {
    refused("compile the filter", &io::Error::other(why))
}

fn refused(what: &str, why: &io::Error) -> Error {
    Error::new(ErrorKind::Jail, format!("the jail cannot {what}"), next_move::of_call(why)).because(why)
}
