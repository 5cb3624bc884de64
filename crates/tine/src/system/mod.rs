//! Facts and services of the operating system: processes, cgroups, signals, clock, users, open
//! files.

pub(crate) mod cgroup;
pub(crate) mod cgroups;
pub(crate) mod clock;
pub(crate) mod descendants;
pub(crate) mod kernel_log;
pub(crate) mod open_files;
pub(crate) mod orphans;
pub(crate) mod parent;
pub(crate) mod procfs;
#[cfg(test)]
pub(crate) mod random;
pub(crate) mod signal;
pub(crate) mod state_file;
pub(crate) mod users;
pub(crate) mod wakeup;
