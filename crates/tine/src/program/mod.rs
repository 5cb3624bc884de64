//! A program that is executed for each connection: its description, which the builder stores. The
//! other files find and execute it.

mod banner;
mod binfmt;
mod environment;
mod find;
mod format;
pub(crate) mod launch;
mod on_listener;
mod prepare;
pub(crate) mod relay;
mod resource;
pub(crate) mod served;
mod stay;
mod trial;
pub(crate) mod warm;

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use tine_sys::exec::Limit;

use crate::error::{Error, ErrorKind, named};
use crate::jail::path_view::PathView;
use crate::system::users::{Identity, Login};
pub(crate) use environment::{Environment, SERVICE};
use find::ProgramSearch;
use prepare::Prepare;
pub use prepare::{Incoming, Prepared};
pub use resource::Resource;
use warm::options::Warm;

/// A program that is executed for each connection. Its standard input and output are the socket
/// itself; nothing is relayed.
///
/// Unless it is told otherwise, it has the environment, working directory, umask and limits of the
/// server, no descriptor besides 0, 1 and 2, default signal actions, and a process group of its
/// own; and the kernel kills it when the server dies.
#[derive(Clone, Debug)]
pub struct Program {
    words: Vec<OsString>,
    pub(crate) environment: Environment,
    login_environment: Option<bool>,
    pub(crate) directory: Option<PathBuf>,
    pub(crate) umask: Option<u32>,
    pub(crate) nice: i32,
    pub(crate) limits: Vec<Limit>,
    pub(crate) stderr: Stderr,
    pub(crate) kill_mode: KillMode,
    pub(crate) terminal: Terminal,
    /// Rows and columns.
    pub(crate) terminal_size: (u16, u16),
    pub(crate) lingering_close: bool,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) argv0: Option<OsString>,
    pub(crate) reverse_dns: bool,
    pub(crate) remote_host: bool,
    pub(crate) prepare: Option<Prepare>,
    pub(crate) warm: Option<Warm>,
}

/// The destination of a program's standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stderr {
    /// The server's standard error.
    #[default]
    Server,
    /// The server's log: each line with the connection's id.
    Log,
    /// The client, like standard output.
    Client,
    /// Nowhere (`/dev/null`).
    Null,
}

named!(Stderr { Server = "server", Log = "log", Client = "client", Null = "null" });

/// What happens to the descendants of a program that ended by itself (`KillMode=`,
/// systemd.kill(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KillMode {
    /// Nothing: they go on, as git's detached maintenance does.
    #[default]
    Process,
    /// The members of its process group get TERM, and KILL after two seconds.
    Group,
    /// All descendants get TERM, and KILL after two seconds, in whatever group or session they are.
    All,
}

named!(KillMode { Process = "process", Group = "group", All = "all" });

/// Whether a program has a terminal instead of the socket. Then its connection has a second
/// process, which copies the bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Terminal {
    /// No terminal: it has the socket itself.
    #[default]
    None,
    /// Standard input, output and error are a terminal, its controlling terminal. It has no echo;
    /// input arrives line by line, and the end of the client's stream as the end of the input.
    Full,
    /// The same without lines: bytes arrive as they come and unchanged. Such a terminal has no end
    /// of input, so the program does not notice the end of the client's stream.
    Raw,
    /// Only standard output is a terminal, so that the C library writes line by line.
    Output,
}

impl Terminal {
    /// Whether standard input is the terminal, too.
    pub(crate) fn is_input(self) -> bool {
        matches!(self, Terminal::Full | Terminal::Raw)
    }
}

/// Rows and columns of a terminal, unless they are set.
pub(crate) const TERMINAL_SIZE: (u16, u16) = (24, 80);

impl Program {
    /// A program and its arguments. A name without a slash is searched for in the `PATH` that
    /// [`Program::env`] sets, else in that of the server. No shell is involved.
    #[must_use]
    pub fn new<W: Into<OsString>>(words: impl IntoIterator<Item = W>) -> Program {
        Program {
            words: words.into_iter().map(Into::into).collect(),
            environment: Environment::default(),
            login_environment: None,
            directory: None,
            umask: None,
            nice: 0,
            limits: Vec::new(),
            stderr: Stderr::default(),
            kill_mode: KillMode::default(),
            terminal: Terminal::default(),
            terminal_size: TERMINAL_SIZE,
            lingering_close: false,
            cgroup: None,
            argv0: None,
            reverse_dns: false,
            remote_host: false,
            prepare: None,
            warm: None,
        }
    }

