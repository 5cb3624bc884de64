//! Confines itself as a process of a server does, and then attempts something:
//! `confined PROCESS LAYERS PATH ATTEMPT`.
//!
//! PROCESS is the name of a process of the table in ARCHITECTURE.md. LAYERS is `all`, or
//! `all-but-the-filter`, or `none` for the control. PATH is where it may use files, if it may.
//! Exits with code 0 if the attempt succeeds, and otherwise with the number of the error.

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{Pid, Signal, getppid, kill_process};
use tine_sys::process::{Alone, Side, exit_now, fork, wait_for};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [process, layers, path, attempt] = &arguments[..] else { panic!("PROCESS LAYERS PATH ATTEMPT") };
    let path = Path::new(path);
    let parent = getppid().expect("a parent");
    let alone = Alone::check().expect("one thread");
    // The size of a page is looked up at the first call.
    tine_sys::jail::try_writable_code().expect("it is not confined yet");
    match layers.as_str() {
        "all" => tine::cli::confine_for_test(process, path, true),
        "all-but-the-filter" => tine::cli::confine_for_test(process, path, false),
        "none" => {}
        other => panic!("{other:?}: no such layers"),
    }
    let made = make(attempt, path, parent, &alone);
    // As a process of the server does: exit(3) makes more system calls.
    exit_now(made.map_or_else(|why| why.raw_os_error().unwrap_or(255), |()| 0))
}

fn make(attempt: &str, path: &Path, parent: Pid, alone: &Alone) -> io::Result<()> {
    match attempt {
        "socket" => socket(AddressFamily::INET, SocketType::STREAM, None).map(drop)?,
        "local socket" => socket(AddressFamily::UNIX, SocketType::DGRAM, None).map(drop)?,
        // A port that nobody listens on.
        "connect" => drop(std::net::TcpStream::connect(("127.0.0.1", 1))?),
        "thread" => std::thread::Builder::new().spawn(|| ())?.join().expect("no panic"),
        "open" => File::open("/etc/passwd").map(drop)?,
        "append" => File::options().append(true).create(true).open(path.join("new")).map(drop)?,
        "read" => File::open(path.join("old")).map(drop)?,
        "remove" => fs::remove_file(path.join("old"))?,
        "execute" => return Err(Command::new("true").exec()),
        "fork" => match fork(alone, Signal::CHILD.as_raw())? {
            Side::Child(_fresh) => exit_now(0),
            Side::Parent(pid) => drop(wait_for(pid)?),
        },
        // The parent has not stopped: nothing happens to it.
        "signal" => kill_process(parent, Signal::CONT)?,
        "code" => tine_sys::jail::try_writable_code()?,
        other => panic!("{other:?}: no such attempt"),
    }
    Ok(())
}
