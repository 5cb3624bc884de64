//! The life of the server and its processes: readiness, signals, restarts, times of a stop,
//! outcomes.

pub(crate) mod backoff;
pub(crate) mod outcome;
pub(crate) mod ready;
pub(crate) mod signals;
pub(crate) mod timing;
