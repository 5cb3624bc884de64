//! The services that socket units become.

use super::*;
use crate::config::Config;
use crate::import::folder::Folder;

const SOCKET: &str = "[Socket]\nListenStream=8001\nAccept=yes\n";
const SERVICE: &str = "[Service]\nExecStart=/bin/cat -u\nStandardInput=socket\nStandardOutput=socket\n";

/// The configuration of a socket unit and a service with these lines more.
fn imported(socket: &str, service: &str) -> String {
    let (socket, service) = (format!("{SOCKET}{socket}"), format!("{SERVICE}{service}"));
    import(
        &socket,
        Path::new("/u/web.socket"),
        &Folder(&[
            ("/u/web@.service", &service),
            ("/u/more", "# options\nA='b  c'\nOPTS=-x -y\nB = 2\n"),
            ("/u/odd", "A=1\nB='a'b\n"),
        ]),
    )
    .to_string()
}

#[test]
fn a_unit_becomes_a_service() {
    let text = imported("", "");
    assert_eq!(
        text,
        "\n# /u/web.socket:1\n[services.web]\nlisten = [\"8001\"]\nprogram = [\"/bin/cat\", \"-u\"]\n\
         max-connections = 64\nclear-env = true\nkill-mode = \"all\"\ncwd = \"/\"\numask = \"0022\"\n\
         env = [\"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\"]\n\
         stderr = \"client\"\n"
    );
    Config::parse(&text, Path::new("tine.toml")).expect("a configuration");
}

#[test]
fn lines_of_the_socket() {
    for (line, expected) in [
        ("ListenStream=127.0.0.1:80", "listen = [\"8001\", \"127.0.0.1:80\"]"),
        ("ListenStream=[::1]:80", "\"[::1]:80\""),
        ("ListenStream=/run/web", "\"unix:/run/web\""),
        ("ListenStream=@web", "\"unix:@web\""),
        ("ListenStream=vsock::99", "\"vsock:99\""),
        ("ListenStream=vsock:2:99", "\"vsock:2:99\""),
        ("ListenStream=\nListenStream=9", "listen = [\"9\"]"),
        ("BindIPv6Only=ipv6-only", "bind-ipv6-only = \"ipv6-only\""),
        ("Backlog=99", "backlog = 99"),
        ("MaxConnections=7", "max-connections = 7"),
        ("MaxConnectionsPerSource=3", "max-connections-per-source = 3"),
        ("KeepAliveTimeSec=1min 30s", "keep-alive-time = \"90000ms\""),
        ("KeepAliveProbes=3", "keep-alive-probes = 3"),
        ("DeferAcceptSec=5", "defer-accept = \"5000ms\""),
        ("ReceiveBuffer=64K", "receive-buffer = \"64K\""),
        ("FreeBind=true", "free-bind = true"),
        ("SocketMode=0600", "socket-mode = \"0600\""),
        ("TriggerLimitBurst=9", "# TriggerLimitBurst: tine does not stop"),
        ("Symlinks=/x", "# Symlinks=/x"),
    ] {
        let text = imported(&format!("{line}\n"), "");
        let text = text.replace("#   has no equivalent: ", "# ");
        assert!(text.contains(expected), "{line}: {text}");
        Config::parse(&text, Path::new("tine.toml")).expect(line);
    }
}

#[test]
fn lines_of_the_service() {
    for (line, expected) in [
        (
            "ExecStart=\nExecStart=-/bin/echo 'a b' 100%% %p",
            "program = [\"/bin/echo\", \"a b\", \"100%\", \"web\"]",
        ),
        ("ExecStart=\nExecStart=@/bin/echo name x", "argv0 = \"name\""),
        ("ExecStart=\nExecStart=/bin/echo $$HOME", "\"$HOME\""),
        ("User=nobody\nGroup=nogroup", "group = \"nogroup\""),
        ("SupplementaryGroups=a b", "supplementary-groups = \"a,b\""),
        ("WorkingDirectory=-/tmp", "cwd = \"/tmp\""),
        ("UMask=0077", "umask = \"0077\""),
        ("Environment=A=1 \"B=x y\"\nEnvironment=C=%p", ", \"A=1\", \"B=x y\", \"C=web\"]"),
        ("EnvironmentFile=-/none\nExecStart=\nExecStart=/bin/a $X ${X}", "program = [\"/bin/a\", \"\"]"),
        (
            "Environment=A=1 C=3\nEnvironmentFile=/u/more\nExecStart=\nExecStart=/bin/a $OPTS a${A}$C ${OPTS}",
            "program = [\"/bin/a\", \"-x\", \"-y\", \"ab  c$C\", \"-x -y\"]",
        ),
        ("Environment=A=1 C=3\nEnvironmentFile=/u/more", ", \"C=3\", \"A=b  c\", \"OPTS=-x -y\", \"B=2\"]"),
        ("Environment=PATH=/bin", "env = [\"PATH=/bin\"]"),
        ("RuntimeMaxSec=1h", "max-lifetime = \"3600000ms\""),
        ("KillMode=process", "kill-mode = \"process\""),
        ("LimitNOFILE=64:128", "limit-nofile = \"64:128\""),
        ("StandardError=journal", "stderr = \"log\""),
        ("StandardError=null", "stderr = \"null\""),
        ("MemoryMax=1G", "# MemoryMax=1G"),
        ("PrivateTmp=no", "stderr = \"client\""),
        ("NoNewPrivileges=yes", "no-new-privileges = \"yes\""),
        ("RestrictNamespaces=true", "restrict-namespaces = \"yes\""),
        ("RestrictRealtime=no", "stderr = \"client\""),
        ("ProtectSystem=strict", "protect-system = \"strict\""),
        ("RestrictAddressFamilies=~AF_PACKET AF_NETLINK", "= \"~AF_PACKET ~AF_NETLINK\""),
        ("SystemCallFilter=~@mount @swap", "system-call-filter = [\"~@mount ~@swap\"]"),
        ("SystemCallFilter=@system-service", "system-call-filter = [\"@system-service\"]"),
        ("SystemCallErrorNumber=EPERM", "system-call-error-number = \"EPERM\""),
        ("CapabilityBoundingSet=", "capability-bounding-set = \"none\""),
        ("CapabilityBoundingSet=CAP_CHOWN", "capability-bounding-set = \"CAP_CHOWN\""),
        ("InaccessiblePaths=/home /root", "inaccessible-paths = [\"/home\", \"/root\"]"),
        ("Restart=no", "stderr = \"client\""),
    ] {
        let text = imported("", &format!("{line}\n"));
        let text = text.replace("#   has no equivalent: ", "# ");
        assert!(text.contains(expected), "{line}: {text}");
        Config::parse(&text, Path::new("tine.toml")).expect(line);
    }
}

