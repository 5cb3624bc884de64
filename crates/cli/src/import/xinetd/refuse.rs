//! Why a service is left out: tine does not serve its kind, xinetd does not serve it either, or it
//! would admit clients that xinetd rejects.

use super::super::World;
use super::map::Attributes;
use super::values;

/// Whether a service is switched off.
pub(super) fn is_disabled(attributes: &Attributes, id: &str) -> bool {
    let lists = |name: &str| attributes.all(name).iter().any(|other| other == id);
    let is_enabled = !attributes.0.is_given("enabled") || lists("enabled");
    let is_off = attributes.one("disable").is_some_and(|value| !value.eq_ignore_ascii_case("no"));
    is_off || attributes.has("flags", "DISABLE") || lists("disabled") || !is_enabled
}

/// Accepts the services that tine serves, for the same clients at most.
///
/// # Errors
/// The reason why a service is left out.
pub(super) fn check(attributes: &Attributes, name: &str, world: &dyn World) -> Result<(), String> {
    attributes.0.iter().try_for_each(|(name, values)| values::check(name, values))?;
    kind(attributes)?;
    complete(attributes, name, world)?;
    clients(attributes)
}

/// Refuses kinds of services.
fn kind(attributes: &Attributes) -> Result<(), String> {
    let known = |kind: &&String| matches!(kind.to_ascii_uppercase().as_str(), "INTERNAL" | "UNLISTED");
    if let Some(kind) = attributes.all("type").iter().find(|kind| !known(kind)) {
        return Err(format!("it is of type {kind}"));
    }
    match attributes.one("socket_type") {
        Some(kind) if kind.eq_ignore_ascii_case("stream") => {}
        None => {}
        Some(kind) => return Err(format!("its socket_type is {kind}, and tine serves connections")),
    }
    match attributes.one("protocol") {
        None | Some("tcp" | "TCP") => {}
        Some(protocol) => return Err(format!("its protocol is {protocol}, and tine serves TCP")),
    }
    match attributes.one("wait") {
        Some(wait) if wait.eq_ignore_ascii_case("yes") => {
            Err("its program accepts for itself (wait = yes)".into())
        }
        Some(wait) if !wait.eq_ignore_ascii_case("no") => {
            Err(format!("wait = {wait} is neither yes nor no: xinetd leaves it out, too"))
        }
        _ => Ok(()),
    }
}

/// Refuses what xinetd does not start (the necessary attributes of xinetd.conf(5)).
fn complete(attributes: &Attributes, name: &str, world: &dyn World) -> Result<(), String> {
    let is_internal = attributes.has("type", "INTERNAL");
    let is_unlisted = attributes.has("type", "UNLISTED");
    let has = |name: &str| attributes.one(name).is_some();
    let missing = |what: &str| Err(format!("it names no {what}: xinetd leaves it out, too"));
    if !is_internal && !has("server") && !has("redirect") {
        return missing("server");
    }
    if !is_internal && !has("user") {
        return missing("user");
    }
    if !has("wait") {
        return missing("wait");
    }
    if !has("socket_type") && !has("protocol") {
        return missing("socket_type");
    }
    if is_unlisted && !has("port") {
        return Err("it is UNLISTED and names no port: xinetd leaves it out, too".into());
    }
    if attributes.has("flags", "NAMEINARGS") && !has("server_args") {
        return Err("it has NAMEINARGS and no server_args: xinetd leaves it out, too".into());
    }
    if !is_unlisted && let Some(port) = attributes.one("port") {
        let number = port.parse().ok();
        match world.port(name) {
            None => {
                return Err(format!(
                    "there is no port of the name {name}: xinetd leaves it out, too, without type = UNLISTED"
                ));
            }
            known if known != number => {
                return Err(format!(
                    "its port is not that of the name {name}: xinetd leaves it out, too, without type = UNLISTED"
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Refuses what would be served to more clients than by xinetd.
fn clients(attributes: &Attributes) -> Result<(), String> {
    if attributes.has("flags", "SENSOR") {
        return Err("flags = SENSOR: xinetd does not start its program, and notes its clients".into());
    }
    if attributes.has("flags", "LABELED") {
        return Err("flags = LABELED: the SELinux context of the client is not taken over".into());
    }
    if let Some(load) = attributes.one("max_load") {
        return Err(format!("max_load = {load}: clients are not rejected while the machine is busy"));
    }
    let has_redirect = attributes.0.is_given("redirect");
    if !has_redirect && attributes.has("log_on_success", "TRAFFIC") {
        return Err("it logs TRAFFIC and has no redirect: xinetd leaves it out, too".into());
    }
    if has_redirect && attributes.has("flags", "NAMEINARGS") {
        return Err("it has NAMEINARGS and a redirect: xinetd leaves it out, too".into());
    }
    if attributes.is_yes("groups") && has_number_for_user(attributes) {
        return Err("groups = yes takes a user that has a name".into());
    }
    let asks = ["log_on_success", "log_on_failure"].iter().any(|name| attributes.has(name, "USERID"));
    if attributes.has("flags", "IDONLY") && asks {
        return Err("flags = IDONLY: clients are not asked for their users (RFC 1413)".into());
    }
    Ok(())
}

/// Whether the user is a number. Its group is then the same number, whatever the user database
/// says.
pub(super) fn has_number_for_user(attributes: &Attributes) -> bool {
    attributes.one("user").is_some_and(|user| user.bytes().all(|byte| byte.is_ascii_digit()))
}
