//! A network of a test's own, so that its counters tell of it alone.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Moves the calling thread into a fresh network namespace in which loopback is up. Servers and clients that it
/// starts from now on, and threads, are there, too; it ends with the last of them.
///
/// # Panics
/// If it cannot be made, which takes root.
pub fn own() {
    let script = "ip link set lo up && echo up && exec cat";
    let mut holder = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare is installed");
    let mut said = String::new();
    BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut said).expect("a line");
    assert_eq!(said, "up\n", "a network namespace takes root");
    let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).expect("it lives");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("we are root");
    holder.kill().expect("our child");
    holder.wait().expect("our child");
}
