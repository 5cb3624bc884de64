//! Executes a program that accepts its clients itself.

use std::io;
use std::os::fd::AsFd;

use super::launch::{Launcher, cannot_execute};
use super::served::ProgramConnection;
use crate::lifecycle::outcome::ExitReport;

impl Launcher<'_> {
    /// Executes the program in this process, as a service that accepts its clients from a listener
    /// (sd_listen_fds(3); `wait` of inetd(8)): that is its descriptors 0 and 3, and its standard
    /// output is its standard error. Returns only if the execution fails.
    pub(crate) fn execute_on_listener(&mut self, listener: &ProgramConnection) -> ExitReport {
        let why = self.try_on_listener(listener).unwrap_or_else(|why| why);
        cannot_execute(&self.path, &why)
    }

    fn try_on_listener(&mut self, listener: &ProgramConnection) -> io::Result<io::Error> {
        let stderr = self.stderr(listener.entry.id)?;
        let number = rustix::process::getpid();
        let mut execution = self.image.execution(&self.path, listener, stderr.as_ref());
        let mut environment =
            execution.environment.with_variables(format!("LISTEN_FDS=1\0LISTEN_PID={number}\0").as_bytes());
        execution.environment = &mut environment;
        execution.stdout = execution.stderr.unwrap_or(rustix::stdio::stderr());
        execution.passed = Some(listener.socket.as_fd());
        Ok(execution.run())
    }
}
