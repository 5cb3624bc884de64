//! `inetd.conf`, as inetd(8) of the BSDs and of GNU read it.

use std::path::Path;
use std::rc::Rc;

use super::addresses::{listen, port};
use super::service::{ImportedService, ServedBy};
use super::{ImportedFile, ImportedItem, World};
use crate::config::Position;

/// The mark that `update-inetd` puts before a disabled line.
const OFF: &str = "#<off>#";

/// Imports the text of a file; with `all`, the disabled lines, too.
pub fn import(text: &str, file: &str, world: &dyn World, all: bool) -> ImportedFile {
    let mut import = ImportedFile::default();
    let mut host = None;
    for (number, line) in text.lines().enumerate() {
        let position = Position::new(Rc::from(Path::new(file)), number + 1);
        let (line, is_off) = match line.trim_start().strip_prefix(OFF) {
            Some(rest) => (rest.trim(), true),
            None => (line.trim(), false),
        };
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            import.items.push(ImportedItem::Left(
                position,
                "a line".into(),
                "it contains a zero byte".into(),
            ));
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
        let name = words[0].rsplit(':').next().unwrap_or_default().to_owned();
        if is_off && !all {
            import.items.push(ImportedItem::Left(
                position,
                name,
                "it is switched off; --all imports it, too".into(),
            ));
            continue;
        }
        import.items.push(match one(&words, &position, host.as_deref(), world) {
            Ok(service) => ImportedItem::Served(service),
            Err(why) => ImportedItem::Left(position, name, why),
        });
    }
    import.finish()
}

/// One line: service, socket type, protocol, flags, user, program, arguments from its name on.
fn one(
    words: &[&str],
    position: &Position,
    host: Option<&str>,
    world: &dyn World,
) -> Result<ImportedService, String> {
    let [service, kind, protocol, flags, user, program, words @ ..] = words else {
        return Err("it has fewer than six columns".into());
    };
    if *kind != "stream" {
        return Err(format!("its socket type is {kind}, and tine serves connections"));
    }
    let family = match *protocol {
        "tcp" | "tcp46" | "tcp6,tcp" => None,
        "tcp4" => Some("0.0.0.0"),
        "tcp6" | "tcp6only" => Some("[::]"),
        "unix" => {
            let mut found = with_program("unix", service, position, program, words)?;
            let path = socket_file(&mut found, service);
            found.listen.push(format!("unix:{path}"));
            limits(&mut found, flags, user);
            return Ok(found);
        }
        _ => return Err(format!("its protocol is {protocol}, and tine serves TCP")),
    };
    let (hosts, name) = match service.rsplit_once(':') {
        Some((hosts, name)) => (Some(hosts).filter(|hosts| *hosts != "*"), name),
        None => (host, *service),
    };
    if flags.starts_with("wait") {
        return Err("its program accepts for itself (wait)".into());
    }
    let number =
        port(name, world).ok_or_else(|| format!("there is no port of the name {name}; write a number"))?;
    let mut found = with_program(name, service, position, program, words)?;
    found.listen = match (hosts, family) {
        (Some(hosts), _) => hosts.split(',').map(|host| listen(host, number)).collect(),
        (None, Some(family)) => vec![format!("{family}:{number}")],
        (None, None) => vec![number.to_string()],
    };
    if matches!(*protocol, "tcp6" | "tcp6only") {
        found.set("bind-ipv6-only", "ipv6-only");
    }
    limits(&mut found, flags, user);
    Ok(found)
}

/// The path of a Unix socket. Before it, FreeBSD's inetd has `:USER:GROUP:MODE:`; otherwise the
/// file belongs to root alone.
fn socket_file<'a>(found: &mut ImportedService, service: &'a str) -> &'a str {
    let fields: Vec<&str> = service.splitn(5, ':').collect();
    let ["", user, group, mode, path] = fields[..] else {
        found.set("socket-mode", "0600");
        return service;
    };
    found.set("socket-mode", mode);
    found.set("socket-user", user);
    found.set("socket-group", group);
    path
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

