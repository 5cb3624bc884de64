//! Programs of other projects that tests start beside a server.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::network;

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

/// A port that nothing else in the network of the test binds: the kernel gives out higher ones.
///
/// # Panics
/// If the calling thread is not in a network namespace of its own ([`network::own`]).
#[must_use]
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(7_101);
    assert!(network::is_own(), "in the network of other tests, no port stays free");
    NEXT.fetch_add(1, Ordering::Relaxed)
}
