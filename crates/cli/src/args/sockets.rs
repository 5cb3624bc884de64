//! Listening sockets.

use std::time::Duration;

use clap::Args as ClapArgs;
use tine::{Server, defaults};

use super::{number, positive, shown};

/// The options of listening sockets.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Sockets")]
pub struct SocketOptions {
    /// Size of the kernel's queue of clients that are not accepted yet (listen(2))
    #[arg(short = 'b', long, value_name = "N", default_value_t = defaults::BACKLOG, value_parser = number::<u32>(1, 2_147_483_647))]
    pub backlog: u32,

    /// Time of silence after which the kernel probes whether a TCP client is still there
    /// (KeepAliveTimeSec= of systemd.socket(5)), in whole seconds
    #[arg(long, value_name = "DURATION", default_value = shown(defaults::KEEP_ALIVE_TIME), value_parser = positive)]
    pub keep_alive_time: Duration,
}

impl SocketOptions {
    /// The server with these options.
    #[must_use]
    pub fn apply(&self, server: Server) -> Server {
        server.backlog(self.backlog).keep_alive_time(self.keep_alive_time)
    }
}
