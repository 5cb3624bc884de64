//! What the system knows: processes, cgroups, users, open files.

pub(crate) mod cgroup;
pub(crate) mod clock;
pub(crate) mod descendants;
pub(crate) mod open_files;
pub(crate) mod orphans;
pub(crate) mod procfs;
pub(crate) mod signal;
pub(crate) mod users;
pub(crate) mod wakeup;
