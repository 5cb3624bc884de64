//! Steps that take rights from this process, and from all that it creates.

use std::io;

use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{BpfProgram, apply_filter};

/// Installs the programs of a filter, for this process and all that it creates (seccomp(2)).
pub(super) fn install(programs: &[BpfProgram]) -> io::Result<()> {
    programs.iter().try_for_each(|program| {
        apply_filter(program).map_err(|why| match why {
            seccompiler::Error::Prctl(why) | seccompiler::Error::Seccomp(why) => why,
            other => io::Error::other(other),
        })
    })
}

/// Takes all other capabilities from what programs can gain. Without the privilege to do so there
/// is nothing to gain, but by files with capabilities, which `no_new_privs` excludes.
pub(super) fn drop_bounding_set(kept: CapabilitySet) -> Result<(), Errno> {
    let own = rustix::thread::capabilities(None)?;
    if !own.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for one in CapabilitySet::all().difference(kept).iter() {
        match rustix::thread::remove_capability_from_bounding_set(one) {
            // An older kernel has fewer of them.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(())
}

/// Keeps no other capabilities than these, of those that the process has.
pub(super) fn keep_capabilities(kept: CapabilitySet) -> Result<(), Errno> {
    let own = rustix::thread::capabilities(None)?;
    let keep = |set: CapabilitySet| set & kept;
    let left = CapabilitySets {
        effective: keep(own.effective),
        permitted: keep(own.permitted),
        inheritable: keep(own.inheritable),
    };
    // Ambient capabilities go with those that are inheritable (capabilities(7)).
    if left.permitted == own.permitted && left.inheritable == own.inheritable {
        return Ok(());
    }
    rustix::thread::set_capabilities(None, left)
}
