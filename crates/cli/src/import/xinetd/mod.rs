//! `xinetd.conf`, as xinetd.conf(5) describes it.

mod access;
mod attributes;
mod entry;
mod map;
mod refuse;

use std::path::Path;
use std::rc::Rc;

use super::{ImportedFile, ImportedItem, World};
use crate::config::Position;
use attributes::Effective;
use entry::{XinetdLine, XinetdSection};

/// The maximum depth of files that include files.
const DEEPEST: usize = 8;

/// Imports the text of a file and the files that it includes; with `all`, disabled services, too.
pub fn import(text: &str, file: &Path, world: &dyn World, all: bool) -> ImportedFile {
    let mut reader = Reader { world, sections: Vec::new(), import: ImportedFile::default() };
    reader.read(text, file, 0);
    let Reader { sections, mut import, .. } = reader;
    // xinetd reads the first defaults only.
    let mut all_defaults = sections.iter().filter(|section| section.service.is_none());
    let defaults = all_defaults.next();
    import.notes.extend(defaults.into_iter().flat_map(attributes::ignored_defaults));
    let others =
        all_defaults.map(|other| format!("{}: xinetd reads the first defaults only", other.position));
    import.notes.extend(others);
    import.notes.extend(defaults.and_then(|section| {
        let line = section.fault.as_ref()?;
        Some(format!("{}: this line of the defaults is no attribute: {line}", section.position))
    }));
    for section in sections.iter().filter(|section| section.service.is_some()) {
        let effective = Effective::of(section, defaults);
        let name = section.service.clone().unwrap_or_default();
        import.items.push(match map::service(&name, section, &effective, all, world) {
            Ok(service) => ImportedItem::Served(service),
            Err(why) => ImportedItem::Left(section.position.clone(), name, why),
        });
    }
    import.finish()
}

struct Reader<'a> {
    world: &'a dyn World,
    sections: Vec<XinetdSection>,
    import: ImportedFile,
}

