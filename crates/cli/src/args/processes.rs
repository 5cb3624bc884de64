//! Processes of the server and of connections.

use clap::Args as ClapArgs;
use tine::{Server, defaults};

use super::number;

/// The options of processes.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Processes")]
pub struct ProcessOptions {
    /// Number of processes forked in advance, which accept one client each; 0 forks after accepting
    #[arg(long, value_name = "N", default_value_t = defaults::SPARES, value_parser = number::<usize>(0, 32_768))]
    pub spares: usize,

    /// Number of connections that a process serves before it exits; more than 1 isolates less, and
    /// needs --spares
    #[arg(long, value_name = "N", default_value_t = defaults::REUSE, value_parser = number::<u64>(1, u64::MAX))]
    pub reuse: u64,

    /// Number of processes that accept and fork [default: 2, or 1 on one processor]
    #[arg(long, value_name = "N", value_parser = number::<usize>(1, 64))]
    pub forkers: Option<usize>,

    /// Show id and peer in each connection's command line (costs a memory page or more per
    /// connection)
    #[arg(long)]
    pub titles: bool,
}

impl ProcessOptions {
    /// The server with these options.
    #[must_use]
    pub fn apply(&self, server: Server) -> Server {
        let server = server.spares(self.spares).reuse(self.reuse).titles(self.titles);
        match self.forkers {
            Some(forkers) => server.forkers(forkers),
            None => server,
        }
    }
}
