//! Any text as a configuration of xinetd, inetd or nsjail, as units of systemd, as a run script, or
//! as variables of a jail's image: never a panic, and the result can be parsed as a configuration.

#![no_main]

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use tine_cli::config::Config;
use tine_cli::import::{World, inetd, nsjail, redpwn, run, systemd, xinetd};

/// A machine with one known host and port, one known file, and this text as a service unit.
struct SmallWorld<'a>(&'a str);

/// A socket unit whose service is the text.
const SOCKET: &str = "[Socket]\nListenStream=9\nAccept=yes\n";

/// The begin of a run script.
const RUN: &str = "#!/bin/sh\nexec tcpserver ";

/// A server of nsjail, so that a text is a part of one, too.
const NSJAIL: &str = "mode: LISTEN port: 9 exec_bin { path: '/bin/cat' }\n";

impl World for SmallWorld<'_> {
    fn read(&self, file: &Path) -> io::Result<String> {
        if file.extension().is_some_and(|extension| extension == "service") {
            Ok(format!("[Service]\nStandardInput=socket\nExecStart=/bin/cat\n{}", self.0))
        } else if file.ends_with("more") {
            Ok("service s\n{\nport = 5\nserver = /bin/cat\n}\n".into())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn list(&self, _folder: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(vec!["more".into(), "other".into()])
    }

    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        if host == "gate" { vec![[192, 0, 2, 9].into()] } else { Vec::new() }
    }

    fn port(&self, name: &str) -> Option<u16> {
        (name == "echo").then_some(7)
    }
}

fuzz_target!(|text: &str| {
    for all in [false, true] {
        for import in [
            xinetd::import(text, Path::new("xinetd.conf"), &SmallWorld(text), all),
            inetd::import(text, "inetd.conf", &SmallWorld(text), all),
            systemd::import(SOCKET, Path::new("a.socket"), &SmallWorld(text)),
            systemd::import(&format!("{SOCKET}{text}"), Path::new("a.socket"), &SmallWorld("")),
            run::import(text, Path::new("web/run"), &SmallWorld(text)),
            run::import(&format!("{RUN}{text}"), Path::new("web/run"), &SmallWorld(text)),
            nsjail::import(text, Path::new("game.cfg")),
            nsjail::import(&format!("{NSJAIL}{text}"), Path::new("game.cfg")),
            redpwn::import(text, Path::new("game/Dockerfile")),
            redpwn::import(&format!("FROM x\n{text}"), Path::new("game/Dockerfile")),
        ] {
            let toml = import.to_string();
            match (Config::parse(&toml, Path::new("tine.toml")), import.counts().0) {
                (Ok(config), served) => assert_eq!(config.services.len(), served),
                (Err(error), 0) => assert!(error.to_string().contains("no service"), "{error}\n{toml}"),
                (Err(error), _) => panic!("{error}\n{toml}"),
            }
        }
    }
});
