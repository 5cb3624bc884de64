//! Starts a program on a connection without a client, to be looked at and to be made a template.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use tine_sys::process::Alone;
use tine_sys::trace::{Kin, StartFailure, Tracer};

use super::placeholder::Placeholder;
use crate::error::{Error, ErrorKind, next_move};
use crate::ipc::board::Entry;
use crate::lifecycle::outcome::ExitReport;
use crate::net::peer::Peer;
use crate::net::proxied::Proxied;
use crate::program::launch::{LaunchContext, Launcher, ProgramConnection};

/// A program that was started.
pub(super) struct Subject<'a> {
    pub(super) tracer: Tracer<'a>,
    pub(super) main: i32,
    /// Its connection, as the kernel names it.
    pub(super) connection: String,
    /// The standard error that it was executed with, as the kernel names it.
    pub(super) stderr: OnceCell<String>,
    pub(super) placeholder: Placeholder,
    /// The variables that describe its connection; none if it was started without.
    pub(super) names: Vec<String>,
    failure: Option<StartFailure>,
    _ends: (OwnedFd, TcpStream),
}

impl<'a> Subject<'a> {
    /// Starts a program on a connection over loopback, with the variables of a client that does not
    /// exist, or without variables.
    ///
    /// # Errors
    /// The kernel refuses to trace ([`ErrorKind::System`]).
    pub(super) fn start(
        alone: &'a Alone,
        launcher: &mut Launcher,
        kin: Kin,
        has_variables: bool,
    ) -> Result<Subject<'a>, Error> {
        let placeholder = placeholder().map_err(|why| cannot("get random bytes", &why))?;
        let ends = loopback_connection().map_err(|why| cannot("make a connection over loopback", &why))?;
        let connection = fs::read_link(format!("/proc/self/fd/{}", ends.0.as_raw_fd()))
            .map_err(|why| Error::system("cannot read /proc/self/fd", &why, "mount /proc"))?;
        let mut names = Vec::new();
        let mut tracer = Tracer::new(alone).map_err(|why| cannot("wait for the program", &why))?;
        let (main, failure) = on_placeholder(&ends.0, &placeholder, |client| {
            names = names_of(&launcher.variables(client));
            let without = without_values(&names);
            let client = match has_variables {
                true => ProgramConnection { ..*client },
                false => ProgramConnection { launch_context: &without, ..*client },
            };
            tracer.start(kin, |_| execute(launcher, &client))
        })
        .map_err(|why| cannot("trace the program", &why))?;
        if !has_variables {
            names.clear();
        }
        Ok(Subject {
            tracer,
            main,
            connection: connection.display().to_string(),
            stderr: OnceCell::new(),
            placeholder,
            names,
            failure: Some(failure),
            _ends: ends,
        })
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

    /// Notes what its standard error is, when it has been executed.
    pub(super) fn note_stderr(&self) {
        if let Ok(name) = fs::read_link(format!("/proc/{}/fd/2", self.main)) {
            self.stderr.get_or_init(|| name.display().to_string());
        }
    }
}

/// Removes the variables of these names from the environment of a program.
pub(super) fn without_values(names: &[String]) -> LaunchContext {
    let variables = names.iter().flat_map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    LaunchContext { variables, ..LaunchContext::default() }
}

/// The names of variables.
pub(super) fn names_of(variables: &tine_sys::exec::CStrings) -> Vec<String> {
    let name = |variable: &std::ffi::CStr| {
        variable.to_string_lossy().split('=').next().unwrap_or_default().to_owned()
    };
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

fn placeholder() -> io::Result<Placeholder> {
    let mut random = [0; 40];
    rustix::rand::getrandom(&mut random[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(Placeholder::of(random))
}

/// The server's end of a real connection, so that what is asked about it is as for a client, and
/// the other end.
fn loopback_connection() -> io::Result<(OwnedFd, TcpStream)> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    let (server, _) = listener.accept()?;
    Ok((server.into(), client))
}

/// Calls a function with the connection of a placeholder.
fn on_placeholder<R>(
    socket: &OwnedFd,
    placeholder: &Placeholder,
    call: impl FnOnce(&ProgramConnection) -> R,
) -> R {
    let &Placeholder { local, remote, id } = placeholder;
    let peer = Peer::Tcp(remote);
    call(&ProgramConnection {
        socket,
        entry: Entry { id, peer, start: 0 },
        proxied: Some(&Proxied { proxy: peer, local: Some(local), header: 1 }),
        launch_context: &LaunchContext::default(),
    })
}

/// Executes the program, in its process. Returns only on failure, with the report.
fn execute(launcher: &mut Launcher, client: &ProgramConnection) -> Vec<u8> {
    match launcher.execute(client) {
        ExitReport::Error(text) => text.into_bytes(),
        _ => b"cannot execute the program".to_vec(),
    }
}
