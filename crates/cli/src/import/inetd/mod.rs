//! `inetd.conf`, as inetd(8) of the BSDs and of GNU read it.

mod columns;

use std::path::Path;
use std::rc::Rc;

use super::addresses::{listen, port};
use super::service::{ImportedService, ServedBy};
use super::{ImportedFile, ImportedItem, World};
use crate::config::Position;
use columns::{Flags, buffer_sizes, identity, unix};

/// The mark that `update-inetd` puts before a disabled line.
const OFF: &str = "#<off>#";

/// The mark before an IPsec policy (FreeBSD, NetBSD).
const POLICY: &str = "#@";

/// Imports the text of a file; with `all`, the disabled lines, too.
pub fn import(text: &str, file: &str, world: &dyn World, all: bool) -> ImportedFile {
    let mut import = ImportedFile::default();
    let lines = entries(text);
    let dialect = Dialect::of(&lines);
    if super::has_wrapper_rules(world) {
        import.notes.push(
            "hosts.allow and hosts.deny have rules. inetd applies them to all lines if started with -l (Debian) \
             or -w (FreeBSD); here they apply to lines with tcpd only"
                .into(),
        );
    }
    let mut host = None;
    let mut policy = None;
    for (number, line) in lines {
        let position = Position::new(Rc::from(Path::new(file)), number);
        let left = |name: &str, why: &str| ImportedItem::Left(position.clone(), name.into(), why.into());
        if let Some(rest) = line.strip_prefix(POLICY) {
            // The IPsec policy of the lines that follow; empty for none.
            policy = Some(rest.trim().to_owned()).filter(|policy| !policy.is_empty());
            continue;
        }
        let (line, is_off) = match line.strip_prefix(OFF) {
            Some(rest) => (rest.trim(), true),
            None => (line.as_str(), false),
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            import.items.push(left("a line", "it contains a zero byte"));
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [only] = words[..]
            && let Some(default) = only.strip_suffix(':')
        {
            // A default for the lines that follow, `*:` for none.
            host = Some(default.to_owned()).filter(|host| host != "*" && !host.is_empty());
            continue;
        }
        let name = words[0].rsplit(':').next().unwrap_or_default();
        if is_off && !all {
            import.items.push(left(name, "it is switched off; --all imports it, too"));
            continue;
        }
        if let Some(policy) = &policy {
            import.items.push(left(name, &format!("it has an IPsec policy: {policy}")));
            continue;
        }
        import.items.push(match one(&words, &position, host.as_deref(), dialect, world) {
            Ok(service) => ImportedItem::Served(service),
            Err(why) => left(name, &why),
        });
    }
    import.finish()
}

/// The entries of a file, each with the number of its first line. A line that begins with a space
/// continues the one before.
fn entries(text: &str) -> Vec<(usize, String)> {
    let mut entries: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let is_indented = line.starts_with([' ', '\t']) && !line.trim().is_empty();
        match entries.last_mut() {
            Some((last, entry))
                if is_indented
                    && *last + entry.matches('\n').count() == number
                    && !entry.is_empty()
                    && !entry.starts_with('#')
                    && !line.trim_start().starts_with('#') =>
            {
                entry.push('\n');
                entry.push_str(line.trim());
            }
            _ => entries.push((number + 1, line.trim().to_owned())),
        }
    }
    entries
}

/// Whose inetd a file is for, where that makes a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// FreeBSD and NetBSD: `tcp` is IPv4.
    Ipv4,
    /// OpenBSD, Debian and GNU: `tcp` is IPv4 and IPv6.
    Both,
}

impl Dialect {
    /// Limits after a slash or a colon tell.
    fn of(entries: &[(usize, String)]) -> Dialect {
        let flags = entries.iter().filter_map(|(_, entry)| entry.split_whitespace().nth(3));
        let starts = ["nowait/", "wait/", "nowait:", "wait:"];
        match flags.into_iter().any(|flags| starts.iter().any(|start| flags.starts_with(start))) {
            true => Dialect::Ipv4,
            false => Dialect::Both,
        }
    }
}

