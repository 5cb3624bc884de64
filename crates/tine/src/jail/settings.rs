//! What is asked of a jail: the builder stores, `plan.rs` decides.

use std::path::PathBuf;
use std::time::Duration;

use rustix::thread::CapabilitySet;

use super::choices::{JailMode, JailProfile, PrivateNetwork, PrivateUsers};
use super::families::Families;
use super::filter::RefusedCall;
use super::network_allow::AllowedEndpoint;
use super::path_view::{BindPath, PathView};
use super::resources::{CgroupController, ResourceLimits};
use super::system_calls::Term;
use super::temporary::TemporaryFileSystem;
use crate::error::Error;

/// The jail that each connection is served in: the process of a connection gives up rights before
/// its handler or program runs.
///
/// The protections have the names of systemd.exec(5). Those that are set are required: where the
/// kernel refuses one, the server does not start. The others are as the mode has them.
///
/// ```
/// use tine::{Jail, JailMode};
///
/// let jail = Jail::new(JailMode::Light).read_write_path("/var/lib/guestbook");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Jail {
    pub(super) mode: JailMode,
    pub(super) no_new_privileges: Option<bool>,
    pub(super) capabilities: Option<CapabilitySet>,
    pub(super) system_calls: Vec<Term>,
    pub(super) refusal: Option<RefusedCall>,
    pub(super) families: Option<Families>,
    pub(super) restrict_namespaces: Option<bool>,
    pub(super) restrict_realtime: Option<bool>,
    pub(super) restrict_suid_sgid: Option<bool>,
    pub(super) lock_personality: Option<bool>,
    pub(super) memory_deny_write_execute: Option<bool>,
    pub(super) protect_system: Option<bool>,
    pub(super) read_write_paths: Vec<PathBuf>,
    pub(super) inaccessible_paths: Vec<PathBuf>,
    pub(super) root_directory: Option<PathBuf>,
    pub(super) bind_read_only_paths: Vec<BindPath>,
    pub(super) bind_paths: Vec<BindPath>,
    /// The size of `/tmp` in bytes.
    pub(super) private_tmp: Option<u64>,
    pub(super) temporary_file_systems: Vec<TemporaryFileSystem>,
    pub(super) private_network: Option<PrivateNetwork>,
    pub(crate) network_allow: Vec<AllowedEndpoint>,
    pub(crate) uid_range: Option<(u32, u32)>,
    pub(crate) private_users: Option<PrivateUsers>,
    pub(super) jail_init: Option<bool>,
    pub(super) profile: Option<JailProfile>,
    /// The limits that were set; the inner value is `None` for no limit.
    memory_max: Option<Option<u64>>,
    tasks_max: Option<Option<u64>>,
    cpu_quota: Option<Option<u32>>,
}

impl Jail {
    /// A jail with the protections of this mode.
    #[must_use]
    pub fn new(mode: JailMode) -> Jail {
        Jail { mode, ..Jail::default() }
    }

    /// Sets whether the program, and all that it executes, can gain no privileges by set-user-ID
    /// bits or file capabilities (`NoNewPrivileges=`). The filter of system calls and Landlock need
    /// it. Default: yes in a jail.
    #[must_use]
    pub fn no_new_privileges(mut self, set: bool) -> Jail {
        self.no_new_privileges = Some(set);
        self
    }

    /// Sets the capabilities that the process may keep (`CapabilityBoundingSet=`): names as in
    /// capabilities(7), or `none`. Default: none in a jail.
    ///
    /// # Errors
    /// There is no such capability.
    pub fn capability_bounding_set(mut self, names: &str) -> Result<Jail, Error> {
        let mut set = CapabilitySet::empty();
        for name in names.split_whitespace().filter(|name| *name != "none") {
            let bare = name.to_uppercase();
            let bare = bare.strip_prefix("CAP_").unwrap_or(&bare);
            set |= CapabilitySet::from_name(bare).ok_or_else(|| {
                Error::usage(
                    format_args!("there is no capability {name:?}"),
                    "name them as capabilities(7) does, or write none",
                )
            })?;
        }
        self.capabilities = Some(set);
        Ok(self)
    }