/// `nowait.MAX` (GNU, NetBSD), `nowait/CHILDREN/PER-MINUTE/PER-ADDRESS` (FreeBSD), and `user.group`
/// or `user:group/class`.
fn limits(found: &mut ImportedService, flags: &str, user: &str) {
    if let Some((_, most)) = flags.split_once('.') {
        found.note(format!(
            "at most {most} connections a minute, and then none for ten minutes: rate-per-source limits each source instead"
        ));
    }
    let mut fields = flags.split('/').skip(1).map(|field| field.parse().unwrap_or(0_u32));
    let mut next = || fields.next().filter(|most| *most > 0);
    if let Some(most) = next() {
        found.set("max-connections", most.to_string());
    }
    if let Some(most) = next() {
        found.set("rate-per-source", format!("{most}/min"));
    }
    if let Some(most) = next() {
        found.set("max-connections-per-source", most.to_string());
    }
    let (user, class) = user.split_once('/').map_or((user, None), |(user, class)| (user, Some(class)));
    let (user, group) = user.split_once([':', '.']).map_or((user, None), |(user, group)| (user, Some(group)));
    if let Some(class) = class {
        found.note(format!("the login class {class}"));
    }
    if matches!(found.served_by, ServedBy::Program(_)) {
        found.set("user", user);
        // inetd leaves its own HOME, USER, LOGNAME and SHELL.
        found.set("set-login-environment", "no");
        group.into_iter().for_each(|group| found.set("group", group));
    }
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
                "#   has no equivalent: the login class daemon|[services.8080]|listen = [\"127.0.0.1:8080\", \"[::1]:8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|max-connections = 10|rate-per-source = \"60/min\"|max-connections-per-source = 3|user = \"www\"|set-login-environment = \"no\"|group = \"data:x\"",
            ),
            (
                "8080 stream tcp6 nowait.100 root:wheel /bin/cat",
                "#   has no equivalent: at most 100 connections a minute, and then none for ten minutes: rate-per-source limits each source instead|[services.8080]|listen = [\"[::]:8080\"]|program = [\"/bin/cat\"]|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|bind-ipv6-only = \"ipv6-only\"|user = \"root\"|set-login-environment = \"no\"|group = \"wheel\"",
            ),
            (
                "/run/it stream unix nowait root /bin/cat cat",
                "[services.it]|listen = [\"unix:/run/it\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|socket-mode = \"0600\"|user = \"root\"|set-login-environment = \"no\"",
            ),
            (
                ":www:data:660:/run/it stream unix nowait root /bin/cat cat",
                "[services.it]|listen = [\"unix:/run/it\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|socket-mode = 660|socket-user = \"www\"|socket-group = \"data\"|user = \"root\"|set-login-environment = \"no\"",
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
    fn a_file_becomes_a_configuration() {
        let text = "# a comment\n127.0.0.1:\necho stream tcp nowait root internal\n*:\n\n#<off># time stream tcp nowait root internal\ndiscard stream tcp nowait root internal\n8001 stream tcp nowait nobody /bin/cat cat\n8001 stream tcp6 nowait nobody /bin/cat cat\n8002 stream tcp nowait nobody /bin/cat cat\n127.0.0.1:8002 stream tcp nowait nobody /bin/cat cat\n";
        let some = import(text, "inetd.conf", &Ports, false);
        assert_eq!(some.counts(), (4, 3, 0));
        let config = Config::parse(&toml(text, true), Path::new("tine.toml")).expect("a configuration");
        let names: Vec<&str> = config.services.iter().map(|service| service.name.as_str()).collect();
        assert_eq!(names, ["echo", "time", "discard", "8001", "8002"]);
        assert_eq!(config.services[0].args.addresses, ["127.0.0.1:7"]);
        assert_eq!(config.services[1].args.addresses, ["37"]);
    }
}
