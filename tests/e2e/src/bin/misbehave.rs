//! A server with a faulty handler: the first byte of a message selects a fault. Other messages are
//! echoed. The first argument is a directory for crash reports, a second one is for workers.

use std::io::{Read, Write};
use std::process::Command;

use rustix::process::{Resource, Rlimit, Signal, getpid, kill_process, setrlimit};
use tine::{Connection, HandlerError, LogFormat, Server};

fn main() -> Result<(), tine::Error> {
    let mut server = Server::bind("127.0.0.1:0")?.print_ports(true).log_format(LogFormat::Json);
    let mut arguments = std::env::args_os().skip(1);
    if let Some(directory) = arguments.next() {
        server = server.crash_dir(directory);
    }
    if arguments.next().is_some() {
        server = server.spares(2).reuse(50);
    }
    server.run(handle)
}

fn handle(mut connection: Connection) -> Result<(), HandlerError> {
    let mut buffer = [0; 4096];
    loop {
        let received = connection.read(&mut buffer)?;
        match buffer[..received].first() {
            None => return Ok(()),
            Some(b'P') => panic!("as asked"),
            Some(b'W') => {
                eprint!("last words\nand more");
                panic!("with words");
            }
            Some(b'S') => kill_process(getpid(), Signal::SEGV)?,
            Some(b'O') => drop(overflow_stack(&[0; 4096])),
            Some(b'E') => return Err("no such thing".into()),
            Some(b'X') => std::process::exit(7),
            Some(b'L') => loop {
                std::hint::spin_loop();
            },
            Some(b'A') => allocate_without_end()?,
            Some(b'C') => {
                drop(connection);
                loop {
                    std::thread::park();
                }
            }
            Some(b'G') => start_program(&connection)?,
            Some(b'U') => print!("unfinished line"),
            Some(b'T') => {
                // Handlers may start threads, as they run in a process of their own.
                let id = std::thread::spawn(|| format!("{:?}", std::thread::current().id()));
                connection.write_all(id.join().map_err(|_| "thread")?.as_bytes())?;
            }
            Some(b'D') => {
                let phase = if connection.is_draining() { b"drain" } else { b"serve" };
                connection.write_all(phase)?;
            }
            Some(_) => connection.write_all(&buffer[..received])?,
        }
    }
}

/// Recurses until the stack overflows.
fn overflow_stack(frame: &[u8; 4096]) -> Vec<u8> {
    let mut frame = std::hint::black_box(*frame);
    frame[0] = frame[0].wrapping_add(1);
    if std::hint::black_box(false) {
        return Vec::new();
    }
    let mut more = overflow_stack(&frame);
    more.push(frame[0]);
    more
}

/// Allocates memory until the limit on the address space is reached and the allocation aborts.
fn allocate_without_end() -> Result<(), HandlerError> {
    let bytes = Some(256 << 20);
    setrlimit(Resource::As, Rlimit { current: bytes, maximum: bytes })?;
    let mut blocks = Vec::new();
    loop {
        blocks.push(vec![1u8; 1 << 20]);
    }
}

/// Starts a program that inherits the socket and outlives the handler.
fn start_program(connection: &Connection) -> Result<(), HandlerError> {
    use rustix::io::{FdFlags, fcntl_setfd};
    fcntl_setfd(connection, FdFlags::empty())?;
    Command::new("sleep").arg("600").spawn()?;
    Ok(())
}
