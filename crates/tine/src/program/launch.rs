//! Executes the program of a connection: in a forker, or in a spare that has accepted its client.

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::AtomicI32;

use rustix::fs::{Mode, OFlags};
use rustix::process::Pid;
use tine_sys::exec::{CStrings, Confine, Execution, Group, Stack, spawn_sibling};
use tine_sys::fd::Floor;
use tine_sys::process::{Alone, Fresh, exit_now};

use super::banner;
use super::environment::{Endpoints, describe};
use super::prepare::Incoming;
use super::served::{ProgramConnection, endpoints};
use super::{Program, Stderr, Terminal};
use crate::admission::access::names::PendingNameRules;
use crate::error::{Error, next_move, reason};
use crate::ipc::messages::{Sender, StderrPipe};
use crate::jail::confinement::Confinement;
use crate::lifecycle::outcome::ExitReport;
use crate::net::dns::confirmed_name;
use crate::net::peer::Peer;
use crate::system::users::Identity;

/// A program that is ready to be executed for each connection.
#[derive(Debug)]
pub(crate) struct Launcher<'a> {
    pub(super) path: CString,
    pub(super) image: Image<'a>,
    pub(super) stack: Stack,
    /// What the client gets before the program is executed.
    banner: &'a [u8],
    /// The channel of the stderr logger, which gets the reading ends of pipes.
    stderr_logger: Option<Sender<StderrPipe>>,
}

/// The arguments of execve(2). Only the last variables of the environment differ between
/// connections.
#[derive(Debug)]
pub(super) struct Image<'a> {
    pub(super) program: &'a Program,
    pub(super) arguments: CStrings,
    pub(super) environment: CStrings,
    /// The number of variables that every connection has.
    common: usize,
    /// The environment of the last connection with variables from an access rule.
    with_rule_variables: CStrings,
    pub(super) null: Option<OwnedFd>,
    /// The user that the program runs as; `None` for the user of this process.
    pub(super) identity: Option<&'a Identity>,
    /// The process whose death kills the program (PR_SET_PDEATHSIG); `None` where it outlives the
    /// server.
    pub(super) supervisor: Option<i32>,
    /// The jail that the program is executed in.
    pub(super) jail: Confinement,
}

/// Changes to the working directory of a program, in a forker, for all programs to inherit.
///
/// # Errors
/// There is no such directory, or it cannot be searched.
pub(crate) fn enter_directory(program: &Program) -> Result<(), Error> {
    let Some(directory) = &program.directory else { return Ok(()) };
    std::env::set_current_dir(directory).map_err(|why| {
        let what = format!("cannot change to the working directory {}", directory.display());
        let next = match why.kind() {
            io::ErrorKind::PermissionDenied => {
                "let the user of the program search it (chmod +x), or choose another"
            }
            _ => next_move::of_file(&why),
        };
        Error::system(what, &why, next)
    })
}

