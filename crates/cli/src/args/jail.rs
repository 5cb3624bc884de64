//! The jail of each connection.

use std::path::PathBuf;

use clap::Args as ClapArgs;
use tine::{Jail, JailMode, JailProfile, PrivateNetwork, PrivateUsers, Server};

use super::program::size;
use super::{choice, yes_or_no};
use crate::error::Error;

/// The jail, and its protections one by one. Their names are those of systemd.exec(5).
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Jail")]
pub struct JailOptions {
    /// What each connection gives up before its service or program runs: the users, processes,
    /// files and network of the machine (full, also without a value), all that needs no namespace
    /// (light), what the kernel gives of it (auto), or nothing but the protections below (none).
    /// Started as root without --user, each connection of a full jail has a user of its own, from
    /// 524288 on; otherwise, --user has to be another than root
    #[arg(long, value_name = "MODE", require_equals = true, num_args = 0..=1, default_value_t,
        default_missing_value = "full", value_parser = choice::<JailMode>(JailMode::NAMES))]
    pub jail: JailMode,

    /// Values for a kind of service, where no others are set: ctf, for games, is --max-lifetime 20s
    /// --memory-max 5M --tasks-max 5 --cpu-quota 10%
    #[arg(long, value_name = "NAME", value_parser = choice::<JailProfile>(JailProfile::NAMES))]
    pub jail_profile: Option<JailProfile>,

    /// Users of connections in a full jail, started as root: a user and a group for each, and one
    /// more for the server's processes [default: from 524288 on]
    #[arg(long, value_name = "FIRST-LAST", value_parser = range)]
    pub uid_range: Option<(u32, u32)>,

    /// Who serves connections in a full jail: the user of the server or --user (self), or a user
    /// for each connection (range), of an ordinary user one of his subordinate ids (subuid(5))
    #[arg(long, value_name = "USERS", value_parser = choice::<PrivateUsers>(PrivateUsers::NAMES))]
    pub private_users: Option<PrivateUsers>,

    /// Whether the first process of a full jail is one of the server, so that the program gets
    /// signals as elsewhere and need not reap orphans [default: yes]
    #[arg(long, value_name = "BOOL", value_parser = yes_or_no())]
    pub jail_init: Option<bool>,

    /// Memory of all processes of a connection together, with that of its /tmp and temporary file
    /// systems; infinity for no limit. Takes cgroups
    #[arg(long, value_name = "SIZE", value_parser = limited(size))]
    pub memory_max: Option<Limited<u64>>,

    /// Processes and threads of a connection; infinity for no limit. Takes cgroups, or a program in
    /// a full jail with users of its own
    #[arg(long, value_name = "N", value_parser = limited(number))]
    pub tasks_max: Option<Limited<u64>>,

    /// Processor time of a connection in percent of one processor, as in 20%; infinity for no
    /// limit. Takes cgroups
    #[arg(long, value_name = "PERCENT", value_parser = limited(percent))]
    pub cpu_quota: Option<Limited<u32>>,

    /// Whether to exclude that a program gains privileges by set-user-ID bits or file capabilities
    /// [default: yes in a jail]
    #[arg(long, value_name = "BOOL", value_parser = yes_or_no())]
    pub no_new_privileges: Option<bool>,

    /// Capabilities that are kept: names as in capabilities(7), or none [default: none in a jail]
    #[arg(long, value_name = "NAMES")]
    pub capability_bounding_set: Option<String>,

    /// System calls that are allowed, as in "@network-io openat", or, with ~ before each, refused.
    /// They change the set of the jail, which is @system-service without calls for namespaces,
    /// keys, io_uring, scheduling and other processes
    #[arg(long, value_name = "NAMES", allow_hyphen_values = true)]
    pub system_call_filter: Vec<String>,

    /// What a refused system call returns, as in EPERM or ENOSYS, or kill [default: EPERM]
    #[arg(long, value_name = "ERROR")]
    pub system_call_error_number: Option<String>,

    /// Address families of new sockets, as in "AF_UNIX AF_INET", or, with ~ before each, those that
    /// are refused; or none [default: AF_UNIX AF_INET AF_INET6 in a jail]
    #[arg(long, value_name = "NAMES")]
    pub restrict_address_families: Option<String>,

    /// Whether to refuse new namespaces [default: yes in a jail]
    #[arg(long, value_name = "BOOL", value_parser = yes_or_no())]
    pub restrict_namespaces: Option<bool>,

    /// Whether to refuse real-time scheduling [default: yes in a jail]
    #[arg(long, value_name = "BOOL", value_parser = yes_or_no())]
    pub restrict_realtime: Option<bool>,

    /// Whether to refuse set-user-ID and set-group-ID bits on files [default: yes in a jail]
    #[arg(long = "restrict-suid-sgid", value_name = "BOOL", value_parser = yes_or_no())]
    pub restrict_suid_sgid: Option<bool>,

    /// Whether to refuse another personality(2) [default: yes in a jail]
    #[arg(long, value_name = "BOOL", value_parser = yes_or_no())]
    pub lock_personality: Option<bool>,

    /// Whether to refuse memory that becomes executable (Linux 6.3) [default: no]
    #[arg(long, value_name = "BOOL", value_parser = yes_or_no())]
    pub memory_deny_write_execute: Option<bool>,

    /// Whether files can be written below --read-write-paths only (strict), or as the user may (no)
    /// [default: strict in a jail]
    #[arg(long, value_name = "MODE", value_parser = ["strict", "no"])]
    pub protect_system: Option<String>,

    /// The network of a full jail: none, so that its connection works and no other can be made
    /// (yes), 127.0.0.1 and ::1 alone (loopback), or that of the machine (no) [default: yes in a
    /// full jail]
    #[arg(long, value_name = "NETWORK", value_parser = choice::<PrivateNetwork>(PrivateNetwork::NAMES))]
    pub private_network: Option<PrivateNetwork>,

    /// An endpoint that a full jail without the network of the machine can connect to by TCP: an
    /// address, a network as in 10.0.0.0/8 or a name, which is looked up at the start, and a port,
    /// or * for each
    #[arg(long, value_name = "HOST:PORT")]
    pub network_allow: Vec<String>,

    /// The root directory of a full jail, to read: what is in it replaces /usr and the other
    /// directories of the system's programs. The program is a path in there
    #[arg(long, value_name = "DIR")]
    pub root_directory: Option<PathBuf>,

    /// A file or directory that a full jail has, to read, at the same path or another, beside the
    /// system's programs, --cwd and the program itself
    #[arg(long, value_name = "PATH[:PATH]")]
    pub bind_read_only_paths: Vec<String>,

    /// A file or directory that a full jail has, to read and to write, at the same path or another
    #[arg(long, value_name = "PATH[:PATH]")]
    pub bind_paths: Vec<String>,

    /// The size of the /tmp that each connection in a full jail has [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub private_tmp: Option<u64>,

    /// A directory that each connection in a full jail has of its own, empty at its start and to
    /// write, and its size; it hides what is there otherwise [default size: 16M]
    #[arg(long, value_name = "PATH[:SIZE]", value_parser = place)]
    pub temporary_file_system: Vec<(PathBuf, Option<u64>)>,

    /// A file or directory that can be written, with what is below it. A full jail has it, too
    #[arg(long, value_name = "PATH")]
    pub read_write_paths: Vec<PathBuf>,

    /// A file or directory that cannot be opened, with what is below it
    #[arg(long, value_name = "PATH")]
    pub inaccessible_paths: Vec<PathBuf>,
}

