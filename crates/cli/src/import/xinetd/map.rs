//! The attributes of xinetd.conf(5) as keys of a service.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use super::super::World;
use super::super::addresses::{listen, port as port_of};
use super::super::service::{ImportedService, ServedBy};
use super::attributes::Effective;
use super::entry::XinetdSection;
use super::{access, refuse};

/// The equivalent service, or the reason why there is none.
pub(super) fn service(
    name: &str,
    section: &XinetdSection,
    all: &Effective,
    also_disabled: bool,
    world: &dyn World,
) -> Result<ImportedService, String> {
    if let Some(line) = &section.fault {
        return Err(format!("xinetd leaves it out, too: this line of it is no attribute: {line}"));
    }
    let attributes = Attributes(all);
    let id = attributes.one("id").unwrap_or(name);
    if !also_disabled && refuse::is_disabled(&attributes, id) {
        return Err("it is disabled; --all imports it, too".into());
    }
    refuse::check(&attributes, name, world)?;
    let served_by = match attributes.has("type", "INTERNAL") {
        true => {
            let built_in = crate::services::find(name).map(|service| service.name);
            ServedBy::BuiltIn(built_in.ok_or_else(|| format!("{name} is not built into tine"))?)
        }
        false => program(&attributes, world)?,
    };
    let mut service = ImportedService::new(id, section.position.clone(), served_by);
    let port = attributes.one("port").unwrap_or(name);
    let number = port_of(port, world).ok_or_else(|| format!("there is no port of the name {port}"))?;
    listener(&mut service, &attributes, number, world)?;
    all.ignored.iter().for_each(|line| service.note(line));
    for (name, values) in all.iter() {
        map(&mut service, name, values, &attributes, world)?;
    }
    banner(&mut service, &attributes, world);
    access::rules(&mut service, &attributes, world)?;
    surroundings(&mut service, &attributes);
    access::libwrap(&mut service, &attributes, world)?;
    Ok(service)
}

/// The attributes in effect for a service.
pub(super) struct Attributes<'a>(pub(super) &'a Effective);

impl<'a> Attributes<'a> {
    pub(super) fn all(&self, name: &str) -> &'a [String] {
        self.0.all(name)
    }

    pub(super) fn one(&self, name: &str) -> Option<&'a str> {
        self.all(name).first().map(String::as_str)
    }

    pub(super) fn has(&self, name: &str, value: &str) -> bool {
        self.all(name).iter().any(|other| other.eq_ignore_ascii_case(value))
    }

    pub(super) fn is_yes(&self, name: &str) -> bool {
        self.has(name, "yes")
    }
}

fn program(attributes: &Attributes, world: &dyn World) -> Result<ServedBy, String> {
    if let [host, port_name, ..] = attributes.all("redirect") {
        // The client is a relay, and the same binary.
        let number =
            port_of(port_name, world).ok_or_else(|| format!("there is no port of the name {port_name}"))?;
        let own = std::env::current_exe().map_or_else(|_| "tine".into(), |path| path.display().to_string());
        let words = [&own, "client", "--wait", "1h", &listen(host, number)];
        return Ok(ServedBy::Program(words.map(str::to_owned).into()));
    }
    let server = attributes.one("server").ok_or("it names no server")?;
    let mut arguments = attributes.all("server_args").to_vec();
    if attributes.has("flags", "NAMEINARGS") && !arguments.is_empty() {
        arguments.remove(0);
    }
    let mut words = vec![server.to_owned()];
    words.append(&mut arguments);
    Ok(ServedBy::Program(words))
}

/// The one address on which xinetd listens.
///
/// # Errors
/// There is no such address: xinetd does not start the service.
fn listener(
    service: &mut ImportedService,
    attributes: &Attributes,
    port: u16,
    world: &dyn World,
) -> Result<(), String> {
    let is_ipv4 = attributes.has("flags", "IPv4") && !attributes.has("flags", "IPv6");
    let Some(host) = attributes.one("bind") else {
        service.listen.push(match is_ipv4 {
            true => format!("0.0.0.0:{port}"),
            false if attributes.has("flags", "IPv6") => format!("[::]:{port}"),
            false => port.to_string(),
        });
        if !is_ipv4 && !attributes.0.is_given("v6only") {
            // Its socket has IPv4, too: no other service gets this port.
            service.also_claims = vec![format!("0.0.0.0:{port}")];
        }
        return Ok(());
    };
    if host.parse::<IpAddr>().is_ok() {
        service.listen.push(listen(host, port));
        return Ok(());
    }
    let found = world.addresses(host);
    let address = match found[..] {
        [only] => Some(only),
        // Without a flag, of a host with both, the one of IPv6.
        _ => found.iter().copied().find(|address| address.is_ipv4() == is_ipv4),
    };
    let address = address
        .ok_or_else(|| format!("bind = {host} has no address of its family: xinetd leaves it out, too"))?;
    service.note(format!("bind: {host} is looked up once, here"));
    service.listen.push(listen(&address.to_string(), port));
    Ok(())
}

