//! The services that run scripts become.

use super::*;
use crate::config::Config;
use crate::import::folder::Folder;

const FILES: Folder<'_> =
    Folder(&[("/service/web/env/LANG", "C\n"), ("/service/web/env/GONE", ""), ("/etc/tcp.smtp", ":allow")]);

fn imported(text: &str) -> String {
    import(text, Path::new("/service/web/run"), &FILES).to_string()
}

/// Scripts, and lines of the configuration that each becomes.
const SCRIPTS: &[(&str, &[&str])] = &[
    (
        "#!/bin/sh\nexec 2>&1\nexec softlimit -m 3000000 tcpserver -v -R -H -l0 -c 5 -u 1000 -g 100 0 25 /bin/cat -u\n",
        &[
            "[services.web]",
            "listen = [\"0.0.0.0:25\"]",
            "program = [\"/bin/cat\", \"-u\"]",
            "cwd = \"/service/web\"",
            "limit-as = 3000000",
            "max-connections = 5",
            "backlog = 20",
            "user = 1000",
            "group = 100",
            "stderr = \"server\"",
            "client-gone = \"leave\"",
        ],
    ),
    (
        "#!/bin/sh\nHOST=127.0.0.1\nPORT=53; export PORT\nexec envuidgid nobody envdir ./env tcpserver -c 4 -URHl0 -x /etc/tcp.smtp.cdb $HOST ${PORT} cat 2>&1\n",
        &[
            "listen = [\"127.0.0.1:53\"]",
            "user = \"nobody\"",
            "supplementary-groups = \"none\"",
            "rules = [\"/etc/tcp.smtp\"]",
            "env = [\"PORT=53\", \"LANG=C\"]",
            "unset-env = [\"GONE\"]",
        ],
    ),
    (
        "#!/command/execlineb -P\nfdmove -c 2 1\ns6-softlimit -o 64\ns6-tcpserver4 -c 9 -C 2 -- 127.0.0.1 80\ns6-tcpserver-access -H\ns6-setuidgid nobody\ncat \"a b\"\n",
        &[
            "listen = [\"127.0.0.1:80\"]",
            "limit-nofile = 64",
            "max-connections = 9",
            "max-connections-per-source = 2",
            "user = \"nobody\"",
            "program = [\"cat\", \"a b\"]",
        ],
    ),
    (
        "#!/bin/execlineb -P\ns6-ipcserver -a 0600 -- /run/web cat\n",
        &["listen = [\"unix:/run/web\"]", "socket-mode = \"0600\""],
    ),
    (
        "#!/bin/sh\ncd srv\ncd www\numask 027\nexec nice -n 5 tcpserver -RHl0 ::1 7 argv0 cat me",
        &[
            "listen = [\"[::1]:7\"]",
            "cwd = \"/service/web/srv/www\"",
            "umask = \"027\"",
            "nice = 5",
            "argv0 = \"me\"",
        ],
    ),
];

#[test]
fn scripts_become_services() {
    for (text, expected) in SCRIPTS {
        let toml = imported(text);
        for line in *expected {
            assert!(toml.contains(line), "{line}: {toml}");
        }
        Config::parse(&toml, Path::new("tine.toml")).expect(&toml);
    }
}

#[test]
fn what_is_not_understood_is_left_out_with_a_reason() {
    for (text, why) in [
        ("#!/bin/sh\nexec /usr/sbin/sshd -D\n", "none of tcpserver"),
        ("#!/bin/sh\nmkdir /run/x\nexec tcpserver 0 25 cat\n", "line 2 runs mkdir"),
        ("#!/bin/sh\nexec tcpserver 0 $PORT cat\n", "uses $PORT"),
        ("#!/bin/sh\nexec tcpserver -z 0 25 cat\n", "would not accept"),
        ("#!/bin/sh\nexec tcpserver 0 25\n", "would not accept"),
        ("#!/bin/sh\nexec tcpserver -x /other.cdb 0 25 cat\n", "name the text"),
        ("#!/bin/sh\nexec tcpserver -B hello 0 25 cat\n", "banner"),
        ("#!/bin/sh\nexec tcpserver -U 0 25 cat\n", "does not set"),
        ("#!/bin/sh\nexec tcpserver 0 25 cat > /dev/null\n", "redirects"),
        ("#!/bin/sh\nexec softlimit -q 1 tcpserver 0 25 cat\n", "the limit -q"),
        ("#!/bin/sh\nif true; then exec a; fi\n", "line 2 runs if"),
        (
            "#!/bin/execlineb\ns6-tcpserver 0.0.0.0 80 s6-tcpserver-access -i /rules cat\n",
            "its rules are in /rules",
        ),
        ("#!/bin/sh\nexec tcpserver -p 0 25 cat\n", "distrusts"),
        ("#!/bin/sh\nexec envuidgid nobody tcpserver 0 25 cat\n", "UID and GID"),
        ("#!/bin/sh\nexec argv0 tcpserver other 0 25 cat\n", "argv0"),
        ("#!/bin/execlineb\ns6-tcpserver -G 3,4 0.0.0.0 80 cat\n", "-G"),
        ("#!/bin/sh\n", "no command"),
    ] {
        let toml = imported(text);
        let is_left = toml.contains("web is left out: ");
        assert!(is_left && toml.contains(why), "{why}: {toml}");
    }
}
