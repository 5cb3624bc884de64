//! The values that xinetd accepts. With any other, it does not start the service.

/// The flags, but those that leave a service out.
const FLAGS: [&str; 13] = [
    "DISABLE",
    "IDONLY",
    "INTERCEPT",
    "IPv4",
    "IPv6",
    "KEEPALIVE",
    "LABELED",
    "NAMEINARGS",
    "NODELAY",
    "NOLIBWRAP",
    "NORETRY",
    "REUSE",
    "SENSOR",
];

const FACILITIES: [&str; 20] = [
    "auth", "authpriv", "cron", "daemon", "ftp", "kern", "lpr", "mail", "news", "syslog", "user", "uucp",
    "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
];

const LEVELS: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Checks the values of an attribute. What Rust types or the configuration check anyway is left
/// to them.
///
/// # Errors
/// xinetd refuses the values, and with them the service.
pub(super) fn check(name: &str, values: &[String]) -> Result<(), String> {
    match accepts(name, values) {
        true => Ok(()),
        false => Err(format!("xinetd leaves it out, too: it does not accept {name} = {}", values.join(" "))),
    }
}

fn accepts(name: &str, values: &[String]) -> bool {
    let all = |test: fn(&str) -> bool| values.iter().all(|value| test(value));
    match name {
        "flags" => !values.is_empty() && all(|flag| is_one_of(&FLAGS, flag)),
        "type" | "server_args" | "access_times" => !values.is_empty(),
        "disable" | "groups" | "v6only" => all(|value| is_one_of(&["yes", "no"], value)),
        "cps" => all(is_number),
        "port" => all(|port| is_number(port) && port.parse::<u16>().is_ok()),
        "env" => all(|variable| variable.contains('=')),
        "server" => all(|path| path.starts_with('/')),
        "log_type" => is_log_type(values),
        "log_on_success" => {
            all(|value| is_one_of(&["DURATION", "EXIT", "HOST", "PID", "TRAFFIC", "USERID"], value))
        }
        "log_on_failure" => all(|value| is_one_of(&["ATTEMPT", "HOST", "USERID"], value)),
        "deny_time" => all(|value| is_one_of(&["FOREVER", "NEVER"], value) || is_number(value)),
        "rlimit_cpu" => all(|value| is_one_of(&["UNLIMITED"], value) || is_number(value)),
        limit if limit.starts_with("rlimit_") => all(|value| {
            is_one_of(&["UNLIMITED"], value) || is_number(value.trim_end_matches(['k', 'K', 'm', 'M']))
        }),
        "only_from" | "no_access" => all(|entry| entry.contains('{') || !entry.contains(',')),
        _ => true,
    }
}

/// `SYSLOG FACILITY [LEVEL]`, `FILE PATH [SOFT-LIMIT [HARD-LIMIT]]`.
fn is_log_type(values: &[String]) -> bool {
    let Some((kind, rest)) = values.split_first() else { return false };
    match (kind.to_ascii_uppercase().as_str(), rest) {
        ("SYSLOG", [facility]) => is_one_of(&FACILITIES, facility),
        ("SYSLOG", [facility, level]) => is_one_of(&FACILITIES, facility) && is_one_of(&LEVELS, level),
        ("FILE", [_path] | [_path, _] | [_path, _, _]) => true,
        _ => false,
    }
}

/// Case does not matter to xinetd.
fn is_one_of(known: &[&str], value: &str) -> bool {
    known.iter().any(|one| one.eq_ignore_ascii_case(value))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
