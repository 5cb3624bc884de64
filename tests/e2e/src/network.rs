//! Network namespaces, so that a test has every port and its own counters.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Moves the calling thread into a new network namespace with loopback up. Threads and processes
/// that it starts from now on are in it, too. The namespace ends with the last of them.
///
/// # Panics
/// If it cannot be created, which takes root.
pub fn own() {
    let script = "ip link set lo up && echo up && exec cat";
    let mut holder = Command::new("unshare")
        .args(["--net", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare is installed");
    let mut line = String::new();
    BufReader::new(holder.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    assert_eq!(line, "up\n", "creating a network namespace takes root");
    let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).expect("the holder runs");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("we are root");
    holder.kill().expect("our child");
    holder.wait().expect("our child");
}
