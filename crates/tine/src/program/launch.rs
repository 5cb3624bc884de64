//! Executing the program for a connection. Runs in forkers, and in spares that have got their client.

use std::ffi::{CStr, CString};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::AtomicI32;

use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, Signal};
use tine_sys::exec::{CStrings, CgroupEntry, Execution, Stack, spawn_sibling};
use tine_sys::fd::Floor;
use tine_sys::identity::become_user;
use tine_sys::process::{Alone, Fresh, How, Side, exit_now, fork};

use super::environment::{Ends, describe};
use super::prepare::{Incoming, to_bytes};
use super::{Program, Stderr, Terminal, relay};
use crate::admission::access::PendingNameRules;
use crate::error::reason;
use crate::lifecycle::outcome::Report;
use crate::net::dns::confirmed_name;
use crate::net::peer::{Peer, canonical};
use crate::shared::board::Entry;
use crate::system::procfs::own_id;
use crate::system::users::Identity;

/// A program, ready to be executed for one connection after the other.
#[derive(Debug)]
pub(crate) struct Launcher<'a> {
    path: CString,
    image: Image<'a>,
    stack: Stack,
    /// Where the reading ends of standard error go.
    stderr_logger: Option<OwnedFd>,
}

/// A connection that the program is executed for.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    pub(crate) socket: &'a OwnedFd,
    pub(crate) entry: Entry,
    pub(crate) launch_context: &'a LaunchContext,
}

/// What a forker finds out for a connection's process, which cannot: it has none of the tables.
#[derive(Debug, Default)]
pub(crate) struct LaunchContext {
    /// The way into its cgroup, where it has one.
    pub(crate) cgroup: Option<CgroupEntry>,
    /// The variables that a rule sets for it, `NAME=VALUE` and a zero byte each.
    pub(crate) variables: Vec<u8>,
    /// What the rules leave to its client's name.
    pub(crate) pending_name_rules: Option<PendingNameRules>,
}

/// What is executed. It is the same for all connections, but for the last variables of the environment.
#[derive(Debug)]
struct Image<'a> {
    program: &'a Program,
    arguments: CStrings,
    environment: CStrings,
    /// How many variables every connection has.
    common: usize,
    /// The environment of the last connection for which a rule sets variables.
    special: CStrings,
    null: Option<OwnedFd>,
    /// Who the program runs as, if not who this process is.
    identity: Option<&'a Identity>,
    /// Whose death ends the program; `None` where it outlives the server.
    supervisor: Option<i32>,
}

