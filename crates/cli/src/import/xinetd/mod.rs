//! `xinetd.conf`, as xinetd.conf(5) describes it.

mod entry;
mod map;

use std::path::Path;
use std::rc::Rc;

use super::{ImportedFile, ImportedItem, World};
use crate::config::Position;
use entry::{XinetdLine, XinetdSection};

/// The maximum depth of files that include files.
const DEEPEST: usize = 8;

/// Imports the text of a file and the files that it includes; with `all`, disabled services, too.
pub fn import(text: &str, file: &Path, world: &dyn World, all: bool) -> ImportedFile {
    let mut reader = Reader { world, sections: Vec::new(), import: ImportedFile::default() };
    reader.read(text, file, 0);
    let Reader { sections, mut import, .. } = reader;
    let defaults: Vec<_> = sections.iter().filter(|section| section.service.is_none()).cloned().collect();
    for section in sections.iter().filter(|section| section.service.is_some()) {
        let effective = entry::effective(section, &defaults);
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
        for file in all.unwrap_or_default() {
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

    #[test]
    fn hosts_are_looked_up() {
        let toml = imported("only_from = gate");
        assert!(
            toml.contains("allow = [\"192.0.2.9\"]") && toml.contains("gate is looked up once, here"),
            "{toml}"
        );
    }

    #[test]
    fn what_is_unlisted_names_its_port() {
        let text = "service it\n{\ntype = UNLISTED\nserver = /bin/cat\n}\n";
        let toml = import(text, Path::new("x.conf"), &Some(&[]), false).to_string();
        assert!(toml.contains("it is left out: it is UNLISTED and names no port"), "{toml}");
    }

    fn imported(attributes: &str) -> String {
        let text = format!("service it\n{{\nport = 8001\nserver = /bin/cat\nuser = root\n{attributes}\n}}\n");
        let files = Some(&[("/banner", "go\t\\away\r\n")]);
        import(&text, Path::new("x.conf"), &files, false).to_string()
    }

    #[test]
    fn every_attribute_is_carried_over_or_named() {
        for (attributes, said) in [
            ("id = that", "[services.that]"),
            ("type = UNLISTED", "listen = [\"8001\"]"),
            ("type = RPC", "it is left out: it is of type RPC"),
            ("type = TCPMUX", "it is left out: it is of type TCPMUX"),
            ("type = INTERNAL", "it is left out: it is not built into tine"),
            ("flags = REUSE NODELAY KEEPALIVE NORETRY IPv4", "listen = [\"0.0.0.0:8001\"]"),
            ("flags = IPv6", "listen = [\"[::]:8001\"]"),
            ("flags = NAMEINARGS\nserver_args = kitty -u", "program = [\"/bin/cat\", \"-u\"]\n"),
            ("flags = NAMEINARGS\nserver_args = kitty -u", "argv0 = \"kitty\""),
            ("flags = INTERCEPT", "has no equivalent: flags: INTERCEPT"),
            ("flags = IDONLY", "has no equivalent: flags: IDONLY"),
            ("flags = SENSOR", "has no equivalent: flags: SENSOR"),
            ("flags = LABELED", "has no equivalent: flags: LABELED"),
            ("disable = yes", "it is left out: it is disabled"),
            ("disable = no", "[services.it]"),
            ("socket_type = dgram", "it is left out: its socket_type is dgram"),
            ("socket_type = stream", "[services.it]"),
            ("protocol = udp", "it is left out: its protocol is udp"),
            ("protocol = tcp", "[services.it]"),
            ("wait = yes", "it is left out: its program accepts for itself"),
            ("wait = no", "[services.it]"),
            ("user = nobody", "user = \"nobody\""),
            ("group = nogroup", "group = \"nogroup\""),
            ("groups = yes", "user = \"root\"\nset-login-environment = \"no\"\nargv0 = \"cat\"\n"),
            ("groups = no", "supplementary-groups = \"none\""),
            ("", "supplementary-groups = \"none\""),
            ("", "argv0 = \"cat\""),
            ("instances = 5", "max-connections = 5\n"),
            ("instances = 5", "when-full = \"reject\""),
            ("instances = UNLIMITED", "has no equivalent: instances = UNLIMITED"),
            ("per_source = 3", "max-connections-per-source = 3"),
            ("per_source = UNLIMITED", "[services.it]"),
            ("nice = 5", "nice = 5"),
            ("server_args = -u -n", "program = [\"/bin/cat\", \"-u\", \"-n\"]"),
            ("only_from = 10.0.0.0 192.168.1.7", "allow = [\"10.0.0.0/8\", \"192.168.1.7\"]"),
            ("only_from =", "deny = [\"any\"]"),
            (
                "only_from = .Example.com 10.0.0.0",
                "reverse-dns = true\nallow = [\"10.0.0.0/8\", \"=.example.com\"]",
            ),
            ("type = INTERNAL\nonly_from = .example.com", "it is left out: it is not built into tine"),
            ("only_from = .example .com", "reverse-dns = true\nallow = [\"=.com\", \"=.example\"]"),
            ("only_from = no-such-host.invalid", "has no equivalent: only_from: no-such-host.invalid"),
            ("no_access = 10.0.0.0", "deny = [\"10.0.0.0/8\"]"),
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
            ("redirect = 192.0.2.1 80", "\"client\", \"--wait\", \"1h\", \"192.0.2.1:80\"]"),
            ("bind = 127.0.0.1", "listen = [\"127.0.0.1:8001\"]"),
            ("interface = ::1", "listen = [\"[::1]:8001\"]"),
            ("banner = /b", "cat '/b'; exec \"$0\" \"$@\""),
            ("banner_success = /b", "cat '/b'; exec"),
            ("banner_fail = /banner", "when-full = 'reject=go\\t\\\\away\\r\\n'"),
            ("banner_fail = /nowhere", "has no equivalent: banner_fail = /nowhere"),
            ("cps = 25 30", "has no equivalent: cps = 25 30"),
            ("max_load = 2.5", "has no equivalent: max_load = 2.5"),
            ("umask = 022", "umask = \"022\""),
            ("rlimit_as = 20M", "limit-as = \"20M\""),
            ("rlimit_cpu = 20", "limit-cpu = 20"),
            ("rlimit_data = UNLIMITED", "limit-data = \"infinity\""),
            ("rlimit_rss = 20K", "limit-rss = \"20K\""),
            ("rlimit_stack = 8M", "limit-stack = \"8M\""),
            ("rlimit_files = 64", "limit-nofile = 64"),
            ("deny_time = 60", "has no equivalent: deny_time = 60"),
            ("libwrap = catd", "has no equivalent: libwrap = catd"),
            ("v6only = yes", "bind-ipv6-only = \"ipv6-only\""),
            ("v6only = no", "[services.it]"),
            ("mdns = yes", "has no equivalent: mdns = yes"),
            ("rpc_version = 1-2", "has no equivalent: rpc_version = 1-2"),
            ("rpc_number = 100300", "has no equivalent: rpc_number = 100300"),
            ("colour = blue", "has no equivalent: colour = blue"),
            ("what is this", "this is not understood, and left out: what is this"),
        ] {
            let toml = imported(attributes);
            assert!(toml.contains(said), "{attributes}:\n{toml}");
            if !toml.contains("is left out:") {
                Config::parse(&toml, Path::new("tine.toml")).expect(attributes);
            }
        }
    }

    #[test]
    fn files_include_others_and_defaults_hold_for_all() {
        let files = Some(&[
            ("/etc/x.d/b", "service b\n{\n port = 8002\n server = /bin/cat\n only_from += 10.0.0.1\n}\n"),
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