    /// Changes the system calls that are allowed (`SystemCallFilter=`): names and groups as in
    /// `@network-io` are allowed, with `~` before them refused, in this order; `@known` is all. In
    /// a jail they change its own set, which is `@system-service` without calls for namespaces,
    /// keys, io_uring, scheduling and other processes. Without one, they change the set of all
    /// calls if the first of them refuses, else that of `@default`.
    ///
    /// # Errors
    /// There is no such system call or group.
    pub fn system_call_filter(mut self, terms: &str) -> Result<Jail, Error> {
        for term in terms.split_whitespace() {
            self.system_calls.push(Term::parse(term)?);
        }
        Ok(self)
    }

    /// Sets what a refused system call does (`SystemCallErrorNumber=`): the name of an error, which
    /// it returns, or `kill`, which ends the process with SIGSYS. Default: `EPERM`.
    ///
    /// # Errors
    /// It is neither.
    pub fn system_call_error_number(mut self, name: &str) -> Result<Jail, Error> {
        self.refusal = Some(name.parse()?);
        Ok(self)
    }

    /// Sets the address families that sockets can be made of (`RestrictAddressFamilies=`): names as
    /// in address_families(7), `none`, or, with `~` before each, those that are refused. Default in
    /// a jail: `AF_UNIX AF_INET AF_INET6`.
    ///
    /// # Errors
    /// There is no such family.
    pub fn restrict_address_families(mut self, names: &str) -> Result<Jail, Error> {
        self.families = Some(names.parse()?);
        Ok(self)
    }

    /// Sets whether namespaces can be neither made nor entered (`RestrictNamespaces=`). clone3(2)
    /// then does not exist, as its flags cannot be filtered. Default: yes in a jail.
    #[must_use]
    pub fn restrict_namespaces(mut self, set: bool) -> Jail {
        self.restrict_namespaces = Some(set);
        self
    }

    /// Sets whether real-time scheduling is refused (`RestrictRealtime=`). Default: yes in a jail.
    #[must_use]
    pub fn restrict_realtime(mut self, set: bool) -> Jail {
        self.restrict_realtime = Some(set);
        self
    }

    /// Sets whether files cannot get set-user-ID and set-group-ID bits (`RestrictSUIDSGID=`).
    /// openat2(2) then does not exist, as its mode cannot be filtered. Default: yes in a jail.
    #[must_use]
    pub fn restrict_suid_sgid(mut self, set: bool) -> Jail {
        self.restrict_suid_sgid = Some(set);
        self
    }

    /// Sets whether personality(2) can only ask (`LockPersonality=`). Default: yes in a jail.
    #[must_use]
    pub fn lock_personality(mut self, set: bool) -> Jail {
        self.lock_personality = Some(set);
        self
    }

    /// Sets whether memory cannot become executable after it was writable
    /// (`MemoryDenyWriteExecute=`; `PR_SET_MDWE`, Linux 6.3). It breaks compilers that run what
    /// they have just made. Default: no.
    #[must_use]
    pub fn memory_deny_write_execute(mut self, set: bool) -> Jail {
        self.memory_deny_write_execute = Some(set);
        self
    }

    /// Sets whether no file can be written, made or removed (`ProtectSystem=strict`), besides those
    /// below [`Jail::read_write_path`] and the devices null, zero, full and tty. Landlock refuses
    /// it. Default: yes in a jail.
    #[must_use]
    pub fn protect_system(mut self, strict: bool) -> Jail {
        self.protect_system = Some(strict);
        self
    }

    /// Adds a file or directory that can be written, with what is below it (`ReadWritePaths=`). A
    /// full jail has it at the same path.
    #[must_use]
    pub fn read_write_path(mut self, path: impl Into<PathBuf>) -> Jail {
        self.read_write_paths.push(path.into());
        self
    }

    /// Adds a file or directory that cannot be opened, nor anything below it
    /// (`InaccessiblePaths=`). Files that are made later beside it, or beside a directory above it,
    /// cannot be opened either until the server is started again.
    #[must_use]
    pub fn inaccessible_path(mut self, path: impl Into<PathBuf>) -> Jail {
        self.inaccessible_paths.push(path.into());
        self
    }

