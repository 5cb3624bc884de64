//! The section `[Socket]` of a socket unit (systemd.socket(5)).

use super::unit::Assignment;
use super::words::{is_yes, milliseconds};
use crate::import::service::ImportedService;

/// systemd's own default of `MaxConnections=`.
const MAX_CONNECTIONS: &str = "64";

/// Applies the lines of the section.
///
/// # Errors
/// The reason why the service is left out.
pub(super) fn apply(lines: &[&Assignment], service: &mut ImportedService) -> Result<(), String> {
    let last = |key: &str| lines.iter().rev().find(|line| line.key == key).map(|line| line.value.as_str());
    if !last("Accept").is_some_and(is_yes) {
        return Err(
            "it has no Accept=yes: its service accepts for itself. Start that as before; tine itself can \
             take such a socket (listen = \"fd:NAME\")"
                .into(),
        );
    }
    if last("MaxConnections").is_none() {
        service.set("max-connections", MAX_CONNECTIONS);
    }
    let mut repeated = Vec::new();
    for line in lines {
        let key = line.key.as_str();
        let is_last = last(key) == Some(line.value.as_str());
        // Of a key that is no list, the last line counts.
        if key != "ListenStream" && (!is_last || repeated.contains(&key)) {
            continue;
        }
        repeated.push(key);
        one(key, &line.value, service)?;
    }
    match service.listen.is_empty() {
        true => Err("it listens on no stream (ListenStream=)".into()),
        false => Ok(()),
    }
}

/// Applies one line.
fn one(key: &str, value: &str, service: &mut ImportedService) -> Result<(), String> {
    match key {
        "ListenStream" => service.listen.push(address(value)?),
        "BindIPv6Only" => service.set("bind-ipv6-only", value),
        "Backlog" => service.set("backlog", value),
        "BindToDevice" => service.set("bind-to-device", value),
        "SocketUser" => service.set("socket-user", value),
        "SocketGroup" => service.set("socket-group", value),
        "SocketMode" => service.set("socket-mode", value),
        "MaxConnections" => service.set("max-connections", value),
        "MaxConnectionsPerSource" if value == "0" => {}
        "MaxConnectionsPerSource" => service.set("max-connections-per-source", value),
        "KeepAliveTimeSec" => set_time("keep-alive-time", value, service)?,
        "KeepAliveIntervalSec" => set_time("keep-alive-interval", value, service)?,
        "KeepAliveProbes" => service.set("keep-alive-probes", value),
        "DeferAcceptSec" => set_time("defer-accept", value, service)?,
        "ReceiveBuffer" => service.set("receive-buffer", value),
        "SendBuffer" => service.set("send-buffer", value),
        "IPTOS" => service.set("ip-tos", value),
        "IPTTL" => service.set("ip-ttl", value),
        "Mark" => service.set("mark", value),
        "ReusePort" => set_flag("reuse-port", value, service),
        "FreeBind" => set_flag("free-bind", value, service),
        "Transparent" => set_flag("transparent", value, service),
        "TCPCongestion" => service.set("tcp-congestion", value),
        // What tine does in any case, or what concerns the unit only.
        "Accept" | "NoDelay" | "KeepAlive" | "Service" | "RemoveOnStop" | "FileDescriptorName"
        | "DirectoryMode" | "FlushPending" | "TimeoutSec" => {}
        "TriggerLimitIntervalSec" | "TriggerLimitBurst" | "PollLimitIntervalSec" | "PollLimitBurst" => {
            service.note(format!(
                "{key}: tine does not stop a service whose clients come often; rate-per-source limits them"
            ));
        }
        "IPAddressAllow" | "IPAddressDeny" => {
            return Err(format!("{key} filters packets; write `allow` and `deny`, which reject clients"));
        }
        "ListenDatagram"
        | "ListenSequentialPacket"
        | "ListenFIFO"
        | "ListenSpecial"
        | "ListenNetlink"
        | "ListenMessageQueue"
        | "ListenUSBFunction" => {
            return Err(format!("it has {key}, and tine serves streams"));
        }
        "SocketProtocol" => return Err(format!("its protocol is {value}, and tine serves TCP")),
        "ExecStartPre" | "ExecStartPost" | "ExecStopPre" | "ExecStopPost" => {
            service.note(format!("{key}={value}: run it before or after tine"));
        }
        other => service.note(format!("{other}={value}")),
    }
    Ok(())
}

fn set_flag(key: &'static str, value: &str, service: &mut ImportedService) {
    if is_yes(value) {
        service.set_yes(key);
    }
}

fn set_time(key: &'static str, value: &str, service: &mut ImportedService) -> Result<(), String> {
    if let Some(time) = milliseconds(value)? {
        service.set(key, format!("{time}ms"));
    }
    Ok(())
}

/// An address of `ListenStream=`, as tine has it.
fn address(value: &str) -> Result<String, String> {
    if value.contains('%') {
        return Err(format!("ListenStream={value} has a specifier: write the address"));
    }
    if value.starts_with(['/', '@']) {
        return Ok(format!("unix:{value}"));
    }
    Ok(match value.strip_prefix("vsock:") {
        // Without a CID, clients of all kinds.
        Some(rest) => match rest.split_once(':') {
            Some(("", port)) => format!("vsock:{port}"),
            _ => value.to_owned(),
        },
        None => value.to_owned(),
    })
}
