//! A server with a full jail whose handler connects to the address in the first line of its client,
//! and replies with what comes from there: `connecting ENDPOINT`, which is allowed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use tine::{Connection, HandlerError, Jail, JailMode, LogFormat, Server};

fn main() -> Result<(), tine::Error> {
    let endpoint = std::env::args().nth(1).expect("an endpoint");
    let jail = Jail::new(JailMode::Full).network_allow(&endpoint)?;
    let server = Server::bind("127.0.0.1:0")?.print_ports(true).log_format(LogFormat::Json).jail(jail);
    server.run(handle)
}

fn handle(mut connection: Connection) -> Result<(), HandlerError> {
    let mut line = String::new();
    BufReader::new(&mut connection).read_line(&mut line)?;
    let mut text = String::new();
    match TcpStream::connect(line.trim()) {
        Ok(mut stream) => stream.read_to_string(&mut text).map(drop)?,
        Err(why) => text = format!("{:?}\n", why.kind()),
    }
    Ok(connection.write_all(text.as_bytes())?)
}
