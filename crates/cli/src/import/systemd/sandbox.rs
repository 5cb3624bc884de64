//! Directives that confine a program (systemd.exec(5)): tine has some of them, by the same names.

use super::unit::Assignment;
use super::words::{is_no, is_yes};
use crate::import::service::ImportedService;

/// Directives that tine does not have. Without them a program could do more than its unit allows.
const UNKNOWN: [&str; 52] = [
    "AmbientCapabilities",
    "AppArmorProfile",
    "BindPaths",
    "BindReadOnlyPaths",
    "DeviceAllow",
    "DevicePolicy",
    "DynamicUser",
    "ExecPaths",
    "ExtensionImages",
    "IPAddressAllow",
    "IPAddressDeny",
    "IPCNamespacePath",
    "KeyringMode",
    "MountAPIVFS",
    "MountFlags",
    "MountImages",
    "NetworkNamespacePath",
    "NoExecPaths",
    "PAMName",
    "Personality",
    "PrivateBPF",
    "PrivateDevices",
    "PrivateIPC",
    "PrivateMounts",
    "PrivateNetwork",
    "PrivatePIDs",
    "PrivateTmp",
    "PrivateUsers",
    "ProcSubset",
    "ProtectClock",
    "ProtectControlGroups",
    "ProtectHome",
    "ProtectHostname",
    "ProtectKernelLogs",
    "ProtectKernelModules",
    "ProtectKernelTunables",
    "ProtectProc",
    "ReadOnlyPaths",
    "RemoveIPC",
    "RestrictFileSystems",
    "RestrictNetworkInterfaces",
    "RootDirectory",
    "RootEphemeral",
    "RootHash",
    "RootImage",
    "SELinuxContext",
    "SecureBits",
    "SmackProcessLabel",
    "SocketBindDeny",
    "SystemCallArchitectures",
    "TemporaryFileSystem",
    "UtmpMode",
];

/// Directives that are switched on or off, and their keys.
const SWITCHES: [(&str, &str); 6] = [
    ("LockPersonality", "lock-personality"),
    ("MemoryDenyWriteExecute", "memory-deny-write-execute"),
    ("NoNewPrivileges", "no-new-privileges"),
    ("RestrictNamespaces", "restrict-namespaces"),
    ("RestrictRealtime", "restrict-realtime"),
    ("RestrictSUIDSGID", "restrict-suid-sgid"),
];

/// Directives whose lines add up in systemd.
const LISTS: [&str; 5] = [
    "CapabilityBoundingSet",
    "InaccessiblePaths",
    "ReadWritePaths",
    "RestrictAddressFamilies",
    "SystemCallFilter",
];

/// Refuses directives that have several lines which add up.
///
/// # Errors
/// The reason why the service is left out.
pub(super) fn check(lines: &[&Assignment]) -> Result<(), String> {
    let several = |key: &&str| lines.iter().filter(|line| line.key == *key).count() > 1;
    match LISTS.into_iter().find(|key| several(key)) {
        Some(key) => Err(format!("it has several lines {key}=: write one")),
        None => Ok(()),
    }
}

/// Applies a directive that confines; false if it is about something else.
///
/// # Errors
/// The reason why the service is left out.
pub(super) fn apply(key: &str, value: &str, service: &mut ImportedService) -> Result<bool, String> {
    let unknown = || Err(format!("{key}={value} confines it, and tine does not"));
    if let Some((_, own)) = SWITCHES.iter().find(|(directive, _)| *directive == key) {
        match value {
            yes if is_yes(yes) => service.set(own, "yes"),
            no if is_no(no) => {}
            _ => return unknown(),
        }
        return Ok(true);
    }
    match key {
        "ProtectSystem" if value == "strict" => service.set("protect-system", "strict"),
        "RestrictAddressFamilies" if !value.is_empty() => {
            service.set("restrict-address-families", each_refused(value));
        }
        "SystemCallFilter" if !value.is_empty() && !value.contains(':') => {
            service.set_list("system-call-filter", vec![each_refused(value)]);
        }
        "SystemCallErrorNumber" => service.set("system-call-error-number", value),
        "CapabilityBoundingSet" if value.is_empty() => service.set("capability-bounding-set", "none"),
        "CapabilityBoundingSet" if !value.starts_with('~') => service.set("capability-bounding-set", value),
        "ReadWritePaths" | "InaccessiblePaths"
            if value.split_whitespace().all(|path| path.starts_with('/')) =>
        {
            let own = if key == "ReadWritePaths" { "read-write-paths" } else { "inaccessible-paths" };
            service.set_list(own, value.split_whitespace().map(str::to_owned).collect());
        }
        _ if (UNKNOWN.contains(&key) || LISTS.contains(&key) || key == "ProtectSystem") && is_no(value) => {}
        _ if UNKNOWN.contains(&key) || LISTS.contains(&key) || key == "ProtectSystem" => return unknown(),
        _ => return Ok(false),
    }
    Ok(true)
}

/// A list that begins with `~` refuses all that follows; here, each word has its own.
fn each_refused(list: &str) -> String {
    match list.strip_prefix('~') {
        None => list.split_whitespace().collect::<Vec<_>>().join(" "),
        Some(rest) => rest.split_whitespace().map(|word| format!("~{word}")).collect::<Vec<_>>().join(" "),
    }
}
