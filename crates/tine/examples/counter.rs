//! State that connections share: visits, lines, and the longest line of all.
//!
//! `cargo run -p tine --example counter -- 127.0.0.1:9999 /tmp/counter.sock`, then
//! `nc localhost 9999`, and `tine status --control /tmp/counter.sock` in another terminal

use std::io::Write;

use tine::shared::{Counter, Gauge, Mutex, Text};
use tine::{Control, Server};

fn main() -> Result<(), tine::Error> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().unwrap_or_else(|| "[::]:9999".into());
    let control = arguments.next().map_or(Control::none(), Control::at);

    // Made before the server runs: all its processes have them.
    let visits = Counter::new("visits")?;
    let lines = Counter::new("lines")?;
    let bytes = Gauge::new("longest_bytes")?;
    let longest = Mutex::new("longest", Text::<200>::cut(""))?;

    Server::bind(&address)?.control(control).print_ports(true).run(move |mut connection| {
        writeln!(connection, "You are visitor {}.", visits.add(1) + 1)?;
        while let Some(line) = connection.next_line(200)? {
            let number = lines.add(1) + 1;
            // Both change together: nobody else is between `lock` and the end of the block.
            let longest = {
                let mut longest = longest.lock();
                if line.len() > longest.len() {
                    *longest = Text::new(&line)?;
                    bytes.set(line.len() as i64);
                }
                *longest
            };
            writeln!(connection, "Line {number}. The longest one of all: {longest}")?;
        }
        Ok(())
    })
}