impl<'a> Launcher<'a> {
    /// Prepares this process, a forker, to execute the program. Sets the umask here, once, for all
    /// programs to inherit.
    pub(crate) fn new(
        program: &'a Program,
        path: CString,
        identity: Option<&'a Identity>,
        supervisor: Option<Pid>,
        stderr_logger: Option<Sender<StderrPipe>>,
        lowest: Floor,
    ) -> Result<Launcher<'a>, Error> {
        if let Some(mask) = program.umask {
            rustix::process::umask(Mode::from_raw_mode(mask));
        }
        let mut arguments = CStrings::default();
        let name = program.argv0.as_ref().or(program.words.first());
        let all = name.into_iter().chain(program.words.iter().skip(1));
        all.for_each(|argument| arguments.push_bytes(argument.as_bytes()));
        let environment = program.environment.base(std::env::vars_os());
        let null = match program.stderr {
            Stderr::Null => {
                let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty());
                let null = null.map_err(io::Error::from).and_then(|null| lowest.duplicate(null));
                Some(null.map_err(|why| {
                    Error::system("cannot open /dev/null", &why, next_move::of_null_device(&why))
                })?)
            }
            _ => None,
        };
        let common = environment.len();
        let supervisor = supervisor.map(|supervisor| supervisor.as_raw_nonzero().get());
        let with_rule_variables = CStrings::default();
        let image = Image {
            program,
            arguments,
            environment,
            common,
            with_rule_variables,
            null,
            identity,
            supervisor,
            jail: Confinement::default(),
        };
        let stack = Stack::new()
            .map_err(|why| Error::system("cannot map a stack", &why, next_move::of_call(&why)))?;
        Ok(Launcher { path, image, stack, banner: &[], stderr_logger })
    }

    /// The same launcher, which sends the client this banner first.
    pub(crate) fn with_banner(self, banner: &'a [u8]) -> Launcher<'a> {
        Launcher { banner, ..self }
    }

    /// The jail that the program is executed in.
    pub(crate) fn jail_mut(&mut self) -> &mut Confinement {
        &mut self.image.jail
    }

    /// The variables that describe a connection.
    pub(crate) fn variables(&self, client: &ProgramConnection) -> CStrings {
        let mut variables = CStrings::default();
        let remote_host = self.image.program.remote_host;
        describe(&mut variables, client.entry.id, &endpoints(client), remote_host);
        variables
    }

    /// Holds the socket of a client to its port, where the jail wants it. False if the process of
    /// the connection has to do without listening instead.
    ///
    /// # Errors
    /// The kernel refuses the filter.
    pub(crate) fn hold(&mut self, client: &OwnedFd) -> io::Result<bool> {
        self.image.jail.hold(client).map(|()| !self.image.jail.is_client_loose())
    }

    /// The descriptors of the server that the execution needs.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = self.image.jail.descriptors();
        all.extend(self.image.null.as_ref().map(AsFd::as_fd));
        all.extend(self.stderr_logger.as_ref().map(AsFd::as_fd));
        all
    }

    /// The process whose death kills the program, if there is one.
    pub(super) fn parent(&self) -> Option<i32> {
        self.image.supervisor
    }

    /// Creates a process that executes the program on a connection, and returns its id. If the
    /// execution fails, the new process calls `failed` with a report and exits. An error means that
    /// no process was created.
    pub(crate) fn spawn(
        &mut self,
        alone: &Alone,
        id: &AtomicI32,
        client: &ProgramConnection,
        failed: &dyn Fn(&ExitReport),
    ) -> io::Result<i32> {
        self.image.jail.hold(client.socket)?;
        let stderr = self.stderr(client.entry.id)?;
        let failed = |why: &io::Error| {
            let report = cannot_execute(&self.path, why);
            failed(&report);
            report.exit_code()
        };
        spawn_sibling(
            alone,
            id,
            &mut self.stack,
            &mut self.image.execution(&self.path, client, stderr.as_ref()),
            &failed,
        )
    }

    /// Executes the program in this process, a connection process. Returns only if the execution
    /// fails.
    pub(crate) fn execute(&mut self, client: &ProgramConnection) -> ExitReport {
        let held = self.image.jail.hold(client.socket);
        let why = match held.and_then(|()| self.stderr(client.entry.id)) {
            Ok(stderr) => self.image.execution(&self.path, client, stderr.as_ref()).run(),
            Err(why) => why,
        };
        cannot_execute(&self.path, &why)
    }

    /// Whether [`Launcher::prepare`] has something to do before the program is executed.
    pub(crate) fn prepares(&self) -> bool {
        self.image.program.prepare.is_some() || self.image.program.reverse_dns || !self.banner.is_empty()
    }

    /// Looks up the host name of the client, sends the banner and calls the prepare function, in
    /// the connection process: each of them may take long. Returns variables for the program, or
    /// the report of a client that its host name denies or that takes no banner. Exits where the
    /// prepare function returns an exit code. `report` gets the host name of a client that is
    /// denied by it, where that is only reported.
    pub(crate) fn prepare(
        &mut self,
        fresh: &Fresh,
        client: &ProgramConnection,
        first_own: Floor,
        report: impl FnOnce(&str),
    ) -> Result<Vec<u8>, ExitReport> {
        if self.stderr_logger.is_none()
            && matches!(self.image.program.stderr, Stderr::Server | Stderr::Client)
        {
            // A lookup or a client that does not read can outlive the server, whose addresses must
            // not stay in use.
            self.image.close_own(fresh, client, first_own);
        }
        let mut variables = match self.image.program.reverse_dns {
            true => self.look_up_name(client, report)?,
            false => client.launch_context.variables.clone(),
        };
        banner::send(client.socket, self.banner)?;
        if let Some(prepare) = &self.image.program.prepare {
            let socket = client.socket.as_fd();
            let local = match endpoints(client) {
                Endpoints::Tcp { local, .. } => local,
                Endpoints::Unix { .. } | Endpoints::Vsock { .. } => None,
            };
            let (connections, connections_of_source) = client.launch_context.counts;
            let peer = client.entry.peer;
            let proxy = client.proxied.map(|proxied| proxied.proxy);
            let prepared =
                prepare.0(&Incoming { peer, local, proxy, connections, connections_of_source, socket });
            if let Some(code) = prepared.exit {
                exit_now(code.into());
            }
            if let Some(words) = &prepared.words {
                (self.path, self.image.arguments) = executable(words);
            }
            variables.extend(prepared.to_bytes());
        }
        Ok(variables)
    }

    /// Looks up the host name of the client, and applies the access rules about names. Returns
    /// variables for the program.
    fn look_up_name(
        &self,
        client: &ProgramConnection,
        report: impl FnOnce(&str),
    ) -> Result<Vec<u8>, ExitReport> {
        let launch_context = client.launch_context;
        let Peer::Tcp(address) = client.entry.peer else { return Ok(launch_context.variables.clone()) };
        let name = confirmed_name(address.ip());
        let decided = launch_context
            .pending_name_rules
            .as_ref()
            .map(|pending_name_rules| pending_name_rules.decide(name.as_deref()));
        let (admitted, by_name) = decided.unwrap_or((true, None));
        if !admitted {
            let name = name.as_deref().unwrap_or("unknown");
            if !launch_context.reports_names {
                return Err(ExitReport::Error(format!("denied by host name: {name}")));
            }
            if !launch_context.pending_name_rules.as_ref().is_some_and(PendingNameRules::are_decided) {
                report(name);
            }
        }
        let mut variables = Vec::new();
        if let Some(name) = name {
            variables.extend_from_slice(format!("TCPREMOTEHOST={name}\0").as_bytes());
            if self.image.program.remote_host {
                variables.extend_from_slice(format!("REMOTE_HOST={name}\0").as_bytes());
            }
        }
        // The variables of one rule: that of the host name where it decided, else that of the
        // address.
        variables.extend_from_slice(by_name.unwrap_or(&launch_context.variables));
        Ok(variables)
    }

    /// The writing end of a pipe to the stderr logger; `None` where that does not read standard
    /// error.
    pub(crate) fn stderr(&self, connection: u64) -> io::Result<Option<OwnedFd>> {
        // Without another destination, standard error of a program on a terminal is the terminal.
        let has_terminal =
            self.image.program.terminal != Terminal::None && self.image.program.stderr == Stderr::Server;
        let logger = self.stderr_logger.as_ref().filter(|_| !has_terminal);
        logger.map(|logger| logger.open_pipe(connection)).transpose()
    }
}