/// A method of the builder that switches a protection.
type Switch = fn(Jail, bool) -> Jail;

impl JailOptions {
    /// The server with this jail.
    ///
    /// # Errors
    /// There is no such system call, group, capability, address family, error or endpoint.
    pub fn apply(&self, server: Server) -> Result<Server, Error> {
        Ok(server.jail(self.jail()?))
    }

    /// The jail.
    ///
    /// # Errors
    /// As [`JailOptions::apply`].
    pub fn jail(&self) -> Result<Jail, Error> {
        let mut jail = Jail::new(self.jail);
        let switches: [(Option<bool>, Switch); 6] = [
            (self.no_new_privileges, Jail::no_new_privileges),
            (self.restrict_namespaces, Jail::restrict_namespaces),
            (self.restrict_realtime, Jail::restrict_realtime),
            (self.restrict_suid_sgid, Jail::restrict_suid_sgid),
            (self.lock_personality, Jail::lock_personality),
            (self.memory_deny_write_execute, Jail::memory_deny_write_execute),
        ];
        for (set, method) in switches {
            jail = set.map_or(jail.clone(), |set| method(jail, set));
        }
        if let Some(names) = &self.capability_bounding_set {
            jail = jail.capability_bounding_set(names)?;
        }
        for terms in &self.system_call_filter {
            jail = jail.system_call_filter(terms)?;
        }
        if let Some(name) = &self.system_call_error_number {
            jail = jail.system_call_error_number(name)?;
        }
        if let Some(names) = &self.restrict_address_families {
            jail = jail.restrict_address_families(names)?;
        }
        for endpoint in &self.network_allow {
            jail = jail.network_allow(endpoint)?;
        }
        Ok(self.with_files(self.with_limits(self.with_users_and_network(jail))))
    }