    /// Sets its `argv[0]`. Default: the first word.
    #[must_use]
    pub fn argv0(mut self, name: impl Into<OsString>) -> Program {
        self.argv0 = Some(name.into());
        self
    }

    /// Sets whether the connection's process looks up the client's host name before it executes the
    /// program. The program gets a name that resolves to the client's address as `TCPREMOTEHOST`,
    /// and rules about host names apply
    /// ([`AccessRules::reverse_dns`](crate::AccessRules::reverse_dns)). Default: false.
    #[must_use]
    pub fn reverse_dns(mut self, look_up: bool) -> Program {
        self.reverse_dns = look_up;
        self
    }

    /// Sets whether the program also gets the client's address as `REMOTE_HOST`, as from xinetd;
    /// with [`Program::reverse_dns`], the host name, if there is one (RFC 3875, 4.1.9). Default:
    /// false.
    #[must_use]
    pub fn remote_host(mut self, set: bool) -> Program {
        self.remote_host = set;
        self
    }

    /// Sets a function that the connection's process calls before it executes the program. The
    /// process is then forked before the program is executed, which takes longer.
    #[must_use]
    pub fn prepare(mut self, prepare: impl Fn(&Incoming) -> Prepared + 'static) -> Program {
        self.prepare = Some(Prepare(std::rc::Rc::new(prepare)));
        self
    }

