//! A program behind a port: what is executed for each connection, and how it is surrounded.

mod environment;
mod find;
pub(crate) mod launch;
mod prepare;
mod relay;

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub use prepare::{Incoming, PrepareResult};
pub use tine_sys::exec::Limit;

use tine_sys::exec::LIMITS;

use crate::error::Error;
use crate::system::users::Identity;
pub(crate) use environment::{Environment, SERVICE};
use prepare::Prepare;

/// A program that is executed for each connection, which it has as its standard input and output: the
/// socket itself, nothing in between.
///
/// By default it inherits what the server has (`docs/operating.md` has the table), leads a process group
/// of its own, and dies with the server.
#[derive(Clone, Debug)]
pub struct Program {
    words: Vec<OsString>,
    pub(crate) environment: Environment,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: i32,
    pub(crate) limits: Vec<Limit>,
    pub(crate) stderr: Stderr,
    pub(crate) kill_mode: KillMode,
    pub(crate) terminal: Terminal,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) argv0: Option<OsString>,
    pub(crate) reverse_dns: bool,
    pub(crate) remote_host: bool,
    pub(crate) prepare: Option<Prepare>,
}

/// Where a program's standard error goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stderr {
    /// To the server's own.
    #[default]
    Server,
    /// Each line into the server's log, with the connection's id.
    Log,
    /// To the client, like its output.
    Client,
    /// Nowhere.
    Null,
}

/// What happens to the descendants of a program that has ended by itself (`KillMode=`, systemd.kill(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KillMode {
    /// Nothing: they may go on, as what git detaches to tidy up does.
    #[default]
    Process,
    /// Those in its process group get TERM, and KILL after two seconds.
    Group,
    /// All of them get that, also those in groups and sessions of their own.
    All,
}

/// Whether a program talks to a terminal instead of the socket. Then its connection has a second process,
/// which carries the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terminal {
    /// No: it has the socket itself.
    #[default]
    None,
    /// Standard input, output and error are a terminal, which it leads a session on: 80 columns, no echo.
    Full,
    /// Standard output is one, so that the C library writes line by line.
    Output,
}

impl Program {
    /// A program by its name, which is searched for in `PATH` unless it has a slash, and its arguments.
    /// No shell is involved.
    #[must_use]
    pub fn new<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Program {
        Program {
            words: words.into_iter().map(Into::into).collect(),
            environment: Environment::default(),
            directory: None,
            umask: None,
            nice: 0,
            limits: Vec::new(),
            stderr: Stderr::default(),
            kill_mode: KillMode::default(),
            terminal: Terminal::default(),
            cgroup: None,
            argv0: None,
            reverse_dns: false,
            remote_host: false,
            prepare: None,
        }
    }

    /// What it finds as its own name, in place of the one by which it was found.
    #[must_use]
    pub fn argv0(mut self, name: Option<OsString>) -> Program {
        self.argv0 = name;
        self
    }

    /// Whether the name of a client's host is looked up before it is executed, in the connection's own process: it gets it as
    /// `TCPREMOTEHOST` where the name leads back to the address, and rules about names decide
    /// ([`AccessRules::reverse_dns`](crate::AccessRules::reverse_dns)). Default: no.
    #[must_use]
    pub fn reverse_dns(mut self, asked: bool) -> Program {
        self.reverse_dns = asked;
        self
    }

    /// Whether it gets the client's address as `REMOTE_HOST`, too, as from xinetd; or the name, where that is looked up and known
    /// (RFC 3875, 4.1.9). Default: no.
    #[must_use]
    pub fn remote_host(mut self, given: bool) -> Program {
        self.remote_host = given;
        self
    }

    /// What is to be done before it is executed, in the connection's own process. Making one for that takes longer than executing
    /// at once.
    #[must_use]
    pub fn prepare(mut self, prepare: impl Fn(&Incoming) -> PrepareResult + 'static) -> Program {
        self.prepare = Some(Prepare(std::rc::Rc::new(prepare)));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Program {
        self.environment.set(name.into(), value.into());
        self
    }

    /// Whether it starts with nothing of the server's environment. Default: no.
    #[must_use]
    pub fn clear_env(mut self, clear: bool) -> Program {
        self.environment.clear(clear);
        self
    }

    /// Its working directory. Default: the server's.
    #[must_use]
    pub fn directory(mut self, directory: Option<PathBuf>) -> Program {
        self.directory = directory;
        self
    }

    /// Its file mode creation mask. Default: the server's.
    #[must_use]
    pub fn umask(mut self, mask: Option<u32>) -> Program {
        self.umask = mask;
        self
    }

    /// Added to the server's nice value.
    #[must_use]
    pub fn nice(mut self, more: i32) -> Program {
        self.nice = more;
        self
    }

    /// A limit on what it may use (setrlimit(2)).
    #[must_use]
    pub fn limit(mut self, limit: Limit) -> Program {
        self.limits.retain(|other| other.resource != limit.resource);
        self.limits.push(limit);
        self
    }

    /// Where its standard error goes. Default: to the server's.
    #[must_use]
    pub fn stderr(mut self, stderr: Stderr) -> Program {
        self.stderr = stderr;
        self
    }

    /// Whether it talks to a terminal. Default: no.
    #[must_use]
    pub fn terminal(mut self, terminal: Terminal) -> Program {
        self.terminal = terminal;
        self
    }

    /// What becomes of its descendants when it ends. Default: they go on.
    #[must_use]
    pub fn kill_mode(mut self, mode: KillMode) -> Program {
        self.kill_mode = mode;
        self
    }

    /// A directory of the cgroup v2 hierarchy that the server may write: there each connection has a cgroup,
    /// by which all that its program starts is found and ended, whatever it does to hide (cgroups(7)).
    /// Default: none; then a program that clears its environment and detaches is ended with the server.
    #[must_use]
    pub fn cgroup(mut self, directory: Option<PathBuf>) -> Program {
        self.cgroup = directory;
        self
    }

    /// Has it start with this limit on open files, unless it was given another.
    pub(crate) fn keep_open_files(&mut self, soft: u64, hard: u64) {
        let which = LIMITS.iter().find(|(name, _)| *name == "nofile");
        if let Some((_, resource)) = which
            && !self.limits.iter().any(|limit| limit.resource == *resource)
        {
            self.limits.push(Limit { resource: *resource, soft, hard });
        }
    }

    /// The file to execute, once it is known that this user, or the one of this process, can.
    ///
    /// # Errors
    /// There is none, or the working directory does not exist, or no cgroup can be made where one is wanted.
    pub fn find(&self, identity: Option<&Identity>) -> Result<CString, Error> {
        if let Some(directory) = &self.directory
            && !directory.is_dir()
        {
            return Err(Error::usage(
                format_args!("there is no directory {}", directory.display()),
                "create it, or name another working directory (--cwd)",
            ));
        }
        self.cgroup.as_deref().map(crate::system::cgroup::check).transpose()?;
        let name = self.words.first().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Error::usage("no program is named", "name one after --"))?;
        let path = find::find(name, self.directory.as_deref(), identity)?;
        CString::new(path.as_os_str().as_bytes())
            .map_err(|_| Error::usage("the program's name has a zero byte in it", "name another"))
    }
}
