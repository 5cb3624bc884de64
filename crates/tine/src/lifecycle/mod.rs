//! From start to stop: readiness, signals, restarts, the outcome of processes.

pub(crate) mod backoff;
pub(crate) mod outcome;
pub(crate) mod ready;
pub(crate) mod signals;
pub(crate) mod timing;