impl<'a> Launcher<'a> {
    /// Makes this process ready to execute the program: a forker, as the user that the program runs as unless
    /// that is to be changed by then.
    /// What the program is to inherit is changed here, once: working directory and mask.
    pub(crate) fn new(
        program: &'a Program,
        path: CString,
        identity: Option<&'a Identity>,
        supervisor: Option<Pid>,
        stderr_logger: Option<OwnedFd>,
        lowest: Floor,
    ) -> io::Result<Launcher<'a>> {
        if let Some(directory) = &program.directory {
            std::env::set_current_dir(directory)?;
        }
        if let Some(mask) = program.umask {
            rustix::process::umask(Mode::from_raw_mode(mask));
        }
        let mut arguments = CStrings::default();
        let name = program.argv0.as_ref().or(program.words.first());
        let words = name.into_iter().chain(program.words.iter().skip(1));
        words.for_each(|word| arguments.push_bytes(word.as_bytes()));
        let environment = program.environment.base(std::env::vars_os());
        let null = match program.stderr {
            Stderr::Null => {
                let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
                Some(lowest.duplicate(null)?)
            }
            _ => None,
        };
        let common = environment.len();
        let supervisor = supervisor.map(|supervisor| supervisor.as_raw_nonzero().get());
        let special = CStrings::default();
        let image = Image { program, arguments, environment, common, special, null, identity, supervisor };
        Ok(Launcher { path, image, stack: Stack::new()?, stderr_logger })
    }

    /// Makes a new process that executes the program on a connection. One that cannot tells `failed` why,
    /// and ends.
    ///
    /// # Errors
    /// There is no new process.
    pub(crate) fn spawn(
        &mut self,
        alone: &Alone,
        id: &AtomicI32,
        client: &Client,
        failed: &dyn Fn(&Report),
    ) -> io::Result<i32> {
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

    /// Executes the program in this process, which was made for the connection. Returns only if it cannot.
    pub(crate) fn execute(&mut self, client: &Client) -> Report {
        let why = match self.stderr(client.entry.id) {
            Ok(stderr) => self.image.execution(&self.path, client, stderr.as_ref()).run(),
            Err(why) => why,
        };
        cannot_execute(&self.path, &why)
    }

    /// Whether something is to be done before the program is executed.
    pub(crate) fn prepares(&self) -> bool {
        self.image.program.prepare.is_some() || self.image.program.reverse_dns
    }

    /// Does that, in the connection's process, and returns variables for the program. Ends the process where that is what was
    /// prepared.
    ///
    /// # Errors
    /// The client may not come, by its name.
    pub(crate) fn prepare(
        &self,
        fresh: &Fresh,
        client: &Client,
        first_own: Floor,
    ) -> Result<Vec<u8>, Report> {
        if matches!(self.image.program.stderr, Stderr::Server | Stderr::Client) {
            // It may take long: the server's addresses are not to stay taken for it.
            tine_sys::fd::close_from(fresh, first_own);
        }
        let mut variables = match self.image.program.reverse_dns {
            true => self.look_up_name(client)?,
            false => client.launch_context.variables.clone(),
        };
        if let Some(prepare) = &self.image.program.prepare {
            let socket = client.socket.as_fd();
            let local = match ends(socket, client.entry.peer) {
                Ends::Tcp { local, .. } => local,
                Ends::Unix { .. } => None,
            };
            match prepare.0(&Incoming { peer: client.entry.peer, local, socket }) {
                Ok(more) => variables.extend(to_bytes(&more)),
                Err(code) => exit_now(code.into()),
            }
        }
        Ok(variables)
    }

    /// Finds out the name of a client's host, and what that decides.
    fn look_up_name(&self, client: &Client) -> Result<Vec<u8>, Report> {
        let launch_context = client.launch_context;
        let Peer::Tcp(address) = client.entry.peer else { return Ok(launch_context.variables.clone()) };
        let name = confirmed_name(address.ip());
        let decided = launch_context
            .pending_name_rules
            .as_ref()
            .map(|pending_name_rules| pending_name_rules.decide(name.as_deref()));
        let (may_come, by_name) = decided.unwrap_or((true, None));
        if !may_come {
            let name = name.as_deref().unwrap_or("it has none");
            return Err(Report::Error(format!("denied by the name of its host: {name}")));
        }
        let mut variables = Vec::new();
        if let Some(name) = name {
            variables.extend_from_slice(format!("TCPREMOTEHOST={name}\0").as_bytes());
            if self.image.program.remote_host {
                variables.extend_from_slice(format!("REMOTE_HOST={name}\0").as_bytes());
            }
        }
        // Of one rule, as ever: where its name has decided, of that.
        variables.extend_from_slice(by_name.unwrap_or(&launch_context.variables));
        Ok(variables)
    }

    /// Whether the connection's process stays beside the program.
    pub(crate) fn relays(&self) -> bool {
        self.image.program.terminal != Terminal::None
    }

    /// Executes the program in a child of this process, which was made for the connection, and carries bytes
    /// between them until it has ended. Then this process ends as the program did.
    ///
    /// Descriptors from `first_own` on, the server's, are closed first.
    pub(crate) fn relay(&mut self, fresh: &Fresh, client: &Client, first_own: Floor) -> Report {
        match self.try_relay(fresh, client, first_own) {
            Ok(How::Exited(code)) => exit_now(code),
            Ok(How::Signaled(signal)) => {
                // Without a handler it ends this process, too; should it be one that does not, as said by shells.
                tine_sys::signal::raise(signal);
                exit_now(128 + signal)
            }
            Err(why) => cannot_execute(&self.path, &why),
        }
    }

    fn try_relay(&mut self, fresh: &Fresh, client: &Client, first_own: Floor) -> io::Result<How> {
        // What was prepared may have started threads since the supervisor counted them.
        let alone = &Alone::check().map_err(io::Error::other)?;
        // The program follows it there, and it reads the client's bytes as that user.
        if let Some(cgroup) = &client.launch_context.cgroup {
            cgroup.enter()?;
        }
        if let Some(identity) = self.image.identity.take() {
            become_user(alone, &identity.to_ids())?;
        }
        let socket = client.socket;
        let kind = self.image.program.terminal;
        let pipe = self.stderr(client.entry.id)?;
        let stderr =
            choose_stderr(self.image.program.stderr, socket, pipe.as_ref(), self.image.null.as_ref());
        let has_stderr = stderr.is_some();
        // What the program is to have there, this process has, too: it says nothing itself.
        stderr.map_or(Ok(()), rustix::stdio::dup2_stderr)?;
        drop(pipe);
        tine_sys::fd::close_from(fresh, first_own);
        let (own, other) = relay::open(kind)?;
        let relay = own_id();
        match fork(alone, Signal::CHILD.as_raw())? {
            Side::Child(_fresh) => {
                let mut execution = self.image.execution(&self.path, client, None);
                execution.cgroup = None;
                execution.stdout = other.as_fd();
                execution.parent = Some(relay);
                if kind == Terminal::Full {
                    execution.stdin = other.as_fd();
                    execution.terminal = true;
                }
                execution.stderr = (kind == Terminal::Full && !has_stderr).then_some(other.as_fd());
                // Found out at the start; who removed it since is told by the code that shells use.
                execution.run();
                exit_now(127)
            }
            Side::Parent(child) => {
                drop(other);
                let ended = relay::carry(socket, own, child, kind == Terminal::Full)?;
                let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Write);
                crate::connection::finish(socket);
                Ok(ended.how)
            }
        }
    }

    /// A pipe for what the program says on standard error, where that goes to the log.
    fn stderr(&self, connection: u64) -> io::Result<Option<OwnedFd>> {
        let Some(stderr_logger) = &self.stderr_logger else { return Ok(None) };
        let (reader, writer) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
        crate::processes::stderr_logger::hand_over(stderr_logger, &reader, connection);
        Ok(Some(writer))
    }
}