    fn with_users_and_network(&self, mut jail: Jail) -> Jail {
        if let Some(network) = self.private_network {
            jail = jail.private_network(network);
        }
        if let Some((first, last)) = self.uid_range {
            jail = jail.uid_range(first, last);
        }
        if let Some(users) = self.private_users {
            jail = jail.private_users(users);
        }
        if let Some(set) = self.jail_init {
            jail = jail.jail_init(set);
        }
        jail
    }

    fn with_limits(&self, mut jail: Jail) -> Jail {
        if let Some(profile) = self.jail_profile {
            jail = jail.profile(profile);
        }
        if let Some(Limited(limit)) = self.memory_max {
            jail = jail.memory_max(limit);
        }
        if let Some(Limited(limit)) = self.tasks_max {
            jail = jail.tasks_max(limit);
        }
        if let Some(Limited(limit)) = self.cpu_quota {
            jail = jail.cpu_quota(limit);
        }
        jail
    }

    fn with_files(&self, mut jail: Jail) -> Jail {
        if let Some(mode) = &self.protect_system {
            jail = jail.protect_system(mode == "strict");
        }
        if let Some(directory) = &self.root_directory {
            jail = jail.root_directory(directory);
        }
        if let Some(size) = self.private_tmp {
            jail = jail.private_tmp(size);
        }
        for (path, size) in &self.temporary_file_system {
            jail = jail.temporary_file_system(path, *size);
        }
        for (source, at) in self.bind_read_only_paths.iter().map(|path| both_sides(path)) {
            jail = jail.bind_read_only_path(source, at);
        }
        for (source, at) in self.bind_paths.iter().map(|path| both_sides(path)) {
            jail = jail.bind_path(source, at);
        }
        jail = self.read_write_paths.iter().fold(jail, Jail::read_write_path);
        self.inaccessible_paths.iter().fold(jail, Jail::inaccessible_path)
    }
}

/// The path on the system and that in the jail: `/srv/app:/app`, or one for both.
fn both_sides(text: &str) -> (&str, &str) {
    text.split_once(':').unwrap_or((text, text))
}

/// A path of the jail and a size, if there is one: `/var/cache:64M`.
fn place(text: &str) -> Result<(PathBuf, Option<u64>), String> {
    match text.split_once(':') {
        Some((path, bytes)) => Ok((path.into(), Some(size(bytes)?))),
        None => Ok((text.into(), None)),
    }
}

/// A limit that was set; `None` stands for no limit.
#[derive(Clone, Copy, Debug)]
pub struct Limited<T>(Option<T>);

/// A parser for a limit, or `infinity`.
fn limited<T: Clone + Send + Sync + 'static>(
    parse: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<Limited<T>, String> + Clone + Send + Sync + 'static {
    move |text| match text {
        "infinity" => Ok(Limited(None)),
        text => parse(text).map(|value| Limited(Some(value))),
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is no number; write one, or infinity"))
}

fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').and_then(|number| number.parse().ok());
    number.ok_or_else(|| format!("'{text}' is no percentage; write one as in 20%, or infinity"))
}

fn range(text: &str) -> Result<(u32, u32), String> {
    let both = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    both.ok_or_else(|| format!("'{text}' is no range; write the first and the last, as in 100000-165535"))
}
