//! A server that is started for a round and stopped after it.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::Error;
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid};

/// How long a server may take to listen, and how long to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked whether it does: nothing announces it for servers of all kinds.
const LOOK: Duration = Duration::from_millis(10);

/// A running server: a process group of its own.
pub struct Server {
    group: Pid,
    port: u16,
}

/// A port of 127.0.0.1 on which nobody listens.
pub fn free_port() -> Result<u16, Error> {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    port.map(|address| address.port())
        .map_err(|why| Error::system("cannot find a free port", &why, "free one"))
}

impl Server {
    /// Starts a command, and waits until somebody listens on the port. Nothing connects to find out.
    pub fn start(command: &str, port: u16) -> Result<Server, Error> {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", command]).process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
        let process =
            shell.spawn().map_err(|why| Error::system("cannot start a shell", &why, "check /bin/sh"))?;
        let id = i32::try_from(process.id()).ok().and_then(Pid::from_raw);
        let why = std::io::Error::from(std::io::ErrorKind::NotFound);
        let group = id.ok_or_else(|| Error::system("cannot start a shell", &why, "check /bin/sh"))?;
        let server = Server { group, port };
        let deadline = Instant::now() + PATIENCE;
        while !listens(port) {
            if !server.lives() {
                let next = "write it as a shell runs it, in the foreground, with {port} where its port goes";
                return Err(Error::usage(
                    format_args!("'{command}' ended before it listened on port {port}"),
                    next,
                ));
            }
            if Instant::now() > deadline {
                let why = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(Error::system(
                    format_args!("'{command}' does not listen on port {port}"),
                    &why,
                    "write {port} where its port goes",
                ));
            }
            std::thread::sleep(LOOK);
        }
        Ok(server)
    }

    /// Asks it to end, and does not take no for an answer: afterwards, nobody listens on its port.
    pub fn stop(self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        // The shell ends at once; the server, below it, when it has drained; what else listens, after it.
        while (self.lives() || listens(self.port)) && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
    }

    fn signal(&self, signal: Signal) {
        // Nobody else can have the group's number while one of it lives or is not reaped.
        let _ = kill_process_group(self.group, signal);
    }

    /// Whether a process of its group is left. Those that have ended are reaped: whoever measures has adopted them.
    fn lives(&self) -> bool {
        while let Ok(Some(_)) = waitpgid(self.group, WaitOptions::NOHANG) {}
        test_kill_process_group(self.group).is_ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.lives() {
            self.signal(Signal::KILL);
            while waitpgid(self.group, WaitOptions::empty()).is_ok() {}
        }
    }
}

/// Whether somebody listens on this port, as the kernel's tables say (proc_net(5)).
fn listens(port: u16) -> bool {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"]
        .map(|path| std::fs::read_to_string(path).unwrap_or_default());
    tables.iter().any(|table| table.lines().skip(1).any(|line| listens_on(line, port)))
}

fn listens_on(line: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace().skip(1);
    let local = fields.next().and_then(|local| local.rsplit_once(':'));
    let own = local.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
    own == Some(port) && fields.nth(1) == Some(LISTEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table() {
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
