//! A server under test, which is started for a round and stopped after it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};
use tine::cli::next_move;

use crate::error::Error;

/// Timeout for a server to listen, and to end.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Time between two checks: no event reports that some server listens.
const CHECK: Duration = Duration::from_millis(10);

/// A running server, in a process group of its own.
pub(super) struct TestServer {
    group: Pid,
    port: u16,
}

/// Returns a port of 127.0.0.1 on which no socket listens.
pub(super) fn free_port() -> Result<u16, Error> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    port.map(|address| address.port()).map_err(|why| {
        let next = match why.kind() {
            std::io::ErrorKind::AddrInUse => "end other listeners, or widen net.ipv4.ip_local_port_range",
            std::io::ErrorKind::AddrNotAvailable => "bring the loopback interface up (`ip link set lo up`)",
            _ => next_move::of_call(&why),
        };
        Error::system("cannot find a free port", &why, next)
    })
}

impl TestServer {
    /// Runs a command by a shell, and waits until a socket listens on the port. Makes no
    /// connection.
    pub(super) fn start(command: &str, port: u16) -> Result<TestServer, Error> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let cannot_start =
            |why| Error::system("cannot start the shell /bin/sh", &why, next_move::of_file(&why));
        let process = shell.spawn().map_err(cannot_start)?;
        let group = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let group = group.ok_or_else(|| cannot_start(std::io::ErrorKind::NotFound.into()))?;
        let server = TestServer { group, port };
        server.wait_until_it_listens(command)?;
        Ok(server)
    }

    fn wait_until_it_listens(&self, command: &str) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        while !listens(self.port) {
            if !self.is_alive() {
                return Err(Error::usage(
                    format_args!("'{command}' ended before it listened on port {}", self.port),
                    "give a shell command that runs the server in the foreground, with {port} for its port",
                ));
            }
            if Instant::now() > deadline {
                return Err(Error::system(
                    format_args!("'{command}' does not listen on port {}", self.port),
                    &std::io::ErrorKind::TimedOut.into(),
                    "write {port} for its port",
                ));
            }
            std::thread::sleep(CHECK);
        }
        Ok(())
    }

    /// Terminates the server, and kills it at the timeout. Then no socket listens on its port.
    pub(super) fn stop(self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + TIMEOUT;
        // The shell ends at once, its server when it has drained.
        while (self.is_alive() || listens(self.port)) && Instant::now() < deadline {
            std::thread::sleep(CHECK);
        }
    }

    fn signal(&self, signal: Signal) {
        // The number of the group is not reused while a process of it runs or is not reaped.
        let _ = kill_process_group(self.group, signal);
    }

    /// Whether a process of the group runs. Reaps those that have ended: this process is their
    /// subreaper.
    fn is_alive(&self) -> bool {
        while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::NOHANG) {}
        test_kill_process_group(self.group).is_ok()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if self.is_alive() {
            self.signal(Signal::KILL);
            while waitpgid(self.group, WaitOptions::empty()).is_ok() {}
        }
    }
}

/// Whether a socket listens on a port, by the tables of the kernel (proc_net(5)).
fn listens(port: u16) -> bool {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().any(|table| table.lines().skip(1).any(|line| listens_on(line, port)))
}

fn listens_on(line: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().and_then(|local| local.rsplit_once(':'));
    let local_port = local.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    local_port == Some(port) && fields.nth(1) == Some(LISTEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_found_in_the_tables_of_the_kernel() {
        let line =
            "   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1";
        assert!(listens_on(line, 22) && !listens_on(line, 23));
        assert!(!listens_on(&line.replace(" 0A ", " 01 "), 22) && !listens_on("", 22));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        assert!(listens(port));
        drop(listener);
        assert!(!listens(port));
    }
}
