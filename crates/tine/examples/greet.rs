//! Asks for a name and greets, line by line. `cargo run -p tine --example greet`
//!
//! The handler panics when it is asked to: only that connection ends.

use std::io::{BufRead, BufReader, Write};

use tine::{Connection, HandlerError, Server};

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    Server::bind(&address)?.print_ports(true).run(greet)
}

fn greet(mut connection: Connection) -> Result<(), HandlerError> {
    writeln!(connection, "You are connection {}, from {}. Your name?", connection.id(), connection.peer())?;
    let mut lines = BufReader::new(connection);
    let mut name = String::new();
    while lines.read_line(&mut name)? > 0 {
        match name.trim() {
            "panic" => panic!("as you wish"),
            "" => return Err("a client without a name".into()),
            name => writeln!(lines.get_mut(), "Good day, {name}. Who else?")?,
        }
        name.clear();
    }
    Ok(())
}
