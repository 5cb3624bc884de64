//! Tells the seconds since 1970, once a second, until the client goes or the server drains.
//! `cargo run -p tine --example time`

use std::io::Write;
use std::time::{Duration, SystemTime};

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    // Clients stay for long: each costs a process, so a limit, and a word for those beyond it.
    tine::Server::bind(&address)?
        .max_connections(100)
        .when_full(tine::WhenFull::Reject(b"too many clocks\n".to_vec()))
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
