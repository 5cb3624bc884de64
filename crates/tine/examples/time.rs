//! Step 3: limits, timeouts and a drain. Sends the seconds since 1970, once a second.
//!
//! `cargo run -p tine --example time`, then stop it with Ctrl-C while a client is connected.

use std::io::Write;
use std::time::{Duration, SystemTime};

use tine::{Server, WhenFull};

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    // Clients stay for a long time, and each costs a process.
    Server::bind(&address)?
        .max_connections(100)
        .max_connections_per_source(20)
        .when_full(WhenFull::Reject(b"too many clocks\n".to_vec()))
        .max_lifetime(Duration::from_secs(3600))
        .drain_timeout(Duration::from_secs(5))
        .print_ports(true)
        .run(|mut connection| {
            while !connection.is_draining() {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
                writeln!(connection, "{}", now.as_secs())?;
                std::thread::sleep(Duration::from_secs(1));
            }
            Ok(())
        })
}
