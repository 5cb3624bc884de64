//! What an agent tells about its machine.

use tine_load::findings::machine::Machine;

use crate::messages::Facts;
use crate::names::Name;

/// Describes this machine.
#[must_use]
pub(super) fn facts() -> Facts {
    let kernel_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    Facts {
        machine: Machine::this(),
        kernel_id: Name::of(kernel_id.trim()).to_string(),
        network_id: Name::of(&network.to_string_lossy()).to_string(),
    }
}

/// Returns a name for this process: host, process id, and a random number.
///
/// # Errors
/// Those of getrandom(2).
pub(super) fn own_name() -> std::io::Result<Name> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host: String = host.chars().take(32).collect();
    Ok(Name::of(&format!("{host}-{}-{}", std::process::id(), Name::random(6)?)))
}
