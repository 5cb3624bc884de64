//! The master: binds all addresses, starts and restarts the supervisors of the services.

pub(crate) mod run;
pub(crate) mod start;
pub(crate) mod state;