    /// Sets the root directory of a full jail (`RootDirectory=`): it has what is in this directory
    /// instead of `/usr` and the other directories of the system's programs, to read. The program
    /// and its working directory are paths in there. `/dev`, `/proc` and `/tmp` are those of the
    /// jail.
    #[must_use]
    pub fn root_directory(mut self, directory: impl Into<PathBuf>) -> Jail {
        self.root_directory = Some(directory.into());
        self
    }

    /// Adds a file or directory that a full jail has, with what is below it, to read
    /// (`BindReadOnlyPaths=`): at the path `at`. Without [`Jail::root_directory`], a jail has
    /// `/usr` and the other directories of the system's programs, the program itself and its
    /// working directory without being told.
    #[must_use]
    pub fn bind_read_only_path(mut self, source: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Jail {
        self.bind_read_only_paths.push(BindPath { source: source.into(), at: at.into() });
        self
    }

    /// Adds a file or directory that a full jail has, with what is below it, to read and to write
    /// (`BindPaths=`): at the path `at`.
    #[must_use]
    pub fn bind_path(mut self, source: impl Into<PathBuf>, at: impl Into<PathBuf>) -> Jail {
        self.bind_paths.push(BindPath { source: source.into(), at: at.into() });
        self
    }

    /// Sets the size of the `/tmp` that each connection in a full jail has, in bytes
    /// (`PrivateTmp=`). It takes memory. Default: 16 MiB, with 1,024 files.
    #[must_use]
    pub fn private_tmp(mut self, size: u64) -> Jail {
        self.private_tmp = Some(size);
        self
    }

    /// Adds a directory that each connection in a full jail has of its own, empty at its start and
    /// to write (`TemporaryFileSystem=`): at the path `path`, of a size in bytes. It takes memory,
    /// and hides what a jail has there otherwise. Default size: 16 MiB, with 1,024 files.
    #[must_use]
    pub fn temporary_file_system(mut self, path: impl Into<PathBuf>, size: impl Into<Option<u64>>) -> Jail {
        self.temporary_file_systems.push(TemporaryFileSystem { path: path.into(), size: size.into() });
        self
    }

    /// Sets the network of a full jail (`PrivateNetwork=`). Default: [`PrivateNetwork::Empty`].
    #[must_use]
    pub fn private_network(mut self, network: PrivateNetwork) -> Jail {
        self.private_network = Some(network);
        self
    }

    /// Adds an endpoint that a full jail without the network of the machine can connect to by TCP:
    /// `HOST:PORT`, where the host is an address, a network as in `10.0.0.0/8`, or a name, which is
    /// looked up at the start of the server, and the port a number, or `*` for each. IPv6 addresses
    /// are in brackets.
    ///
    /// # Errors
    /// It is no such endpoint.
    pub fn network_allow(mut self, endpoint: &str) -> Result<Jail, Error> {
        self.network_allow.push(endpoint.parse()?);
        Ok(self)
    }

    /// Sets the users of connections in a full jail: each has one of its own, from `first` to
    /// `last`, and a group of the same number. The server has to be root. There have to be more of
    /// them than connections at a time: the server's processes have the next one. Default: as
    /// [`PrivateUsers`] says.
    #[must_use]
    pub fn uid_range(mut self, first: u32, last: u32) -> Jail {
        self.uid_range = Some((first, last));
        self
    }

    /// Sets who serves connections in a full jail (`PrivateUsers=`). Default: a user for each
    /// connection if root starts the server without naming a user, else one for all.
    #[must_use]
    pub fn private_users(mut self, users: PrivateUsers) -> Jail {
        self.private_users = Some(users);
        self
    }

    /// Sets whether the first process of a full jail's pid namespace is one of the server. Without
    /// it, the process of the connection is: it gets no signal that it does not handle but KILL
    /// from outside, and the orphans of the jail are its children. Default: yes.
    #[must_use]
    pub fn jail_init(mut self, set: bool) -> Jail {
        self.jail_init = Some(set);
        self
    }

    /// Sets the values that are not set otherwise.
    #[must_use]
    pub fn profile(mut self, profile: JailProfile) -> Jail {
        self.profile = Some(profile);
        self
    }

    /// Sets the memory in bytes that all processes of a connection can have together
    /// (`MemoryMax=`), with that of its `/tmp` and other temporary file systems; `None` for no
    /// limit. It takes a cgroup: the server starts only where it can make some. Beyond it, the
    /// kernel ends a process, and with cgroups of version 2 the connection. Default: no limit.
    #[must_use]
    pub fn memory_max(mut self, bytes: impl Into<Option<u64>>) -> Jail {
        self.memory_max = Some(bytes.into());
        self
    }

    /// Sets the number of processes and threads of a connection (`TasksMax=`); `None` for no limit.
    /// It takes a cgroup, or a program in a full jail with users of its own. Default: no limit.
    #[must_use]
    pub fn tasks_max(mut self, tasks: impl Into<Option<u64>>) -> Jail {
        self.tasks_max = Some(tasks.into());
        self
    }

    /// Sets the processor time of a connection in percent of one processor (`CPUQuota=`); `None`
    /// for no limit. It takes a cgroup. Default: no limit.
    #[must_use]
    pub fn cpu_quota(mut self, percent: impl Into<Option<u32>>) -> Jail {
        self.cpu_quota = Some(percent.into());
        self
    }

    /// How long a connection may last, unless it is set otherwise.
    pub(crate) fn max_lifetime(&self) -> Option<Duration> {
        match self.profile? {
            JailProfile::Ctf => Some(Duration::from_secs(20)),
        }
    }

    /// The limits on what a connection uses.
    pub(crate) fn resources(&self) -> ResourceLimits {
        let of_profile = self.profile.map(JailProfile::resources).unwrap_or_default();
        ResourceLimits {
            memory: self.memory_max.unwrap_or(of_profile.memory),
            tasks: self.tasks_max.unwrap_or(of_profile.tasks),
            cpu: self.cpu_quota.unwrap_or(of_profile.cpu),
        }
    }

    /// Whether a limit was set, and not by the profile.
    pub(super) fn names_limit(&self, controller: CgroupController) -> bool {
        match controller {
            CgroupController::Memory => self.memory_max.is_some(),
            CgroupController::Pids => self.tasks_max.is_some(),
            CgroupController::Cpu => self.cpu_quota.is_some(),
        }
    }

    /// What processes in the jail see of the system, if that differs from what others see.
    pub(crate) fn path_view(&self) -> Option<PathView> {
        let own = self.bind_read_only_paths.iter().chain(&self.bind_paths).cloned();
        let same = self.read_write_paths.iter().cloned().map(BindPath::same);
        let temporary = self.temporary().into_iter().map(|own| own.path).collect();
        let view =
            PathView { root: self.root_directory.clone(), binds: own.chain(same).collect(), temporary };
        let differs = view.root.is_some()
            || !self.temporary_file_systems.is_empty()
            || view.binds.iter().any(|bind| bind.source != bind.at);
        differs.then_some(view)
    }

    /// The file systems in memory of a connection in a full jail, `/tmp` first.
    pub(super) fn temporary(&self) -> Vec<TemporaryFileSystem> {
        let tmp = TemporaryFileSystem::tmp(self.private_tmp);
        [tmp].into_iter().chain(self.temporary_file_systems.iter().cloned()).collect()
    }

    /// Whether the process of a connection is the first of its pid namespace.
    pub(crate) fn is_without_init(&self) -> bool {
        self.jail_init == Some(false)
    }

    /// The mode.
    #[must_use]
    pub fn mode(&self) -> JailMode {
        self.mode
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named_as_in_the_manual() {
        for (names, expected) in [
            ("none", CapabilitySet::empty()),
            ("CAP_NET_BIND_SERVICE", CapabilitySet::NET_BIND_SERVICE),
            ("chown cap_kill", CapabilitySet::CHOWN | CapabilitySet::KILL),
        ] {
            let jail = Jail::default().capability_bounding_set(names).expect(names);
            assert_eq!(jail.capabilities, Some(expected), "{names}");
        }
        Jail::default().capability_bounding_set("CAP_NOTHING").expect_err("no such capability");
    }
}