impl Image<'_> {
    /// Closes the descriptors of the server, from the boundary on, but what a jail needs and the
    /// socket of the client.
    pub(super) fn close_own(&self, fresh: &Fresh, client: &ProgramConnection, first_own: Floor) {
        let mut kept = self.jail.descriptors();
        kept.push(client.socket.as_fd());
        tine_sys::fd::close_from_except(fresh, first_own, &kept);
    }

    /// Closes what the jail holds open, in a process that has started the program in it.
    pub(super) fn leave_jail_to_program(&mut self) {
        self.jail = Confinement::default();
    }

    pub(super) fn execution<'b>(
        &'b mut self,
        path: &'b CStr,
        client: &'b ProgramConnection,
        pipe: Option<&'b OwnedFd>,
    ) -> Execution<'b> {
        let ProgramConnection { socket, entry, launch_context, .. } = client;
        let stderr = choose_stderr(self.program.stderr, socket, pipe, self.null.as_ref());
        self.environment.truncate(self.common);
        describe(&mut self.environment, entry.id, &endpoints(client), self.program.remote_host);
        let variables = &launch_context.variables;
        let environment = match variables.is_empty() {
            true => &mut self.environment,
            false => {
                self.with_rule_variables = self.environment.with_variables(variables);
                &mut self.with_rule_variables
            }
        };
        Execution {
            path,
            arguments: &mut self.arguments,
            environment,
            stdin: socket.as_fd(),
            stdout: socket.as_fd(),
            stderr,
            limits: &self.program.limits,
            nice: self.program.nice,
            group: Group::Own,
            parent: self.supervisor,
            cgroup: launch_context.cgroup.as_ref(),
            identity: self.identity.map(Identity::to_ids),
            kept: None,
            passed: None,
            jail: self.jail.is_any().then_some(&self.jail as &dyn Confine),
        }
    }
}

/// The path and the arguments of a program. A path with a zero byte is empty, which does not exist.
fn executable(words: &[OsString]) -> (CString, CStrings) {
    let mut arguments = CStrings::default();
    words.iter().for_each(|word| arguments.push_bytes(word.as_bytes()));
    let path = words.first().map(|word| word.as_bytes()).unwrap_or_default();
    (CString::new(path).unwrap_or_default(), arguments)
}

/// The descriptor that becomes standard error; `None` keeps the present one.
pub(super) fn choose_stderr<'a>(
    stderr: Stderr,
    socket: &'a OwnedFd,
    pipe: Option<&'a OwnedFd>,
    null: Option<&'a OwnedFd>,
) -> Option<BorrowedFd<'a>> {
    match stderr {
        Stderr::Client => Some(socket.as_fd()),
        Stderr::Log | Stderr::Server => pipe.map(AsFd::as_fd),
        Stderr::Null => null.map(AsFd::as_fd),
    }
}

pub(super) fn cannot_execute(path: &CStr, why: &io::Error) -> ExitReport {
    ExitReport::Error(format!("cannot execute {}: {}", path.to_string_lossy(), reason(why)))
}
