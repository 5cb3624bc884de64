//! The commands, except the client and the load: one file each, with its arguments.

pub(crate) mod check;
pub(crate) mod describe;
pub(crate) mod explain;
pub(crate) mod import;
pub(crate) mod jail_check;
pub(crate) mod serve;
pub(crate) mod warm_check;