#[test]
fn what_tine_cannot_do_is_left_out_with_a_reason() {
    for (socket, service, why) in [
        ("Accept=no", "", "accepts for itself"),
        ("ListenStream=", "", "listens on no stream"),
        ("ListenDatagram=53", "", "serves streams"),
        ("IPAddressDeny=any", "", "write `allow` and `deny`"),
        ("ListenStream=%i", "", "has a specifier"),
        ("KeepAliveTimeSec=soon", "", "soon is no time"),
        ("", "StandardInput=null", "descriptor 3"),
        ("", "StandardOutput=file:/x", "goes elsewhere"),
        ("", "ExecStart=/bin/a", "2 lines ExecStart="),
        ("", "ExecStart=\nExecStart=+/bin/a", "a prefix"),
        ("", "ExecStart=\nExecStart=/bin/a $HOME", "uses HOME, which systemd sets"),
        ("", "ExecStart=\nExecStart=/bin/a %i", "%i"),
        ("", "ExecStart=\nExecStart=/bin/a \"b", "a quote is not closed"),
        ("", "ExecStart=\nExecStart=/bin/a ; /bin/b", "several commands"),
        ("", "ExecStartPre=/bin/a", "a command for each connection"),
        ("", "ProtectSystem=full", "ProtectSystem=full confines it"),
        ("", "PrivateTmp=yes", "PrivateTmp=yes confines it"),
        ("", "RestrictNamespaces=user", "RestrictNamespaces=user confines it"),
        ("", "CapabilityBoundingSet=~CAP_CHOWN", "CapabilityBoundingSet=~CAP_CHOWN confines it"),
        ("", "SystemCallFilter=@mount:ENOSYS", "SystemCallFilter=@mount:ENOSYS confines it"),
        ("", "SystemCallFilter=@a\nSystemCallFilter=@b", "several lines SystemCallFilter="),
        ("", "ReadWritePaths=-/srv", "ReadWritePaths=-/srv confines it"),
        ("", "PAMName=login", "PAMName=login confines it"),
        ("", "EnvironmentFile=/etc/x", "cannot be read"),
        ("", "EnvironmentFile=/u/odd", "/u/odd:2 is no plain NAME=VALUE"),
        ("", "LimitFUTURE=1", "no limit that tine knows"),
        ("", "KillMode=later", "is unknown"),
        ("", "User=no such user\nUMask=x", "umask"),
    ] {
        let text = imported(&format!("{socket}\n"), &format!("{service}\n"));
        assert!(text.contains("web is left out: ") && text.contains(why), "{socket}{service}: {text}");
    }
    let alone = import(SOCKET, Path::new("/u/web.socket"), &Folder(&[])).to_string();
    assert!(alone.contains("/u/web@.service cannot be read"), "{alone}");
}

#[test]
fn drop_ins_come_last() {
    let files = [
        ("/u/web@.service", SERVICE),
        ("/u/web@.service.d/10-user.conf", "[Service]\nUser=nobody\n"),
        ("/u/web@.service.d/readme", "[Service]\nUser=other\n"),
        ("/u/web.socket.d/20.conf", "[Socket]\nListenStream=\nListenStream=7\n"),
    ];
    let text = import(SOCKET, Path::new("/u/web.socket"), &Folder(&files)).to_string();
    assert!(text.contains("listen = [\"7\"]") && text.contains("user = \"nobody\""), "{text}");
}

#[test]
fn a_socket_of_a_template_starts_the_same_service() {
    let files = [("/u/web@.service", SERVICE)];
    let text = import(SOCKET, Path::new("/u/web@8001.socket"), &Folder(&files)).to_string();
    assert!(text.contains("[services.web]"), "{text}");
}
