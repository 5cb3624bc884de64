//! Step 2: a handler with a test, because it is a function of any stream. Asks for names, and
//! greets.
//!
//! `cargo run -p tine --example greet`. The name `panic` makes the handler panic: only that
//! connection ends. `cargo test -p tine --example greet` runs the test.

use std::io::{BufRead, BufReader, Read, Write};

use tine::{HandlerError, Server};

fn main() -> Result<(), tine::Error> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "[::]:9999".into());
    Server::bind(&address)?.print_ports(true).run(|connection| {
        let guest = format!("connection {}, from {}", connection.id(), connection.peer());
        greet(&connection, &connection, &guest)
    })
}

fn greet(input: impl Read, mut output: impl Write, guest: &str) -> Result<(), HandlerError> {
    writeln!(output, "You are {guest}. Your name?")?;
    for line in BufReader::new(input).lines() {
        match line?.trim() {
            "panic" => panic!("as you wish"),
            "" => return Err("a client without a name".into()),
            name => writeln!(output, "Good day, {name}. Who else?")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_greeted() {
        let mut output = Vec::new();
        greet(&b"Ada\nGrace\n"[..], &mut output, "a test").expect("two names");
        let text = String::from_utf8(output).expect("UTF-8");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines,
            ["You are a test. Your name?", "Good day, Ada. Who else?", "Good day, Grace. Who else?"]
        );
        greet(&b"\n"[..], Vec::new(), "a test").expect_err("no name");
    }
}
