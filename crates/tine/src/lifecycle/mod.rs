//! The life of the server and its processes: readiness, signals, restarts, times of a stop,
//! outcomes.

pub(crate) mod backoff;
pub(crate) mod crash;
pub(crate) mod outcome;
pub(crate) mod pid_file;
pub(crate) mod ready;
pub(crate) mod signals;
pub(crate) mod startup;
pub(crate) mod stop_handle;
pub(crate) mod timing;
