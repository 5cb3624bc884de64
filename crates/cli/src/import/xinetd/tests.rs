//! The services that sections of `xinetd.conf` become.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use super::*;
use crate::config::Config;

/// The files of a test.
struct Some(&'static [(&'static str, &'static str)]);

impl World for Some {
    fn read(&self, file: &Path) -> io::Result<String> {
        if file == Path::new("/latin-1") {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let found = self.0.iter().find(|(name, _)| Path::new(name) == file);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.0.iter().map(|(name, _)| PathBuf::from(name));
        Ok(names.filter(|name| name.starts_with(folder)).collect())
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let ipv4 = [192, 0, 2, 9].into();
        match host {
            "gate" => vec![ipv4],
            "both" => vec![ipv4, "2001:db8::9".parse().expect("an address")],
            _ => Vec::new(),
        }
    }

    fn port(&self, _name: &str) -> Option<u16> {
        None
    }
}

/// What every service has that xinetd starts.
const NECESSARY: [&str; 6] = [
    "type = UNLISTED",
    "port = 8001",
    "socket_type = stream",
    "wait = no",
    "server = /bin/cat",
    "user = root",
];

/// A service with these lines, which replace the necessary ones of the same name; `without
/// NAME` only removes one.
fn imported(lines: &str) -> String {
    imported_among(&[("/banner", "go\t\\away\r\n")], lines)
}

fn imported_among(files: &'static [(&'static str, &'static str)], lines: &str) -> String {
    let name = |line: &str| line.trim_start_matches("without ").split(' ').next().map(str::to_owned);
    let replaced: Vec<_> = lines.lines().map(name).collect();
    let necessary = NECESSARY.iter().filter(|line| !replaced.contains(&name(line))).copied();
    let all: Vec<&str> =
        necessary.chain(lines.lines().filter(|line| !line.starts_with("without "))).collect();
    let text = format!("service it\n{{\n{}\n}}\n", all.join("\n"));
    import(&text, Path::new("x.conf"), &Some(files), false).to_string()
}

#[test]
fn every_attribute_is_carried_over_or_named() {
    let rows = [
        ("id = that", "[services.that]"),
        ("type = UNLISTED", "listen = [\"8001\"]"),
        ("type = UNLISTED\nwithout port", "it is left out: it is UNLISTED and names no port"),
        ("type = RPC", "it is left out: it is of type RPC"),
        ("type = TCPMUX", "it is left out: it is of type TCPMUX"),
        ("type = TCPMUXPLUS UNLISTED", "it is left out: it is of type TCPMUXPLUS"),
        ("type = INTERNAL UNLISTED", "it is left out: it is not built into tine"),
        ("without type", "it is left out: there is no port of the name it: xinetd leaves it out, too"),
        ("flags = REUSE NODELAY KEEPALIVE NORETRY IPv4", "listen = [\"0.0.0.0:8001\"]"),
        ("flags = IPv6", "listen = [\"[::]:8001\"]"),
        ("flags = IPv4 IPv6", "listen = [\"[::]:8001\"]"),
        ("flags =", "does not accept flags ="),
        ("type =\nport = 8001", "does not accept type ="),
        ("socket_type = STREAM", "[services.it]"),
        ("protocol = TCP", "[services.it]"),
        ("protocol = tcp6", "it is left out: its protocol is tcp6"),
        ("server = cat", "does not accept server = cat"),
        ("server_args =", "does not accept server_args ="),
        ("access_times =", "does not accept access_times ="),
        ("env = A", "does not accept env = A"),
        ("env = REMOTE_HOST=me A=1", "env = [\"A=1\"]"),
        ("groups = maybe", "does not accept groups = maybe"),
        ("log_type = nothing", "does not accept log_type = nothing"),
        ("log_type = SYSLOG nowhere", "does not accept log_type = SYSLOG nowhere"),
        ("log_type = FILE /var/log/it 5M", "has no equivalent: log_type = FILE"),
        ("log_on_success = TRAFFIC", "it is left out: it logs TRAFFIC and has no redirect"),
        ("log_on_success = TRAFFIC\nredirect = 192.0.2.1 80", "[services.it]"),
        ("log_on_success = NEW", "does not accept log_on_success = NEW"),
        ("log_on_failure = NEW", "does not accept log_on_failure = NEW"),
        ("flags = NAMEINARGS\nserver_args = a\nredirect = 192.0.2.1 80", "it has NAMEINARGS and a redirect"),
        ("deny_time = ever", "does not accept deny_time = ever"),
        ("rlimit_cpu = 10M", "does not accept rlimit_cpu = 10M"),
        ("rlimit_as = 1G", "does not accept rlimit_as = 1G"),
        ("rlimit_files = UNLIMITED", "client-gone = \"leave\"\n"),
        ("user = 4", "group = 4"),
        ("user = 4\ngroup = 5", "group = 5"),
        ("user = 4\ngroups = yes", "it is left out: groups = yes takes a user that has a name"),
        ("only_from = 127.0.0.1,10.1.2.3", "does not accept only_from = 127.0.0.1,10.1.2.3"),
        ("only_from = 127.5", "allow = [\"127.0.0.5\"]"),
        ("only_from = ::1/128", "deny = [\"any\"]"),
        ("only_from = 10.0.0.0 127.0.0.0\nonly_from -= 127.0.0.1/8", "allow = [\"10.0.0.0/8\"]"),
        // In xinetd, no_access always wins.
        (
            "only_from = 127.5.0.1 10.1.2.3\nno_access = 127.0.0.0",
            "allow = [\"10.1.2.3\"]\ndeny = [\"127.0.0.0/8\"]",
        ),
        ("only_from = 127.0.0.0\nno_access = 127.5.0.1", "allow = [\"127.0.0.0/8\"]\ndeny = [\"127.5.0.1\"]"),
        ("only_from = gate\nno_access = 10.0.0.0", "its no_access has 10.0.0.0/8, which would not apply to"),
        ("only_from = .a.b\nno_access = .b", "its no_access has =.b, which would not apply to"),
        ("only_from = 10.1.2.3\nno_access = gate", "its no_access has =gate, which would not apply to"),
        (
            "only_from = 10.0.0.0\nno_access = gate",
            "allow = [\"10.0.0.0/8\"]\ndeny = [\"192.0.2.9\", \"=gate\"]",
        ),
        ("bind = gate", "listen = [\"192.0.2.9:8001\"]"),
        ("bind = both", "listen = [\"[2001:db8::9]:8001\"]"),
        ("bind = both\nflags = IPv4", "listen = [\"192.0.2.9:8001\"]"),
        ("bind = no-such-host.invalid", "bind = no-such-host.invalid has no address of its family"),
        ("flags = NAMEINARGS\nserver_args = kitty -u", "program = [\"/bin/cat\", \"-u\"]\n"),
        ("flags = NAMEINARGS\nserver_args = kitty -u", "argv0 = \"kitty\""),
        ("flags = NAMEINARGS", "it is left out: it has NAMEINARGS and no server_args"),
        ("flags = INTERCEPT", "has no equivalent: flags: INTERCEPT, which xinetd ignores"),
        ("flags = IDONLY", "has no equivalent: flags: IDONLY, which has no effect"),
        ("flags = IDONLY\nlog_on_failure = USERID", "it is left out: flags = IDONLY"),
        ("flags = SENSOR", "it is left out: flags = SENSOR"),
        ("flags = LABELED", "it is left out: flags = LABELED"),
        ("flags = DISABLE", "it is left out: it is disabled"),
        ("flags = NEW", "it is left out: xinetd leaves it out, too: it does not accept flags = NEW"),
        ("flags = IPv4\nflags += NODELAY", "has no equivalent: x.conf:10: flags: xinetd ignores it, as it"),
        ("disable = yes", "it is left out: it is disabled"),
        ("disable = maybe", "it is left out: it is disabled"),
        ("disable = no", "[services.it]"),
        ("socket_type = dgram", "it is left out: its socket_type is dgram"),
        ("socket_type = stream", "[services.it]"),
        ("without socket_type", "it is left out: it names no socket_type"),
        ("without socket_type\nprotocol = tcp", "[services.it]"),
        ("protocol = udp", "it is left out: its protocol is udp"),
        ("protocol = tcp", "[services.it]"),
        ("wait = yes", "it is left out: its program accepts for itself"),
        ("wait = maybe", "it is left out: wait = maybe is neither yes nor no"),
        ("wait = no", "[services.it]"),
        ("without wait", "it is left out: it names no wait: xinetd leaves it out, too"),
        ("user = nobody", "user = \"nobody\""),
        ("without user", "it is left out: it names no user: xinetd leaves it out, too"),
        ("User = nobody\nwithout user", "it is left out: it names no user: xinetd leaves it out, too"),
        ("user = nobody\nuser = root", "user = \"nobody\""),
        ("user = nobody\nuser = root", "has no equivalent: x.conf:9: user: the first line counts"),
        ("user = no body", "it is left out: it names no user"),
        ("group = nogroup", "group = \"nogroup\""),
        ("groups = yes", "user = \"root\"\nset-login-environment = \"no\"\nargv0 = \"cat\"\n"),
        ("groups = no", "supplementary-groups = \"none\""),
        ("", "supplementary-groups = \"none\""),
        ("", "argv0 = \"cat\""),
        ("instances = 5", "max-connections = 5\n"),
        ("instances = 5", "when-full = \"reject\""),
        ("instances = UNLIMITED", "has no equivalent: instances = UNLIMITED"),
        ("instances = few", "it is left out: instances = few is neither a number"),
        ("per_source = 3", "max-connections-per-source = 3"),
        ("per_source = UNLIMITED", "[services.it]"),
        ("per_source = few", "it is left out: per_source = few is neither a number"),
        ("nice = 5", "nice = 5"),
        ("server = /bin/tac", "program = [\"/bin/tac\"]"),
        ("without server", "it is left out: it names no server: xinetd leaves it out, too"),
        ("server_args = -u -n", "program = [\"/bin/cat\", \"-u\", \"-n\"]"),
        ("only_from = 10.0.0.0 192.168.1.7", "allow = [\"10.0.0.0/8\", \"192.168.1.7\"]"),
        ("only_from = 0.0.0.0", "allow = [\"0.0.0.0/0\"]"),
        ("only_from =", "deny = [\"any\"]"),
        (
            "only_from 10.0.0.0",
            "it is left out: xinetd leaves it out, too: this line of it is no attribute: only_from 10",
        ),
        (
            "only_from= 10.0.0.0",
            "it is left out: xinetd leaves it out, too: this line of it is no attribute: only_from= 10",
        ),
        (
            "only_from = .Example.com 10.0.0.0",
            "reverse-dns = true\nallow = [\"10.0.0.0/8\", \"=.example.com\"]",
        ),
        ("only_from = .example .com", "reverse-dns = true\nallow = [\"=.com\", \"=.example\"]"),
        ("only_from = no-such-host.invalid", "has no equivalent: only_from: no-such-host.invalid"),
        ("only_from = no-such-host.invalid", "deny = [\"any\"]"),
        ("only_from = gate", "reverse-dns = true\nallow = [\"=gate\"]"),
        ("no_access = 10.0.0.0", "deny = [\"10.0.0.0/8\"]"),
        ("no_access = gate", "deny = [\"192.0.2.9\", \"=gate\"]"),
        ("no_access = gate", "reverse-dns = true"),
        ("no_access = no-such-host.invalid", "it is left out: no_access = no-such-host.invalid is neither"),
        ("only_from = 10.0.0.0\nno_access = 10.0.0.0", "deny = [\"10.0.0.0/8\", \"any\"]"),
        ("access_times = 8:00-17:00 20:00-23:59", "access-times = [\"08:00-17:00\", \"20:00-23:59\"]"),
        ("log_type = SYSLOG daemon info", "has no equivalent: log_type = SYSLOG daemon info"),
        ("log_on_success = PID HOST DURATION", "[services.it]"),
        ("log_on_success += USERID", "has no equivalent: log_on_success: USERID"),
        ("log_on_failure = HOST USERID", "has no equivalent: log_on_failure: USERID"),
        ("env = A=1 B=two", "env = [\"A=1\", \"B=two\"]"),
        ("passenv = PATH\nenv = A=1", "env = [\"PATH\", \"A=1\"]"),
        ("passenv =", "clear-env = true"),
        ("", "stderr = \"client\"\nremote-host = true\ncwd = \"/\"\nclient-gone = \"leave\"\n"),
        ("port = 8002", "listen = [\"8002\"]"),
        ("port = nowhere", "does not accept port = nowhere"),
        ("port = http", "does not accept port = http"),
        ("port = 70000", "does not accept port = 70000"),
        ("redirect = 192.0.2.1 80", "\"client\", \"--wait\", \"1h\", \"192.0.2.1:80\"]"),
        ("bind = 127.0.0.1", "listen = [\"127.0.0.1:8001\"]"),
        ("interface = ::1", "listen = [\"[::1]:8001\"]"),
        ("interface = ::1\nbind = ::2", "listen = [\"[::1]:8001\"]"),
        ("banner = /banner", "banner-file = [\"/banner\"]\n"),
        ("banner = /banner", "program = [\"/bin/cat\"]\n"),
        ("banner = /banner", "has no equivalent: banner: a client that is denied does not get it"),
        ("banner = /b", "has no equivalent: banner = /b: "),
        ("banner_success = /b", "has no equivalent: banner_success = /b: "),
        ("banner_success = /banner", "banner-file = [\"/banner\"]\n"),
        ("banner_success = /banner\nbanner = /latin-1", "banner-file = [\"/latin-1\", \"/banner\"]\n"),
        (
            "banner = /banner\nflags = NAMEINARGS\nserver_args = kitty -u",
            "program = [\"/bin/cat\", \"-u\"]\n",
        ),
        ("banner = /banner\nflags = NAMEINARGS\nserver_args = kitty -u", "argv0 = \"kitty\"\n"),
        ("banner_fail = /banner", "when-full = 'reject=go\\t\\\\away\\r\\n'"),
        ("banner_fail = /banner", "when-limited = 'reject=go\\t\\\\away\\r\\n'"),
        ("banner_fail = /nowhere", "has no equivalent: banner_fail = /nowhere"),
        ("cps = 25 30", "rate-per-source = \"25/s\""),
        ("cps = 25 30", "has no equivalent: cps = 25 30: the rate of all clients together"),
        ("cps = many 30", "does not accept cps = many 30"),
        ("cps = 30 many", "does not accept cps = 30 many"),
        ("leaky_bucket = 1 2 3 4", "has no equivalent: leaky_bucket = 1 2 3 4"),
        ("max_load = 2.5", "it is left out: max_load = 2.5: clients are not rejected while"),
        ("umask = 022", "umask = \"022\""),
        ("umask = rw", "it is left out: "),
        ("rlimit_as = 20M", "limit-as = \"20M\""),
        ("rlimit_cpu = 20", "limit-cpu = 20"),
        ("rlimit_data = UNLIMITED", "limit-data = \"infinity\""),
        ("rlimit_rss = 20K", "limit-rss = \"20K\""),
        ("rlimit_stack = 8M", "limit-stack = \"8M\""),
        ("rlimit_files = 64", "limit-nofile = 64"),
        ("rlimit_files = some", "it is left out: "),
        ("deny_time = 60", "has no equivalent: deny_time = 60"),
        ("libwrap = catd", "[services.it]"),
        ("v6only = yes", "bind-ipv6-only = \"ipv6-only\""),
        ("v6only = yes", "listen = [\"8001\"]"),
        ("v6only = no", "bind-ipv6-only = \"ipv6-only\""),
        ("v6only = no", "has no equivalent: v6only = no: in a service, xinetd takes it as"),
        ("v6only = maybe", "does not accept v6only = maybe"),
        ("mdns = yes", "has no equivalent: mdns = yes"),
        ("rpc_version = 1-2", "has no equivalent: rpc_version = 1-2"),
        ("rpc_number = 100300", "has no equivalent: rpc_number = 100300"),
        ("enabled = it", "has no equivalent: x.conf:9: enabled: xinetd ignores it there"),
        ("disabled = it", "has no equivalent: x.conf:9: disabled: xinetd ignores it there"),
        ("colour = blue", "has no equivalent: x.conf:9: colour: xinetd knows no attribute of this name"),
        ("what is this", "it is left out: xinetd leaves it out, too: this line of it is no attribute: what"),
    ];
    for (lines, said) in rows {
        let toml = imported(lines);
        assert!(toml.contains(said), "{lines}:\n{toml}");
        if !toml.contains("is left out:") {
            Config::parse(&toml, Path::new("tine.toml")).expect(lines);
        }
    }
    let page = include_str!("../../../../../docs/compatibility.md");
    for (name, ..) in attributes::TABLE {
        assert!(page.contains(&format!("`{name}`")) || name == "flags", "no {name} in the documentation");
        let has = |lines: &str| lines.lines().any(|line| line.starts_with(&format!("{name} ")));
        assert!(rows.iter().any(|(lines, _)| has(lines)), "no row for {name}");
    }
}

#[test]
fn the_rules_of_tcp_wrappers_are_kept_or_the_service_is_left_out() {
    const RULES: &[(&str, &str)] =
        &[("/etc/hosts.allow", "# none\n"), ("/etc/hosts.deny", "ALL: ALL\n"), ("/usr/sbin/tcpd", "")];
    const NO_TCPD: &[(&str, &str)] = &[("/etc/hosts.deny", "ALL: ALL\n")];
    const COMMENTS: &[(&str, &str)] = &[("/etc/hosts.allow", "# ALL: LOCAL\n"), ("/etc/hosts.deny", "\n")];
    for (files, lines, said) in [
        (RULES, "server_args = -u", "program = [\"/usr/sbin/tcpd\", \"-u\"]"),
        (RULES, "", "argv0 = \"/bin/cat\"\n"),
        (RULES, "flags = NOLIBWRAP", "program = [\"/bin/cat\"]"),
        (RULES, "server = /usr/sbin/tcpd\nserver_args = in.catd\nflags = NAMEINARGS", "argv0 = \"in.catd\""),
        (RULES, "libwrap = catd", "cannot be kept: it has a name of its own"),
        (RULES, "banner_success = /usr/sbin/tcpd", "banner_success: a client that tcpd denies gets it, too"),
        (RULES, "banner_success = /usr/sbin/tcpd", "program = [\"/usr/sbin/tcpd\"]"),
        (RULES, "flags = NAMEINARGS\nserver_args = kitty", "cannot be kept: its program has another name"),
        (RULES, "redirect = 192.0.2.1 80", "cannot be kept: it redirects"),
        (NO_TCPD, "", "cannot be kept: there is no /usr/sbin/tcpd"),
        (COMMENTS, "", "program = [\"/bin/cat\"]"),
    ] {
        let toml = imported_among(files, lines);
        assert!(toml.contains(said), "{lines}:\n{toml}");
    }
}

#[test]
fn nothing_is_served_with_defaults_that_xinetd_refuses() {
    for (line, why) in [
        ("only_from 10.0.0.0", "xinetd does not start: this line of the defaults is no attribute"),
        ("cps = 1 many", "the defaults: xinetd leaves it out, too: it does not accept cps = 1 many"),
    ] {
        let text =
            format!("defaults\n{{\n{line}\n}}\nservice it\n{{\n{}\ncps = 1 2\n}}\n", NECESSARY.join("\n"));
        let toml = import(&text, Path::new("x.conf"), &Some(&[]), false).to_string();
        assert!(toml.contains(&format!("it is left out: {why}")), "{line}:\n{toml}");
    }
}

#[test]
fn v6only_of_the_defaults_is_no_if_it_says_so() {
    for (value, serves_ipv4) in [("no", true), ("yes", false)] {
        let text =
            format!("defaults\n{{\nv6only = {value}\n}}\nservice it\n{{\n{}\n}}\n", NECESSARY.join("\n"));
        let toml = import(&text, Path::new("x.conf"), &Some(&[]), false).to_string();
        assert_eq!(!toml.contains("bind-ipv6-only"), serves_ipv4, "{toml}");
    }
}

#[test]
fn a_listener_of_both_families_has_its_port_alone() {
    let service =
        |name: &str, flags: &str| format!("service {name}\n{{\n{}\n{flags}\n}}\n", NECESSARY.join("\n"));
    for (one, other, serves_both) in [
        ("", "flags = IPv4", false),
        ("flags = IPv4", "", false),
        ("", "bind = 127.0.0.1", false),
        ("flags = IPv4", "v6only = yes", true),
    ] {
        let text = service("one", one) + &service("other", other);
        let import = import(&text, Path::new("x.conf"), &Some(&[]), false);
        assert_eq!(import.counts().0, 1 + usize::from(serves_both), "{one}, {other}:\n{import}");
    }
}

#[test]
fn files_include_others_and_defaults_hold_for_all() {
    let files = Some(&[
        (
            "/etc/x.d/b",
            "service b\n{\n type = UNLISTED\n socket_type = stream\n wait = no\n user = root\n port = 8002\n server = /bin/cat\n only_from += 10.0.0.1\n}\n",
        ),
        ("/etc/x.d/a", "service a\n{\n port = 8001\n server = /bin/cat\n}\n"),
        ("/etc/x.d/a.bak", "service c\n{\n port = 8003\n server = /bin/cat\n}\n"),
        ("/etc/x.d/a~", "service d\n{\n port = 8004\n server = /bin/cat\n}\n"),
        ("/etc/more", "service e\n{\n port = 8005\n server = /bin/cat\n"),
        ("/etc/loop", "include /etc/loop\n"),
    ]);
    let text = "defaults\n{\n only_from = 127.0.0.1\n disabled = a\n instances = 7\n}\nincludedir x.d\ninclude more\ninclude /etc/gone\ninclude loop\n";
    let import = import(text, Path::new("/etc/xinetd.conf"), &files, false);
    assert_eq!(import.counts().0, 1);
    let said = import.to_string();
    for part in [
        "a is left out: it is disabled",
        "[services.b]",
        "allow = [\"10.0.0.1\", \"127.0.0.1\"]",
        "max-connections = 7",
        "/etc/more:1: this section does not end, and is left out",
        "/etc/xinetd.conf:9: cannot read /etc/gone: ",
        "files include each other",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
    assert!(!said.contains("services.c") && !said.contains("services.d"), "{said}");
    Config::parse(&said, Path::new("tine.toml")).expect("a configuration");
}
