//! The harness of the end-to-end tests. It starts a real server on a port of its own, waits for its
//! port and for lines of its log, never for a time, and leaves no process behind.

#![forbid(unsafe_code)]

pub mod bus;
pub mod cgroup;
pub mod client;
pub mod control;
pub mod demo;
pub mod documents;
pub mod echo_clients;
pub mod environment;
pub mod examples;
pub mod fault_injection;
pub mod filters;
pub mod fleet;
pub mod folder;
pub mod haproxy;
pub mod http;
pub mod jails;
pub mod load;
pub mod local_client;
pub mod log;
pub mod machines;
pub mod names;
pub mod network;
pub mod nodes;
pub mod other_process;
pub mod outgoing;
pub mod procfs;
pub mod programs;
pub mod proxies;
pub mod random;
pub mod recipe;
pub mod replacement;
pub mod server;
pub mod targets;
pub mod tmux;
pub mod top;
pub mod wait;

pub use client::Client;
pub use echo_clients::EchoClients;
pub use fault_injection::{FaultInjection, inject_fault};
pub use folder::Folder;
pub use local_client::LocalClient;
pub use log::Log;
pub use random::Random;
pub use server::{Server, ServerCommand, built, kill, run, tine};
pub use wait::{TEST_TIMEOUT, wait_until};