/// One line: service, socket type, protocol, flags, user, program, arguments from its name on.
fn one(
    words: &[&str],
    position: &Position,
    host: Option<&str>,
    dialect: Dialect,
    world: &dyn World,
) -> Result<ImportedService, String> {
    let [service, kind, protocol, flags, user, program, words @ ..] = words else {
        return Err("it has fewer than six columns".into());
    };
    if *kind != "stream" {
        return Err(format!("its socket type is {kind}, and tine serves connections"));
    }
    let (protocol, buffers) = protocol.split_once(',').unwrap_or((protocol, ""));
    let family = match (protocol, buffers) {
        ("tcp", _) if dialect == Dialect::Ipv4 => Some("0.0.0.0"),
        // GNU writes both names for both families.
        ("tcp6", "tcp") | ("tcp" | "tcp46", _) => None,
        ("tcp4", _) => Some("0.0.0.0"),
        ("tcp6" | "tcp6only", _) => Some("[::]"),
        ("unix", _) => {
            let flags = Flags::parse(flags)?;
            let mut found = with_program("unix", service, position, program, words)?;
            unix(&mut found, service)?;
            flags.apply(&mut found);
            identity(&mut found, user);
            return Ok(found);
        }
        _ => return Err(format!("its protocol is {protocol}, and tine serves TCP")),
    };
    let flags = Flags::parse(flags)?;
    let (hosts, name) = match service.rsplit_once(':') {
        Some((hosts, name)) => (Some(hosts).filter(|hosts| *hosts != "*"), name),
        None => (host, *service),
    };
    let number =
        port(name, world).ok_or_else(|| format!("there is no port of the name {name}; write a number"))?;
    let mut found = with_program(name, service, position, program, words)?;
    found.listen = match (hosts, family) {
        (Some(hosts), _) => hosts.split(',').map(|host| listen(host, number)).collect(),
        (None, Some(family)) => vec![format!("{family}:{number}")],
        (None, None) => vec![number.to_string()],
    };
    if family == Some("[::]") {
        found.set("bind-ipv6-only", "ipv6-only");
    }
    buffer_sizes(&mut found, buffers);
    flags.apply(&mut found);
    identity(&mut found, user);
    Ok(found)
}

