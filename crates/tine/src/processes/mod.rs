//! The processes of a server: one entry for each name in `ps`.

pub(crate) mod bus_link;
pub(crate) mod cgroup_cleaner;
mod companion;
pub(crate) mod conn;
pub(crate) mod connector;
pub(crate) mod control;
pub(crate) mod delayer;
pub(crate) mod forker;
#[cfg(feature = "tracing")]
mod handler_events;
pub(crate) mod handover;
pub(crate) mod jailer;
pub(crate) mod job_worker;
pub(crate) mod log_writer;
pub(crate) mod maker;
pub(crate) mod master;
pub(crate) mod observer;
pub(crate) mod own_confinement;
pub(crate) mod proxy_reader;
pub(crate) mod rejector;
pub(crate) mod spare;
pub(crate) mod start;
pub(crate) mod stderr_logger;
pub(crate) mod supervisor;