impl Reader<'_> {
    fn read(&mut self, text: &str, file: &Path, depth: usize) {
        let mut open: Option<XinetdSection> = None;
        for (number, line) in text.lines().enumerate() {
            let position = Position::new(Rc::from(file), number + 1);
            match (entry::line(line), &mut open) {
                (XinetdLine::Nothing, _) => {}
                (XinetdLine::Begin(service), None) => open = Some(XinetdSection::new(service, position)),
                (XinetdLine::Brace, Some(section)) if !section.is_open => section.is_open = true,
                (XinetdLine::End, Some(_)) => self.sections.extend(open.take()),
                (XinetdLine::Attribute(attribute), Some(section)) if section.is_open => {
                    section.attributes.push((position, attribute));
                }
                (XinetdLine::Include(path), None) => self.include(&position, file, &path, false, depth),
                (XinetdLine::IncludeFolder(path), None) => self.include(&position, file, &path, true, depth),
                (_, Some(section)) => {
                    section.fault.get_or_insert_with(|| line.trim().to_owned());
                }
                _ => self.fault(&position, line),
            }
        }
        if let Some(section) = open {
            self.import
                .notes
                .push(format!("{}: this section does not end, and is left out", section.position));
        }
    }

    fn fault(&mut self, position: &Position, line: &str) {
        self.import.notes.push(format!("{position}: this is not understood, and left out: {}", line.trim()));
    }

    fn include(&mut self, position: &Position, from: &Path, path: &str, is_folder: bool, depth: usize) {
        let path = from.parent().unwrap_or(Path::new("")).join(path);
        if depth >= DEEPEST {
            return self.import.notes.push(format!("{position}: files include each other, {DEEPEST} deep"));
        }
        let all = if is_folder { self.world.list(&path) } else { Ok(vec![path.clone()]) };
        let all = all.unwrap_or_else(|why| {
            let note = format!("{position}: cannot list {}: {}", path.display(), tine::cli::reason(&why));
            self.import.notes.push(note);
            Vec::new()
        });
        for file in all {
            // Names with a dot, or with a tilde at the end, are no configurations.
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if is_folder && (name.contains('.') || name.ends_with('~')) {
                continue;
            }
            match self.world.read(&file) {
                Ok(text) => self.read(&text, &file, depth + 1),
                Err(why) => self.import.notes.push(format!(
                    "{position}: cannot read {}: {}",
                    file.display(),
                    tine::cli::reason(&why)
                )),
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
            if host == "gate" { vec![[192, 0, 2, 9].into()] } else { Vec::new() }
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
            ("flags = NAMEINARGS\nserver_args = kitty -u", "program = [\"/bin/cat\", \"-u\"]\n"),
            ("flags = NAMEINARGS\nserver_args = kitty -u", "argv0 = \"kitty\""),
            ("flags = NAMEINARGS", "it is left out: it has NAMEINARGS and no server_args"),
            ("flags = INTERCEPT", "has no equivalent: flags: INTERCEPT, which xinetd ignores"),
            ("flags = IDONLY", "has no equivalent: flags: IDONLY, which has no effect"),
            ("flags = IDONLY\nlog_on_failure = USERID", "it is left out: flags = IDONLY"),
            ("flags = SENSOR", "it is left out: flags = SENSOR"),
            ("flags = LABELED", "it is left out: flags = LABELED"),
            ("flags = DISABLE", "it is left out: it is disabled"),
            ("flags = NEW", "has no equivalent: flags: NEW"),
            (
                "flags = IPv4\nflags += NODELAY",
                "has no equivalent: x.conf:10: flags: xinetd ignores it, as it",
            ),
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
            ("only_from = gate", "allow = [\"192.0.2.9\"]"),
            ("only_from = gate", "has no equivalent: only_from: gate is looked up once, here"),
            ("no_access = 10.0.0.0", "deny = [\"10.0.0.0/8\"]"),
            ("no_access = gate", "deny = [\"192.0.2.9\", \"=gate\"]"),
            ("no_access = gate", "reverse-dns = true"),
            (
                "no_access = no-such-host.invalid",
                "it is left out: no_access = no-such-host.invalid is neither",
            ),
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
            ("port = nowhere", "it is left out: there is no port of the name nowhere"),
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
            ("cps = many 30", "it is left out: cps = many is no number"),
            ("leaky_bucket = 1 2 3 4", "has no equivalent: leaky_bucket = 1 2 3 4"),
            ("max_load = 2.5", "has no equivalent: max_load = 2.5"),
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
            ("v6only = no", "[services.it]"),
            ("mdns = yes", "has no equivalent: mdns = yes"),
            ("rpc_version = 1-2", "has no equivalent: rpc_version = 1-2"),
            ("rpc_number = 100300", "has no equivalent: rpc_number = 100300"),
            ("enabled = it", "has no equivalent: x.conf:9: enabled: xinetd ignores it there"),
            ("disabled = it", "has no equivalent: x.conf:9: disabled: xinetd ignores it there"),
            ("colour = blue", "has no equivalent: x.conf:9: colour: xinetd knows no attribute of this name"),
            (
                "what is this",
                "it is left out: xinetd leaves it out, too: this line of it is no attribute: what",
            ),
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
        const COMMENTS: &[(&str, &str)] =
            &[("/etc/hosts.allow", "# ALL: LOCAL\n"), ("/etc/hosts.deny", "\n")];
        for (files, lines, said) in [
            (RULES, "server_args = -u", "program = [\"/usr/sbin/tcpd\", \"-u\"]"),
            (RULES, "", "argv0 = \"/bin/cat\"\n"),
            (RULES, "flags = NOLIBWRAP", "program = [\"/bin/cat\"]"),
            (
                RULES,
                "server = /usr/sbin/tcpd\nserver_args = in.catd\nflags = NAMEINARGS",
                "argv0 = \"in.catd\"",
            ),
            (RULES, "libwrap = catd", "cannot be kept: it has a name of its own"),
            (
                RULES,
                "banner_success = /usr/sbin/tcpd",
                "banner_success: a client that tcpd denies gets it, too",
            ),
            (RULES, "banner_success = /usr/sbin/tcpd", "program = [\"/usr/sbin/tcpd\"]"),
            (
                RULES,
                "flags = NAMEINARGS\nserver_args = kitty",
                "cannot be kept: its program has another name",
            ),
            (RULES, "redirect = 192.0.2.1 80", "cannot be kept: it redirects"),
            (NO_TCPD, "", "cannot be kept: there is no /usr/sbin/tcpd"),
            (COMMENTS, "", "program = [\"/bin/cat\"]"),
        ] {
            let toml = imported_among(files, lines);
            assert!(toml.contains(said), "{lines}:\n{toml}");
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
}
