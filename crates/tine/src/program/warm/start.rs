//! Starts a program on a connection without a client, to be looked at and to be made a template.

use std::cell::OnceCell;
use std::ffi::CStr;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use tine_sys::exec::CStrings;
use tine_sys::process::Alone;
use tine_sys::trace::{Kin, StartFailure, Tracer};

use super::options::{WarmAllow, WarmCheckSettings, WarmUntil};
use super::placeholder::{ClientKind, Placeholder};
use super::proc_text::filters;
use crate::error::{Error, ErrorKind, next_move};
use crate::ipc::board::Entry;
use crate::jail::confinement::Confinement;
use crate::lifecycle::outcome::ExitReport;
use crate::net::proxied::Proxied;
use crate::program::launch::Launcher;
use crate::program::served::{LaunchContext, ProgramConnection};

/// A program that was started.
pub(super) struct Subject<'a> {
    pub(super) tracer: Tracer<'a>,
    pub(super) main: i32,
    /// Its connection, as the kernel names it.
    pub(super) connection: String,
    /// What it was executed with.
    pub(super) before_start: OnceCell<BeforeStart>,
    pub(super) placeholder: Placeholder,
    /// The variables that describe its connection; none if it was started without.
    pub(super) variables: CStrings,
    failure: Option<StartFailure>,
    ends: (OwnedFd, TcpStream),
}

/// What a program was executed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct BeforeStart {
    /// Its standard error, as the kernel names it.
    pub(super) stderr: Option<String>,
    /// Its filters of system calls.
    pub(super) filters: (u64, u64),
}

/// How a program is started to be looked at.
pub(super) struct SubjectStart<'a> {
    pub(super) alone: &'a Alone,
    pub(super) kin: Kin,
    /// Whether it has the variables of a connection.
    pub(super) has_variables: bool,
    /// Whether it accepts its clients from a listener, instead of having a connection.
    pub(super) accepts: bool,
    /// Its connection.
    pub(super) client: ClientKind,
    /// Makes the jail that it enters, in its process.
    pub(super) jail: &'a dyn Fn() -> Result<Confinement, Error>,
}

impl<'a> SubjectStart<'a> {
    pub(super) fn of(
        settings: &WarmCheckSettings,
        alone: &'a Alone,
        kin: Kin,
        client: ClientKind,
        jail: &'a dyn Fn() -> Result<Confinement, Error>,
    ) -> SubjectStart<'a> {
        let has_variables = !settings.allowed.contains(&WarmAllow::Variables);
        let accepts = settings.until == WarmUntil::Accept;
        SubjectStart { alone, kin, has_variables, accepts, client, jail }
    }
}

impl<'a> Subject<'a> {
    /// Starts a program on a connection over loopback, with the variables of a client that does not
    /// exist, or without variables.
    ///
    /// # Errors
    /// The kernel refuses to trace ([`ErrorKind::System`]).
    pub(super) fn start(start: &SubjectStart<'a>, launcher: &mut Launcher) -> Result<Subject<'a>, Error> {
        let placeholder = placeholder(start.client).map_err(|why| cannot("get random bytes", &why))?;
        let ends = loopback(start.accepts);
        let ends = ends.map_err(|why| cannot("make a connection over loopback", &why))?;
        let connection = fs::read_link(format!("/proc/self/fd/{}", ends.0.as_raw_fd()))
            .map_err(|why| Error::system("cannot read /proc/self/fd", &why, "mount /proc"))?;
        let mut tracer = Tracer::new(start.alone).map_err(|why| cannot("wait for the program", &why))?;
        let (variables, started) = on_placeholder(&ends.0, &placeholder, |client| {
            let variables = launcher.variables(client);
            if start.accepts {
                let started = tracer.start(start.kin, |_| accept(launcher, client, start.jail));
                return (CStrings::default(), started);
            }
            if start.has_variables {
                let started = tracer.start(start.kin, |_| execute(launcher, client, start.jail));
                return (variables, started);
            }
            let without = without_values(&names_of(&variables));
            let client = ProgramConnection { launch_context: &without, ..*client };
            (CStrings::default(), tracer.start(start.kin, |_| execute(launcher, &client, start.jail)))
        });
        let (main, failure) = started.map_err(|why| cannot("trace the program", &why))?;
        Ok(Subject {
            tracer,
            main,
            connection: connection.display().to_string(),
            before_start: OnceCell::new(),
            placeholder,
            variables,
            failure: Some(failure),
            ends,
        })
    }

    /// The connection itself.
    pub(super) fn connection_socket(&self) -> BorrowedFd<'_> {
        self.ends.0.as_fd()
    }