/// Translates one attribute that has an equivalent of its own.
///
/// # Errors
/// xinetd refuses the value, and with it the service.
fn map(
    service: &mut ImportedService,
    name: &str,
    values: &[String],
    all: &Attributes,
    world: &dyn World,
) -> Result<(), String> {
    let joined = values.join(" ");
    let is_program = matches!(service.served_by, ServedBy::Program(_));
    match (name, values) {
        // Read elsewhere, or true of tine in any case.
        (
            "id" | "disable" | "socket_type" | "protocol" | "wait" | "port" | "bind" | "server" | "redirect"
            | "banner" | "banner_success" | "enabled" | "disabled" | "only_from" | "no_access" | "passenv"
            | "env" | "group" | "groups" | "type" | "libwrap" | "server_args",
            _,
        ) => {}
        // A service that has the attribute has IPv6 alone, whatever its value.
        ("v6only", _) => {
            service.set("bind-ipv6-only", "ipv6-only");
            if !all.is_yes("v6only") {
                service.note("v6only = no: in a service, xinetd takes it as v6only = yes");
            }
        }
        ("flags", values) => values.iter().for_each(|value| flag(service, value)),
        ("user", [user, ..]) if is_program => {
            service.set("user", user);
            // xinetd leaves its own HOME, USER, LOGNAME and SHELL.
            service.set("set-login-environment", "no");
        }
        ("user", _) => {}
        ("instances", [most, ..]) => match number(name, most)? {
            Some(most) => service.set("max-connections", most.to_string()),
            None => service
                .note("instances = UNLIMITED: 1024 concurrent connections, unless max-connections is set"),
        },
        ("per_source", [most, ..]) => {
            if let Some(most) = number(name, most)? {
                service.set("max-connections-per-source", most.to_string());
            }
        }
        ("banner_fail", [file, ..]) => banner_fail(service, file, world),
        ("nice", [nice, ..]) if is_program => service.set("nice", nice),
        ("umask", [mask, ..]) if is_program => service.set("umask", mask),
        ("access_times", spans) => {
            service.set_list("access-times", spans.iter().map(|span| time(span)).collect())
        }
        ("cps", [most, pause]) => cps(service, most, pause)?,
        ("log_type", _) => service.note(format!("log_type = {joined}: the log goes to standard error")),
        ("log_on_success" | "log_on_failure", values) => log_on(service, name, values),
        ("mdns", _) if !all.is_yes("mdns") => {}
        (limit, [value, ..]) if is_program && limit.starts_with("rlimit_") => rlimit(service, limit, value),
        _ => service.note(format!("{name} = {joined}")),
    }
    Ok(())
}

/// What is logged of connections: the log has all of it but the users.
fn log_on(service: &mut ImportedService, name: &str, values: &[String]) {
    if values.iter().any(|value| value.eq_ignore_ascii_case("USERID")) {
        service.note(format!("{name}: USERID, which asks the clients' hosts for their users"));
    }
}

/// A maximum; `None` for `UNLIMITED`.
fn number(name: &str, value: &str) -> Result<Option<u32>, String> {
    match value.parse() {
        Ok(most @ 1..) => Ok(Some(most)),
        _ if value.eq_ignore_ascii_case("UNLIMITED") => Ok(None),
        _ => Err(format!("{name} = {value} is neither a number from 1 on nor UNLIMITED")),
    }
}

/// Beyond `most` connections a second, xinetd switches the service off for `pause` seconds. A
/// source alone cannot exceed that here, either.
fn cps(service: &mut ImportedService, most: &str, pause: &str) -> Result<(), String> {
    let rate: u32 = most.parse().map_err(|_| format!("cps = {most} is too high"))?;
    if rate > 0 {
        service.set("rate-per-source", format!("{rate}/s"));
    }
    service.note(format!(
        "cps = {most} {pause}: the rate of all clients together, beyond which the service was off for everyone; rate-per-source limits each source instead"
    ));
    Ok(())
}

fn flag(service: &mut ImportedService, flag: &str) {
    match flag.to_ascii_uppercase().as_str() {
        // Always so in tine, handled elsewhere, or about services that are left out.
        "REUSE" | "NODELAY" | "KEEPALIVE" | "NAMEINARGS" | "IPV4" | "IPV6" | "NOLIBWRAP" | "NORETRY" => {}
        "IDONLY" => service.note("flags: IDONLY, which has no effect without USERID, in xinetd, too"),
        "INTERCEPT" => service.note("flags: INTERCEPT, which xinetd ignores where wait = no"),
        flag => service.note(format!("flags: {flag}")),
    }
}