impl Image<'_> {
    fn execution<'b>(
        &'b mut self,
        path: &'b CStr,
        client: &'b Client,
        pipe: Option<&'b OwnedFd>,
    ) -> Execution<'b> {
        let Client { socket, entry, launch_context } = client;
        let stderr = choose_stderr(self.program.stderr, socket, pipe, self.null.as_ref());
        self.environment.truncate(self.common);
        let ends = ends(socket.as_fd(), entry.peer);
        describe(&mut self.environment, entry.id, &ends, self.program.remote_host);
        let variables = &launch_context.variables;
        let environment = match variables.is_empty() {
            true => &mut self.environment,
            false => {
                self.special = self.environment.with_variables(variables);
                &mut self.special
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
            terminal: false,
            parent: self.supervisor,
            cgroup: launch_context.cgroup.as_ref(),
            identity: self.identity.map(Identity::to_ids),
        }
    }
}

/// The file that becomes descriptor 2; `None` leaves it as it is.
fn choose_stderr<'a>(
    stderr: Stderr,
    socket: &'a OwnedFd,
    pipe: Option<&'a OwnedFd>,
    null: Option<&'a OwnedFd>,
) -> Option<BorrowedFd<'a>> {
    match stderr {
        Stderr::Client => Some(socket.as_fd()),
        Stderr::Log => pipe.map(AsFd::as_fd),
        Stderr::Null => null.map(AsFd::as_fd),
        Stderr::Server => None,
    }
}

fn ends(socket: BorrowedFd, peer: Peer) -> Ends {
    match peer {
        Peer::Tcp(remote) => {
            let local = rustix::net::getsockname(socket).ok();
            let local = local.and_then(|local| SocketAddr::try_from(local).ok()).map(canonical);
            Ends::Tcp { local, remote }
        }
        Peer::Unix => {
            let who = rustix::net::sockopt::socket_peercred(socket).ok();
            let who = who.map(|who| (who.uid.as_raw(), who.gid.as_raw(), who.pid.as_raw_nonzero().get()));
            Ends::Unix { peer: who }
        }
    }
}

fn cannot_execute(path: &CStr, why: &io::Error) -> Report {
    Report::Error(format!("cannot execute {}: {}", path.to_string_lossy(), reason(why)))
}