    /// The names of its variables.
    pub(super) fn names(&self) -> Vec<String> {
        names_of(&self.variables)
    }

    /// Why it was not executed.
    pub(super) fn not_executed(&mut self) -> Error {
        let text = self.failure.take().map(StartFailure::read).unwrap_or_default();
        let next = "check that it is a program for this machine, or a script that begins with `#!`";
        match text.is_empty() {
            true => Error::new(ErrorKind::System, "the process ended before it executed the program", next),
            false => Error::new(ErrorKind::Program, String::from_utf8_lossy(&text), next),
        }
    }

    /// Notes what it has been executed with, when it is first executed.
    pub(super) fn note_start(&self) {
        let stderr = fs::read_link(format!("/proc/{}/fd/2", self.main));
        let status = fs::read_to_string(format!("/proc/{}/status", self.main)).unwrap_or_default();
        self.before_start.get_or_init(|| BeforeStart {
            stderr: stderr.ok().map(|name| name.display().to_string()),
            filters: filters(&status),
        });
    }
}

/// Removes the variables of these names from the environment of a program.
pub(super) fn without_values(names: &[String]) -> LaunchContext {
    let variables = names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    LaunchContext { variables, ..LaunchContext::default() }
}

/// The names of variables.
pub(super) fn names_of(variables: &CStrings) -> Vec<String> {
    let name = |variable: &CStr| variable.to_string_lossy().split('=').next().unwrap_or_default().to_owned();
    variables.iter().map(name).collect()
}

pub(super) fn cannot(what: &str, why: &io::Error) -> Error {
    let next = match next_move::errno(why) {
        Errno::PERM | Errno::ACCESS => {
            "permit ptrace(2) in the filter of the container, and with kernel.yama.ptrace_scope below 2"
        }
        // Of the request for the system call.
        Errno::IO => "use Linux 5.3 or later",
        _ => next_move::of_call(why),
    };
    Error::system(format_args!("cannot {what}"), why, next)
}

fn placeholder(kind: ClientKind) -> io::Result<Placeholder> {
    let mut random = [0; 40];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(Placeholder::of(kind, random))
}

/// The server's end of a real connection, so that what is asked about it is as for a client, and
/// the other end. Where the program accepts, its listener, and a client of it: a program that waits
/// for one before it accepts has one.
fn loopback(accepts: bool) -> io::Result<(OwnedFd, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let server = if accepts { listener.into() } else { listener.accept()?.0.into() };
    Ok((server, client))
}

/// Calls a function with the connection of a placeholder.
fn on_placeholder<R>(
    socket: &OwnedFd,
    placeholder: &Placeholder,
    call: impl FnOnce(&ProgramConnection) -> R,
) -> R {
    let &Placeholder { local, peer, id } = placeholder;
    // The address of the server is that of the header.
    let proxied = local.map(|local| Proxied { proxy: peer, local: Some(local), header: 1 });
    call(&ProgramConnection {
        socket,
        entry: Entry { id, peer, start: 0 },
        proxied: proxied.as_ref(),
        launch_context: &LaunchContext::default(),
    })
}

/// Executes the program in its jail, in its process. Returns only on failure, with the report.
fn execute(
    launcher: &mut Launcher,
    client: &ProgramConnection,
    jail: &dyn Fn() -> Result<Confinement, Error>,
) -> Vec<u8> {
    in_jail(launcher, jail, |launcher| launcher.execute(client))
}

/// The same for a program that accepts its clients: with the listener in the place of a connection.
fn accept(
    launcher: &mut Launcher,
    listener: &ProgramConnection,
    jail: &dyn Fn() -> Result<Confinement, Error>,
) -> Vec<u8> {
    let without = without_values(&names_of(&launcher.variables(listener)));
    let listener = ProgramConnection { launch_context: &without, ..*listener };
    in_jail(launcher, jail, |launcher| launcher.execute_on_listener(&listener))
}

fn in_jail(
    launcher: &mut Launcher,
    jail: &dyn Fn() -> Result<Confinement, Error>,
    execute: impl FnOnce(&mut Launcher) -> ExitReport,
) -> Vec<u8> {
    match jail() {
        Ok(jail) => *launcher.jail_mut() = jail,
        Err(why) => return why.to_string().into_bytes(),
    }
    match execute(launcher) {
        ExitReport::Error(text) => text.into_bytes(),
        _ => b"cannot execute the program".to_vec(),
    }
}