/// `08:00-17:00`; hours may have one digit.
fn time(span: &str) -> String {
    let two = |time: &str| match time.split_once(':') {
        Some((hour, minute)) => format!("{hour:0>2}:{minute:0>2}"),
        None => time.to_owned(),
    };
    match span.split_once('-') {
        Some((from, to)) => format!("{}-{}", two(from), two(to)),
        None => span.to_owned(),
    }
}

fn rlimit(service: &mut ImportedService, name: &str, value: &str) {
    let is_unlimited = value.eq_ignore_ascii_case("UNLIMITED");
    if is_unlimited && name == "rlimit_files" {
        // The kernel refuses it, and xinetd goes on without.
        return;
    }
    let value = if is_unlimited { "infinity" } else { value };
    let key = match name {
        "rlimit_as" => "limit-as",
        "rlimit_cpu" => "limit-cpu",
        "rlimit_data" => "limit-data",
        "rlimit_rss" => "limit-rss",
        "rlimit_stack" => "limit-stack",
        "rlimit_files" => "limit-nofile",
        _ => return service.note(format!("{name} = {value}")),
    };
    service.set(key, value);
}

/// The files that each client gets first. xinetd reads them for each client, so it starts without
/// them.
fn banner(service: &mut ImportedService, attributes: &Attributes, world: &dyn World) {
    let mut files = Vec::new();
    for name in ["banner", "banner_success"] {
        let Some(file) = attributes.one(name) else { continue };
        match world.read(Path::new(file)) {
            // A banner need not be text in UTF-8.
            Err(why) if why.kind() != io::ErrorKind::InvalidData => {
                service.note(format!("{name} = {file}: {}", tine::cli::reason(&why)));
            }
            _ => files.push(file.to_owned()),
        }
    }
    if attributes.one("banner").is_some_and(|file| files.iter().any(|other| other == file)) {
        service.note("banner: a client that is denied does not get it");
    }
    service.set_list("banner-file", files);
}

/// The text of rejected clients, which xinetd reads from a file for each of them.
fn banner_fail(service: &mut ImportedService, file: &str, world: &dyn World) {
    match world.read(Path::new(file)) {
        Ok(text) => {
            let escaped: String = text
                .chars()
                .map(|c| match c {
                    '\n' => "\\n".into(),
                    '\r' => "\\r".into(),
                    '\t' => "\\t".into(),
                    '\0' => "\\0".into(),
                    '\\' => "\\\\".into(),
                    c => c.to_string(),
                })
                .collect();
            service.set("when-full", format!("reject={escaped}"));
            service.set("when-limited", format!("reject={escaped}"));
            service.note(format!(
                "banner_fail = {file} was read once, by this import; a client denied by address gets no text"
            ));
        }
        Err(why) => service.note(format!("banner_fail = {file}: {}", tine::cli::reason(&why))),
    }
}

/// The environment of the program.
fn surroundings(service: &mut ImportedService, attributes: &Attributes) {
    if matches!(service.served_by, ServedBy::BuiltIn(_)) {
        return;
    }
    let number = attributes.one("user").filter(|_| refuse::has_number_for_user(attributes));
    if let Some(group) = attributes.one("group").or(number) {
        service.set("group", group);
    }
    let has_identity = attributes.one("user").or(attributes.one("group")).is_some();
    if has_identity && !attributes.is_yes("groups") {
        service.set("supplementary-groups", "none");
    }
    let is_relay = !attributes.all("redirect").is_empty();
    let name = match attributes.has("flags", "NAMEINARGS") {
        true => attributes.one("server_args"),
        // The last part of its path.
        false => attributes.one("server").and_then(|server| server.rsplit('/').next()),
    };
    if let Some(name) = name.filter(|name| !is_relay && !name.is_empty()) {
        service.set("argv0", name);
    }
    if !is_relay {
        // xinetd gives it the socket as standard error, too.
        service.set("stderr", "client");
        // With passenv, xinetd passes on nothing else.
        if attributes.0.is_given("passenv") {
            service.set_yes("clear-env");
        }
        service.set_yes("remote-host");
        service.set("cwd", "/");
        // xinetd leaves the program of a client that is gone alone.
        service.set("client-gone", "leave");
    }
    let variables: Vec<String> =
        attributes.all("passenv").iter().chain(attributes.all("env")).cloned().collect();
    let (good, bad): (Vec<String>, Vec<String>) =
        variables.into_iter().partition(|variable| !variable.starts_with('=') && !variable.contains('\0'));
    // xinetd sets this one last.
    let good = good.into_iter().filter(|variable| !variable.starts_with("REMOTE_HOST=")).collect();
    bad.into_iter().for_each(|variable| service.note(format!("env = {variable}")));
    service.set_list("env", good);
}
