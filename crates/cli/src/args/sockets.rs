//! Listening sockets.

use clap::Args as ClapArgs;
use tine::{Server, defaults};

use super::number;

/// The options of listening sockets.
#[derive(ClapArgs, Debug)]
#[group(skip)]
#[command(next_help_heading = "Sockets")]
pub struct SocketOptions {
    /// Size of the kernel's queue of clients that are not accepted yet (listen(2))
    #[arg(short = 'b', long, value_name = "N", default_value_t = defaults::BACKLOG, value_parser = number::<u32>(1, 2_147_483_647))]
    pub backlog: u32,
}

impl SocketOptions {
    /// The server with these options.
    #[must_use]
    pub fn apply(&self, server: Server) -> Server {
        server.backlog(self.backlog)
    }
}
