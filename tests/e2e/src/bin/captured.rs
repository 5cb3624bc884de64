//! A server whose observer has been taken over: each line that a client of the observer's address
//! sends goes to the server as a request, and what the server replies comes back. A line `hold N`
//! begins N requests without ever ending them.
//!
//! `captured SOCKET [--observe-control] [--services]`: with this control socket, which the group 60
//! may read; an observer that may tend; two services `a` and `b`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;

use tine::cli::{Observed, ObserverSetup, observed, observed_services};
use tine::{Connection, Control, HandlerError, LogFormat, Server, Services};

fn main() -> Result<(), tine::Error> {
    if let Some(server) = Observed::from_environment() {
        observe(&server);
        return Ok(());
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| words.iter().any(|word| word == option);
    let observation =
        ObserverSetup::new().settings("{}".to_owned()).bind("127.0.0.1:0")?.control(has("--observe-control"));
    let control = Control::at(&words[0]).group(60);
    let bind = || Ok::<Server, tine::Error>(Server::bind("127.0.0.1:0")?.log_format(LogFormat::Json));
    if !has("--services") {
        let server = bind()?.control(control).print_ports(true);
        return observed(server, Some(observation)).run(echo);
    }
    let services = Services::new().control(control).print_ports(true).log_format(LogFormat::Json);
    let services = services.service("a", bind()?, echo).service("b", bind()?, echo);
    observed_services(services, Some(observation)).run()
}

fn echo(mut connection: Connection) -> Result<(), HandlerError> {
    let mut bytes = [0; 1024];
    loop {
        match connection.read(&mut bytes)? {
            0 => return Ok(()),
            length => connection.write_all(&bytes[..length])?,
        }
    }
}

/// Runs as the observer.
fn observe(server: &Observed) {
    let (_, listeners) = server.wait_for_start().expect("a start");
    server.ready().expect("the server lives");
    server.wait_until_serving().expect("it serves");
    let listener = TcpListener::from(listeners.into_iter().next().expect("a listener"));
    listener.set_nonblocking(false).expect("ours");
    let mut held: Vec<UnixStream> = Vec::new();
    for client in listener.incoming().flatten() {
        let mut line = String::new();
        let _ = BufReader::new(&client).read_line(&mut line);
        if let Some(number) = line.trim().strip_prefix("hold ") {
            for _ in 0..number.parse().expect("a number") {
                let mut stream = server.ask().expect("the server takes it");
                stream.write_all(b"{").expect("room");
                held.push(stream);
            }
        } else {
            // A client that has gone needs no reply.
            let _ = pass_on(server, &line, client);
        }
    }
}

fn pass_on(server: &Observed, line: &str, mut client: TcpStream) -> std::io::Result<()> {
    let mut stream = server.ask()?;
    stream.write_all(line.as_bytes())?;
    let mut reply = String::new();
    // The server may end while it is read.
    let _ = stream.read_to_string(&mut reply);
    client.write_all(reply.as_bytes())
}
