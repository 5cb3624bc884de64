//! The trial of a forker before the server is ready: it accepts a connection of its own, forks a
//! process for it, which makes the changes that precede the execution of a program and replies.
//! What fails here would fail for each client.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    getsockname, listen, recv, socket_with,
};
use rustix::process::{WaitOptions, waitpid};
use tine_sys::exec::Confine as _;
use tine_sys::process::{Fresh, Side, exit_now, fork_among};

use super::fork::open_room;
use super::templates::Lent;
use super::trusted::Forker;
use crate::error::{Error, ErrorKind, next_move};
use crate::jail::client_socket::ClientSocket;
use crate::jail::plan::Plan;
use crate::processes::start::{StartReport, cannot};
use crate::system::cgroups::next_of_creation;

/// Descriptors that the forker has open at a time for a client: its socket, and both ends of a pipe
/// for standard error.
const DESCRIPTORS: usize = 3;

/// The error of a trial whose process has ended without a reply.
const SILENT: &str = "the process that tries what a connection needs has not replied";

/// The error of a trial whose process a signal ended.
const DIED: &str = "the process that tries what a connection needs was killed";

/// What a trial has from the time before the forker gave its privileges up.
pub(super) struct Trial {
    listener: Result<OwnListener, Errno>,
    client: Option<ClientSocket>,
}

impl Trial {
    pub(super) fn prepare(plan: &Plan) -> Trial {
        Trial { listener: OwnListener::new(), client: ClientSocket::of(plan) }
    }
}

/// Tries what a connection needs, and reports the result; exits if something is missing.
pub(super) fn try_out<H>(forker: &mut Forker<'_, H>, trial: Trial, report: StartReport) {
    let Trial { listener, client } = trial;
    let result = have_descriptors().and_then(|()| {
        let own = listener
            .and_then(OwnListener::accept)
            .map_err(cannot("accept a connection", next_move::of_call))?;
        make_cgroup(forker)?;
        open_room(forker, 0).map_err(cannot("prepare a jail", next_move::of_call))?;
        let forked = fork_among(forker.trusted.alone, forker.context.jail_mut().pids());
        Ok((own, forked.map_err(cannot("fork for a connection", next_move::of_call))?))
    });
    match result {
        Err(error) => report.failed(error),
        Ok((own, Side::Child(fresh))) => match enter_all(forker, &fresh, client.as_ref()) {
            Ok(()) => exit_now(i32::from(rustix::io::write(&own.served, b"\n") != Ok(1))),
            Err(error) => report.failed(error),
        },
        Ok((own, Side::Parent(pid))) => {
            drop(own.served);
            forker.context.jail_mut().close(true);
            let pid = rustix::process::Pid::from_raw(pid);
            let ended = rustix::io::retry_on_intr(|| waitpid(pid, WaitOptions::empty()));
            forker.trusted.cgroups.iter_mut().for_each(|cgroups| cgroups.remove(0, 0));
            match ended.ok().flatten().map(|(_, status)| status.exit_status()) {
                Some(Some(0)) if recv(&own.client, &mut [0; 1][..], RecvFlags::DONTWAIT) == Ok((1, 1)) => {
                    match make_first_template(forker) {
                        Ok(()) => report.entered(),
                        Err(error) => report.failed(error),
                    }
                }
                Some(Some(0)) => {
                    report.failed(Error::new(ErrorKind::System, SILENT, "see the kernel's log (dmesg)"))
                }
                // It has reported the reason.
                Some(Some(_)) => exit_now(111),
                Some(None) | None => {
                    report.failed(Error::new(ErrorKind::System, DIED, "see the kernel's log (dmesg)"))
                }
            }
        }
    }
}

/// Has the program made a template, where it has to be started warm.
fn make_first_template<H>(forker: &mut Forker<'_, H>) -> Result<(), Error> {
    let Forker { trusted, context } = forker;
    match (&mut trusted.templates, &mut context.launcher) {
        (Some(templates), Some(launcher)) if templates.are_required() => templates
            .wait_for_first(&mut Lent { board: &trusted.door.board, launcher, log: &mut context.log }),
        (None, _) if trusted.settings.warm().is_some_and(|warm| !warm.or_cold) => Err(Error::usage(
            "a program cannot be started warm where each connection has a pid namespace without an init",
            "leave `--jail-init` to its default, or use `--warm=try`",
        )),
        _ => Ok(()),
    }
}

/// Makes the cgroup of the first connection.
fn make_cgroup<H>(forker: &mut Forker<'_, H>) -> Result<(), Error> {
    let Some(cgroups) = &mut forker.trusted.cgroups else { return Ok(()) };
    cgroups.prepare(0, 0).map_err(|why| {
        let what = "cannot prepare the execution of the program: its cgroup";
        Error::system(what, &why, next_of_creation(&why))
    })
}

/// A listener of this process, and its own connection to that.
struct OwnListener {
    listener: OwnedFd,
    client: OwnedFd,
}

impl OwnListener {
    fn new() -> Result<OwnListener, Errno> {
        let socket = || socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let (listener, client) = (socket()?, socket()?);
        // The kernel chooses an abstract name (unix(7), autobind): no file is left.
        bind(&listener, &SocketAddrUnix::new_unnamed())?;
        listen(&listener, 1)?;
        connect(&client, &getsockname(&listener)?)?;
        Ok(OwnListener { listener, client })
    }

    fn accept(self) -> Result<OwnConnection, Errno> {
        let served = accept_with(&self.listener, SocketFlags::CLOEXEC)?;
        Ok(OwnConnection { client: self.client, served })
    }
}

/// A connection that this process has made and accepted itself.
struct OwnConnection {
    client: OwnedFd,
    served: OwnedFd,
}

fn have_descriptors() -> Result<(), Error> {
    let open = || rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3);
    let opened: Result<Vec<_>, _> = (0..DESCRIPTORS).map(|_| open()).collect();
    opened.map(drop).map_err(cannot("open the descriptors of a connection", next_move::of_call))
}

/// Makes the changes to this process that precede the execution of the program or the call of the
/// handler, and tries to break out of the jail.
fn enter_all<H>(
    forker: &mut Forker<'_, H>,
    fresh: &Fresh,
    client: Option<&ClientSocket>,
) -> Result<(), Error> {
    let hold = |client: &ClientSocket| forker.context.jail_mut().hold(client);
    client.map_or(Ok(()), hold).map_err(cannot("hold the socket of a client to it", next_move::of_call))?;
    // The cgroup of the first connection. The board is not mapped here.
    let cgroup = forker.trusted.cgroups.as_ref().map(|cgroups| cgroups.of(0, 0).entry());
    match &mut forker.context.launcher {
        Some(launcher) => launcher.try_out(cgroup.as_ref())?,
        None => forker
            .context
            .enter_rights(cgroup.as_ref())
            .map_err(cannot("enter the jail", next_move::of_call))?,
    }
    forker.trusted.settings.jail_plan.check_from_inside(forker.trusted.alone, fresh, client)
}
