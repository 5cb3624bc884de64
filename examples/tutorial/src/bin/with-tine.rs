//! A process for each connection, and a mutex between them, with the library of tine.

use std::io::Write;

use tine::Server;
use tine::shared::Mutex;

fn main() -> Result<(), tine::Error> {
    let visits = Mutex::new("visits", 0u64)?;
    let server = Server::bind("127.0.0.1:9999")?.print_ports(true);
    server.run(move |mut connection| {
        let mut visits = visits.lock();
        *visits += 1;
        writeln!(connection, "visit {}, owner died: {}", *visits, visits.owner_died())?;
        // Holds the mutex until the client sends no more.
        while connection.next_line(100)?.is_some() {}
        Ok(())
    })
}
