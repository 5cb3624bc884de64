//! System calls that fail or are delayed on purpose, by strace(1).

use std::process::{Child, Command};

use crate::procfs;
use crate::wait::wait_until;

/// A running strace(1). Dropping it ends the injection.
pub struct FaultInjection(Child);

/// Changes the results of a system call of a process until the value is dropped. `fault` has the
/// syntax of strace's `inject=`.
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn inject_fault(pid: i32, fault: &str) -> FaultInjection {
    let call = fault.split(':').next().unwrap_or(fault);
    let mut strace = Command::new("strace");
    strace.args(["-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &format!("inject={fault}")]);
    let injection =
        FaultInjection(strace.args(["-p", &pid.to_string()]).spawn().expect("strace is installed"));
    let tracer = injection.0.id().to_string();
    wait_until("strace is attached", || (procfs::status(pid, "TracerPid") == tracer).then_some(()));
    injection
}

impl Drop for FaultInjection {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
