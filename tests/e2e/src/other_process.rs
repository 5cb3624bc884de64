//! Programs of other projects that tests start beside a server.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

/// A process that ends when this is dropped.
pub struct OtherProcess(Child);

impl OtherProcess {
    /// Starts a command of a package that is installed, without its output.
    ///
    /// # Panics
    /// If it cannot be executed.
    #[must_use]
    pub fn start(command: &mut Command) -> OtherProcess {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        OtherProcess(command.spawn().expect("the package is installed"))
    }

    /// Its process id.
    ///
    /// # Panics
    /// If the kernel has given it one that is none.
    #[must_use]
    pub fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).expect("a process id")
    }
}

impl Drop for OtherProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free. Nothing else binds it at once: the kernel gives out others first.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