fn with_program(
    name: &str,
    service: &str,
    position: &Position,
    program: &str,
    words: &[&str],
) -> Result<ImportedService, String> {
    if program == "internal" {
        let built_in = crate::services::find(name).map(|service| service.name);
        let built_in = built_in.ok_or_else(|| format!("{name} is not built into tine"))?;
        return Ok(ImportedService::new(name, position.clone(), ServedBy::BuiltIn(built_in)));
    }
    let arguments = words.iter().skip(1).map(|word| (*word).to_owned());
    let all = std::iter::once(program.to_owned()).chain(arguments).collect();
    let name = if name == "unix" { service.rsplit('/').next().unwrap_or(name) } else { name };
    let mut found = ImportedService::new(name, position.clone(), ServedBy::Program(all));
    if let Some(argv0) = words.first().filter(|argv0| **argv0 != program) {
        found.set("argv0", *argv0);
    }
    // inetd gives it the socket as standard error, too.
    found.set("stderr", "client");
    found.set("cwd", "/");
    // inetd leaves the program of a client that is gone alone.
    found.set("client-gone", "leave");
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

    /// A machine with some ports, and no files.
    struct Ports;

    impl World for Ports {
        fn read(&self, _file: &Path) -> std::io::Result<String> {
            Err(std::io::ErrorKind::NotFound.into())
        }

        fn list(&self, _folder: &Path) -> std::io::Result<Vec<std::path::PathBuf>> {
            Err(std::io::ErrorKind::NotFound.into())
        }

        fn addresses(&self, _host: &str) -> Vec<std::net::IpAddr> {
            Vec::new()
        }

        fn port(&self, name: &str) -> Option<u16> {
            [("echo", 7), ("discard", 9), ("time", 37), ("finger", 79)]
                .into_iter()
                .find_map(|(known, port)| (known == name).then_some(port))
        }
    }

    fn toml(text: &str, all: bool) -> String {
        import(text, "inetd.conf", &Ports, all).to_string()
    }

    #[test]
    fn lines_become_services() {
        for (line, lines) in [
            (
                "7 stream tcp nowait root internal",
                // The name of the line is its port: nothing is known by it.
                "# inetd.conf:1: 7 is left out: 7 is not built into tine",
            ),
            ("echo stream tcp nowait root internal", "[services.echo]|listen = [\"7\"]|service = \"echo\""),
            (
                "finger stream tcp nowait nobody /usr/sbin/tcpd /usr/sbin/in.fingerd -w",
                "[services.finger]|listen = [\"79\"]|program = [\"/usr/sbin/tcpd\", \"-w\"]|argv0 = \"/usr/sbin/in.fingerd\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|user = \"nobody\"|set-login-environment = \"no\"",
            ),
            (
                "127.0.0.1,::1:8080 stream tcp4 nowait/10/60/3 www.data:x/daemon /bin/cat cat",
                "#   has no equivalent: the login class daemon|[services.8080]|listen = [\"127.0.0.1:8080\", \"[::1]:8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|max-connections = 10|rate-per-source = \"60/min\"|max-connections-per-source = 3|user = \"www.data\"|set-login-environment = \"no\"|group = \"x\"",
            ),
            (
                "8080 stream tcp nowait.100 root:wheel /bin/cat",
                "#   has no equivalent: at most 100 connections a minute from all clients together, and then none for ten minutes: rate-per-source limits each source instead|[services.8080]|listen = [\"8080\"]|program = [\"/bin/cat\"]|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|rate-per-source = \"100/min\"|user = \"root\"|set-login-environment = \"no\"|group = \"wheel\"",
            ),
            (
                "8080 stream tcp,rcvbuf=64k nowait.9 root /bin/cat cat -u\n\t-n",
                "#   has no equivalent: at most 9 connections a minute from all clients together, and then none for ten minutes: rate-per-source limits each source instead|[services.8080]|listen = [\"8080\"]|program = [\"/bin/cat\", \"-u\", \"-n\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|receive-buffer = \"64K\"|rate-per-source = \"9/min\"|user = \"root\"|set-login-environment = \"no\"",
            ),
            (
                "8080 stream tcp nowait:9 root /bin/cat cat",
                "#   has no equivalent: at most 9 connections a minute from all clients together, and then none for ten minutes: rate-per-source limits each source instead|[services.8080]|listen = [\"0.0.0.0:8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|rate-per-source = \"9/min\"|user = \"root\"|set-login-environment = \"no\"",
            ),
            (
                "8080 stream tcp nowait/0/0 root /bin/cat cat",
                "[services.8080]|listen = [\"0.0.0.0:8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|user = \"root\"|set-login-environment = \"no\"",
            ),
            (
                "8080 stream tcp6 nowait root /bin/cat cat",
                "[services.8080]|listen = [\"[::]:8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|bind-ipv6-only = \"ipv6-only\"|user = \"root\"|set-login-environment = \"no\"",
            ),
            (
                "8080 stream tcp6,tcp nowait root /bin/cat",
                "[services.8080]|listen = [\"8080\"]|program = [\"/bin/cat\"]|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|user = \"root\"|set-login-environment = \"no\"",
            ),
            (
                "8080 stream tcp later root /bin/cat cat",
                "# inetd.conf:1: 8080 is left out: later is neither wait nor nowait with a limit",
            ),
            (
                "8080 stream tcp nowait.x root /bin/cat cat",
                "# inetd.conf:1: 8080 is left out: nowait.x is neither wait nor nowait with a limit",
            ),
            (
                "8080 stream tcp nowait/1/2/3/4 root /bin/cat cat",
                "# inetd.conf:1: 8080 is left out: nowait/1/2/3/4 is neither wait nor nowait with a limit",
            ),
            (
                "8080 stream tcp wait.9 root /bin/cat cat",
                "# inetd.conf:1: 8080 is left out: its program accepts for itself (wait)",
            ),
            (
                "tcpmux/+date stream tcp nowait guest /bin/date date",
                "# inetd.conf:1: tcpmux/+date is left out: there is no port of the name tcpmux/+date; write a number",
            ),
            (
                "8080 stream faith/tcp6 nowait root /bin/x x",
                "# inetd.conf:1: 8080 is left out: its protocol is faith/tcp6, and tine serves TCP",
            ),
            (
                ":bin:wheel:0660:/run/it stream unix nowait root /bin/cat cat",
                "[services.it]|listen = [\"unix:/run/it\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|socket-user = \"bin\"|socket-group = \"wheel\"|socket-mode = \"0660\"|user = \"root\"|set-login-environment = \"no\"",
            ),
            (
                ":bin:/run/it stream unix nowait root /bin/cat cat",
                "# inetd.conf:1: /run/it is left out: its path is not understood",
            ),
            (
                // NetBSD's syntax of keys and values.
                "8080 on stream protocol = tcp;",
                "# inetd.conf:1: 8080 is left out: its socket type is on, and tine serves connections",
            ),
            (
                "/run/it stream unix nowait root /bin/cat cat",
                "[services.it]|listen = [\"unix:/run/it\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|socket-mode = \"0600\"|user = \"root\"|set-login-environment = \"no\"",
            ),
            (
                "time dgram udp wait root internal",
                "# inetd.conf:1: time is left out: its socket type is dgram, and tine serves connections",
            ),
            (
                "rstatd/1-3 stream rpc/tcp wait root /bin/x x",
                "# inetd.conf:1: rstatd/1-3 is left out: its protocol is rpc/tcp, and tine serves TCP",
            ),
            (
                "8080 stream tcp wait root /bin/x x",
                "# inetd.conf:1: 8080 is left out: its program accepts for itself (wait)",
            ),
            (
                "no-such-name stream tcp nowait root /bin/x x",
                "# inetd.conf:1: no-such-name is left out: there is no port of the name no-such-name; write a number",
            ),
            (
                "8080 stream tcp nowait root",
                "# inetd.conf:1: 8080 is left out: it has fewer than six columns",
            ),
            (
                "#<off># echo stream tcp nowait root internal",
                "# inetd.conf:1: echo is left out: it is switched off; --all imports it, too",
            ),
        ] {
            let said = toml(line, false);
            let said: Vec<&str> =
                said.lines().filter(|line| !line.is_empty() && *line != "# inetd.conf:1").collect();
            assert_eq!(said.join("|"), lines, "{line}");
        }
    }

    #[test]
    fn lines_with_an_ipsec_policy_are_left_out() {
        let text = "#@ ipsec ah/require\necho stream tcp nowait root internal\n#@\ntime stream tcp nowait root internal\n";
        let toml = toml(text, false);
        assert!(
            toml.contains("inetd.conf:2: echo is left out: it has an IPsec policy: ipsec ah/require"),
            "{toml}"
        );
        assert!(toml.contains("[services.time]") && !toml.contains("[services.echo]"), "{toml}");
    }

    #[test]
    fn a_file_becomes_a_configuration() {
        let text = "# a comment\n127.0.0.1:\necho stream tcp nowait root internal\n*:\n\n#<off># time stream tcp nowait root internal\ndiscard stream tcp nowait root internal\n8001 stream tcp nowait nobody /bin/cat cat\n8001 stream tcp46 nowait nobody /bin/cat cat\n8002 stream tcp nowait nobody /bin/cat cat\n127.0.0.1:8002 stream tcp nowait nobody /bin/cat cat\n";
        let some = import(text, "inetd.conf", &Ports, false);
        assert_eq!(some.counts(), (4, 3, 0));
        let config = Config::parse(&toml(text, true), Path::new("tine.toml")).expect("a configuration");
        let names: Vec<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["echo", "time", "discard", "8001", "8002"]);
        assert_eq!(config.services[0].args.addresses, ["127.0.0.1:7"]);
        assert_eq!(config.services[1].args.addresses, ["37"]);
    }
}