    /// Sets a variable of its environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Program {
        self.environment.set(name.into(), value.into());
        self
    }

    /// Removes a variable from its environment, also one that [`Program::env`] sets
    /// (`UnsetEnvironment=`, systemd.exec(5)). Those that describe the connection stay.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Program {
        self.environment.remove(name.into());
        self
    }

    /// Sets whether it gets `HOME`, `USER`, `LOGNAME` and `SHELL` of the user that it runs as, in
    /// place of the server's (`SetLoginEnvironment=`, systemd.exec(5)). What the user does not have
    /// is unset. Default: yes, if the server has an [`Identity`] with a user by name or number, or
    /// if each connection has a user of its own in a full jail: its home directory is `/tmp`.
    #[must_use]
    pub fn login_environment(mut self, set: bool) -> Program {
        self.login_environment = Some(set);
        self
    }

    /// Sets whether it inherits nothing of the server's environment. Default: false.
    #[must_use]
    pub fn clear_env(mut self, clear: bool) -> Program {
        self.environment.clear(clear);
        self
    }

    /// Sets its working directory. Default: the server's.
    #[must_use]
    pub fn directory(mut self, directory: impl Into<PathBuf>) -> Program {
        self.directory = Some(directory.into());
        self
    }

    /// Sets its file mode creation mask. Default: the server's.
    #[must_use]
    pub fn umask(mut self, mask: u32) -> Program {
        self.umask = Some(mask);
        self
    }

    /// Sets a number that is added to the server's nice value.
    #[must_use]
    pub fn nice(mut self, increment: i32) -> Program {
        self.nice = increment;
        self
    }

    /// Sets a resource limit, soft and hard ([`Resource::INFINITY`] for none).
    #[must_use]
    pub fn limit(mut self, resource: Resource, soft: u64, hard: u64) -> Program {
        let limit = resource.with(soft, hard);
        self.limits.retain(|other| other.resource != limit.resource);
        self.limits.push(limit);
        self
    }

    /// Sets the destination of its standard error. Default: the server's.
    #[must_use]
    pub fn stderr(mut self, stderr: Stderr) -> Program {
        self.stderr = stderr;
        self
    }

    /// Sets whether it has a terminal. Default: no.
    #[must_use]
    pub fn terminal(mut self, terminal: Terminal) -> Program {
        self.terminal = terminal;
        self
    }

    /// Sets the rows and columns of its terminal. Default: 24 and 80.
    #[must_use]
    pub fn terminal_size(mut self, rows: u16, columns: u16) -> Program {
        self.terminal_size = (rows, columns);
        self
    }

    /// Sets whether input that it has not read when it exits is discarded, for at most two seconds.
    /// If not, the kernel then sends a reset, which can destroy the end of its answer. Its
    /// connection has a second process for that, and its stream ends when it exits, also for
    /// descendants that still have it. Default: false.
    #[must_use]
    pub fn lingering_close(mut self, linger: bool) -> Program {
        self.lingering_close = linger;
        self
    }

    /// Sets whether it is started once and copied for each connection, and how. Default: it is
    /// executed for each.
    #[must_use]
    pub fn warm(mut self, warm: Option<Warm>) -> Program {
        self.warm = warm;
        self
    }

    /// Sets what happens to its descendants when it ends. Default: they go on.
    #[must_use]
    pub fn kill_mode(mut self, mode: KillMode) -> Program {
        self.kill_mode = mode;
        self
    }

    /// Sets a directory of the cgroup v2 hierarchy that the server may write. Each connection gets
    /// a cgroup there (cgroups(7)), so that no descendant of its program can escape from being
    /// killed. Default: none; then a descendant that clears its environment and detaches ends only
    /// with the server.
    #[must_use]
    pub fn cgroup(mut self, directory: impl Into<PathBuf>) -> Program {
        self.cgroup = Some(directory.into());
        self
    }

    /// Sets this limit on open files, unless it has one.
    pub(crate) fn keep_open_files(&mut self, soft: u64, hard: u64) {
        self.limit_by_default(Resource::Nofile, soft, hard);
    }

    /// Sets the limits of a full jail, unless it has others. `alone`: the connection has a user of
    /// its own, to which the variables of the server's user are not passed on.
    /// `tasks`: the limit on processes of that user, where no cgroup counts them.
    pub(crate) fn adapt_to_full_jail(&mut self, alone: bool, tasks: Option<u64>) {
        self.limit_by_default(Resource::Nofile, 64, 64);
        self.limit_by_default(Resource::Fsize, 16 << 20, 16 << 20);
        if let Some(tasks) = tasks {
            self.limit_by_default(Resource::Nproc, tasks, tasks);
        }
        if alone && self.login_environment != Some(false) {
            self.environment.set_login(Some(Login::in_full_jail()));
        }
    }

    fn limit_by_default(&mut self, resource: Resource, soft: u64, hard: u64) {
        let limit = resource.with(soft, hard);
        if !self.limits.iter().any(|other| other.resource == limit.resource) {
            self.limits.push(limit);
        }
    }

    /// Looks up the variables of the user that it runs as.
    pub(crate) fn look_up_login(&mut self, identity: Option<&Identity>) {
        let login = match (self.login_environment, identity.and_then(|identity| identity.login.clone())) {
            (Some(false), _) => None,
            (Some(true), None) => Some(Identity::own_login()),
            (_, login) => login,
        };
        self.environment.set_login(login);
    }

    /// Whether the connection process stays, as the parent of the program.
    pub(crate) fn is_child(&self) -> bool {
        self.terminal != Terminal::None || self.lingering_close
    }

    /// Its words, as they can be shown.
    pub(crate) fn shown_words(&self) -> Vec<String> {
        self.words.iter().map(|word| word.to_string_lossy().into_owned()).collect()
    }

    /// The file to execute, if this user (or that of this process) can execute it. `view`: what the
    /// program sees of the system, if that is not all of it.
    pub(crate) fn find(
        &self,
        identity: Option<&Identity>,
        view: Option<&PathView>,
    ) -> Result<CString, Error> {
        if let Some(directory) = &self.directory
            && !view.map_or_else(|| directory.is_dir(), |view| view.has_directory(directory))
        {
            return Err(Error::new(
                ErrorKind::WorkingDirectory,
                format_args!("there is no directory {}", directory.display()),
                "create it, or choose another working directory",
            ));
        }
        self.cgroup.as_deref().map(crate::system::cgroups::check).transpose()?;
        let error = |what, next| Error::new(ErrorKind::Program, what, next);
        let name = self.words.first().filter(|name| !name.is_empty());
        let name = name
            .ok_or_else(|| error("the program has no name", "give the program's name as its first word"))?;
        let directory = self.directory.as_deref();
        let search = ProgramSearch { directory, path: self.environment.path(), identity, view };
        let path = search.find(name)?;
        CString::new(path.as_os_str().as_bytes())
            .map_err(|_| error("the program's name contains a zero byte", "choose another name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_their_own_have_the_home_directory_of_their_jail() {
        let server = || [("HOME", "/root"), ("USER", "root")].into_iter().map(|(a, b)| (a.into(), b.into()));
        let (own, of_server) = (&["HOME=/tmp"][..], &["HOME=/root", "USER=root"][..]);
        for (alone, set, expected) in [
            (true, None, own),
            (true, Some(true), own),
            (true, Some(false), of_server),
            (false, None, of_server),
        ] {
            let mut program = Program { login_environment: set, ..Program::new(["cat"]) };
            program.adapt_to_full_jail(alone, None);
            let variables = program.environment.base(server());
            let variables: Vec<_> = variables.iter().map(|variable| variable.to_string_lossy()).collect();
            assert_eq!(variables, expected, "{alone} {set:?}");
        }
    }
}
