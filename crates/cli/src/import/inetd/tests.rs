//! The services that lines of `inetd.conf` become.

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

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let both = [[192, 0, 2, 9].into(), IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 9])];
        if host == "both" { both.into() } else { Vec::new() }
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
            "#   has no equivalent: ::1 has no address of IPv4, the family of its protocol|#   has no equivalent: the login class daemon|[services.8080]|listen = [\"127.0.0.1:8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|max-connections = 10|rate-per-source = \"60/min\"|max-connections-per-source = 3|user = \"www.data\"|set-login-environment = \"no\"|group = \"x\"",
        ),
        (
            "8080 stream tcp nowait.100 root:wheel /bin/cat",
            "#   has no equivalent: at most 100 connections a minute from all clients together, and then none for ten minutes: rate-per-source limits each source instead|[services.8080]|listen = [\"8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|rate-per-source = \"100/min\"|user = \"root\"|set-login-environment = \"no\"|group = \"wheel\"",
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
            "[services.8080]|listen = [\"8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|user = \"root\"|set-login-environment = \"no\"",
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
            "both:8080 stream tcp4 nowait root /bin/cat cat",
            "#   has no equivalent: both is looked up once, here|[services.8080]|listen = [\"192.0.2.9:8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|user = \"root\"|set-login-environment = \"no\"",
        ),
        (
            "both:8080 stream tcp6 nowait root /bin/cat",
            "#   has no equivalent: both is looked up once, here|[services.8080]|listen = [\"[2001:db8::9]:8080\"]|program = [\"/bin/cat\"]|argv0 = \"cat\"|stderr = \"client\"|cwd = \"/\"|client-gone = \"leave\"|bind-ipv6-only = \"ipv6-only\"|user = \"root\"|set-login-environment = \"no\"",
        ),
        (
            "127.0.0.1:8080 stream tcp6 nowait root /bin/cat cat",
            "# inetd.conf:1: 8080 is left out: 127.0.0.1 has no address of IPv6, the family of its protocol",
        ),
        (
            "8080 stream tcp nowait 1000 /bin/cat cat",
            "# inetd.conf:1: 8080 is left out: there is no user of the name 1000",
        ),
        (
            "8080 stream tcp nowait root cat cat",
            "# inetd.conf:1: 8080 is left out: cat is no path from / on: inetd does not find it",
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
        ("8080 stream tcp nowait root", "# inetd.conf:1: 8080 is left out: it has fewer than six columns"),
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
fn a_later_line_replaces_one_of_the_same_service() {
    let text = "8080 stream tcp nowait root /bin/cat cat\n8080 stream tcp nowait nobody /bin/cat cat\n8080 stream tcp nowait root\n";
    let toml = toml(text, false);
    assert!(toml.contains("# inetd.conf:1: 8080 is left out: inetd.conf:2 replaces it"), "{toml}");
    assert!(toml.contains("user = \"nobody\"") && !toml.contains("user = \"root\""), "{toml}");
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
