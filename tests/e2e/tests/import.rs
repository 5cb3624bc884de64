//! `tine import`: configurations of other super-servers and jails become configurations of tine
//! that pass `tine check` and serve as the originals do.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use tine_e2e::{Client, Folder, Server, ServerCommand, network, run, tine, wait_until};

/// Imports a file, writes the result beside it, and checks it. Returns its path.
fn import(folder: &Folder, kind: &str, name: &str, options: &[&str]) -> String {
    let (code, out, err) = run(Command::new(tine()).args(["import", kind, &folder.path(name)]).args(options));
    assert_eq!(code, 0, "{err}");
    let toml = folder.write("tine.toml", &out).display().to_string();
    let (code, _, errors) = run(Command::new(tine()).args(["check", &toml]));
    assert_eq!(code, 0, "{errors}\n{out}");
    toml
}

fn serve(toml: &str) -> Server {
    let words = ["serve", "--log", "json", "--config", toml, "-1"];
    let mut start = ServerCommand::program(tine(), &words);
    start.command().env("FROM", "defaults");
    start.start()
}

/// Such a file must name its ports. In a network namespace of the test all are free.
const PORTS: [u16; 5] = [8001, 8002, 8003, 8004, 8005];

fn reply_to(source: &str, port: u16) -> String {
    Client::from_source(source, port).read_text()
}

#[test]
fn an_imported_unit_of_systemd_serves_as_systemd_does() {
    network::own();
    let folder = Folder::new("import-systemd");
    folder.write(
        "web.socket",
        &format!(
            "[Unit]\nDescription=a test\n[Socket]\nListenStream=127.0.0.1:{}\nAccept=yes\nMaxConnections=2\nMaxConnectionsPerSource=1\n[Install]\nWantedBy=sockets.target\n",
            PORTS[0]
        ),
    );
    folder.write(
        "web@.service",
        "[Service]\nExecStart=-/bin/sh -c 'id -un; umask; pwd; echo $$0 $$VAR; ulimit -n; cat' \\\n  %p\nUser=nobody\nUMask=0027\nWorkingDirectory=/usr\nEnvironment=\"VAR=a b\"\nLimitNOFILE=77\nStandardInput=socket\nStandardOutput=inherit\nStandardError=journal\n",
    );
    folder.write("web@.service.d/10.conf", "[Service]\nWorkingDirectory=/\n");
    let server = serve(&import(&folder, "systemd", "web.socket", &[]));
    let mut client = Client::from_source("127.0.0.1", server.port());
    client.expect("nobody\n0027\n/\nweb a b\n77\n").send("x").half_close();
    assert_eq!(client.read_to_end(), b"x");
    let mut held = Client::from_source("127.0.0.2", server.port());
    held.expect("nobody\n");
    Client::from_source("127.0.0.2", server.port()).expect_closed();
    // What it cannot do, it leaves out, with the reason.
    folder.write("web@.service.d/20.conf", "[Service]\nPrivateTmp=yes\n");
    let (code, out, err) = run(Command::new(tine()).args(["import", "systemd", &folder.path("web.socket")]));
    assert!(code == 100 && out.contains("PrivateTmp=yes confines it"), "{out}{err}");
}

#[test]
fn an_imported_run_script_serves_as_the_script_does() {
    network::own();
    let folder = Folder::new("import-run");
    folder.write("env/VAR", "a b\n");
    folder.write(
        "run",
        &format!(
            "#!/bin/sh\nexec 2>&1\nPORT={}\ncd env\nexec envdir . softlimit -o 77 tcpserver -vRHl0 -c 1 -u 65534 -g 65534 127.0.0.1 $PORT \\\n  sh -c 'id -un; pwd; echo $VAR; ulimit -n; cat'\n",
            PORTS[0]
        ),
    );
    let server = serve(&import(&folder, "run", "run", &[]));
    let mut client = Client::from_source("127.0.0.1", server.port());
    client.expect(format!("nobody\n{}\na b\n77\n", folder.path("env"))).send("x").half_close();
    assert_eq!(client.read_to_end(), b"x");
    // A script that does more is left out, with the reason.
    folder.write("run", "#!/bin/sh\nmkdir /run/x\nexec tcpserver 0 25 cat\n");
    let (code, out, err) = run(Command::new(tine()).args(["import", "run", &folder.path("run")]));
    assert!(code == 100 && out.contains("line 2 runs mkdir"), "{out}{err}");
}

#[test]
fn an_imported_configuration_of_nsjail_serves_in_a_jail() {
    network::own();
    let folder = Folder::new("import-nsjail");
    let program = folder.write(
        "content/run",
        "#!/bin/sh\nls -d /[a-z]*\necho $0 $1 $VAR; pwd; ulimit -n; ulimit -c; nice; cat /game/flag\n\
         (echo x > /game/flag) 2>&1\nstat -f -c %b*%S /tmp /data; echo x > /data/x && ls /data /data/in; cat\n",
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
    folder.write("content/flag", "the flag\n");
    std::fs::set_permissions(folder.path(""), std::fs::Permissions::from_mode(0o755)).expect("ours");
    folder.write(
        "game.cfg",
        &format!(
            "# a game\nname: \"game\"\nmode: LISTEN\nbindhost: \"127.0.0.1\" port: {}\nmax_conns_per_ip: 1\n\
             iface_no_lo: true\nmount_proc: true\nenvar: 'VAR=a b'\nrlimit_nofile: 77\n\
             mount {{ src: \"{}\" dst: \"/game\" is_bind: true }}\n\
             mount {{ dst: \"/tmp\" fstype: \"tmpfs\" rw: true options: \"size=2m\" }}\n\
             mount {{ dst: \"/data\" fstype: \"tmpfs\" rw: true options: \"size=1m\" }}\n\
             mount {{ src: \"{}\" dst: \"/data/in\" is_bind: true }}\n\
             exec_bin < path: \"/bin/sh\" arg: [\"/game/run\", \"word\"] >\ncwd: '/game'\n",
            PORTS[0],
            folder.path("content"),
            folder.path("content")
        ),
    );
    let server = serve(&import(&folder, "nsjail", "game.cfg", &[]));
    let mut client = Client::from_source("127.0.0.1", server.port());
    client.send("x").half_close();
    let text = client.read_text();
    let (names, rest) = text.split_once("/game/run").expect("the line after the directories");
    assert!(names.contains("/game\n") && names.contains("/usr\n") && !names.contains("/home"), "{names}");
    let expected = " word a b\n/game\n77\n0\n19\nthe flag\n";
    assert!(rest.starts_with(expected) && rest.contains("Read-only file system"), "{text}");
    let memory = "\n512*4096\n256*4096\n/data:\nin\nx\n\n/data/in:\nflag\nrun\n";
    assert!(rest.contains(memory) && rest.ends_with('x'), "{text}");
    let mut held = Client::from_source("127.0.0.2", server.port());
    held.expect("/");
    Client::from_source("127.0.0.2", server.port()).expect_closed();
    // What cannot be read is named with its place.
    folder.write("game.cfg", "mode: LISTEN\nport: 80 80\n");
    let (code, out, err) = run(Command::new(tine()).args(["import", "nsjail", &folder.path("game.cfg")]));
    assert!(code == 100 && out.contains("game.cfg:2:10: the name of a field is missing"), "{out}{err}");
}

#[test]
fn variables_of_a_jail_image_become_a_configuration() {
    let folder = Folder::new("import-redpwn");
    folder.write("game/Dockerfile", "FROM pwn.red/jail\nENV JAIL_TIME=60 \\\n  JAIL_POW=7\n");
    let file = folder.path("game/Dockerfile");
    let (code, out, err) = run(Command::new(tine()).args(["import", "redpwn-jail", &file]));
    assert_eq!(code, 0, "{err}");
    for part in
        ["[services.game]", "max-lifetime = \"60s\"", "tasks-max = 5", "JAIL_POW=7: clients are served"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    // All keys are ones that a server has.
    let program = folder.write("image/app/run", "");
    std::fs::copy(tine(), &program).expect("a static program");
    let image = format!("root-directory = \"{}\"", folder.path("image"));
    let config = folder.write("tine.toml", &out.replace("root-directory = \"/srv\"", &image));
    let (code, out, err) = run(Command::new(tine()).arg("check").arg(&config));
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("jail of game: tasks-max on: 5"), "{out}");
    folder.write("game/Dockerfile", "FROM pwn.red/jail\nENV JAIL_TIME=soon\n");
    let (code, out, _) = run(Command::new(tine()).args(["import", "redpwn-jail", &file]));
    assert!(
        code == 100 && out.contains("Dockerfile:2: game is left out: JAIL_TIME=soon is no number"),
        "{out}"
    );
}

#[test]
fn an_imported_xinetd_configuration_serves_as_xinetd_does() {
    network::own();
    let folder = Folder::new("import-xinetd");
    folder.write("greeting", "welcome\n");
    folder.write("sorry", "come back later\n");
    folder.write(
        "xinetd.conf",
        &format!(
            "defaults\n{{\n\tlog_type = SYSLOG daemon\n\tpassenv = FROM\n}}\nincludedir {}\n",
            folder.path("d")
        ),
    );
    let service = |name: &str, attributes: &str| {
        folder.write(&format!("d/{name}"), &format!("service {name}\n{{\n\tsocket_type\t= stream\n\twait = no\n\tuser = nobody\n\ttype = UNLISTED\n{attributes}\tflags = IPv4\n}}\n"));
    };
    service(
        "program",
        &format!(
            "port = {}\nserver = /bin/sh\nserver_args = -c env;ulimit${{IFS}}-n;id${{IFS}}-un;nice;umask;nonsense\nenv = MINE=yes\nnice = 3\numask = 027\nrlimit_files = 77\nbanner = {}\n",
            PORTS[0],
            folder.path("greeting")
        ),
    );
    service(
        "few",
        &format!(
            "port = {}\nserver = /bin/cat\ninstances = 1\nbanner_fail = {}\n",
            PORTS[1],
            folder.path("sorry")
        ),
    );
    service(
        "guests",
        &format!(
            "port = {}\nserver = /bin/echo\nserver_args = hello\nonly_from = 127.0.0.0\nno_access = 127.5.0.0\n",
            PORTS[2]
        ),
    );
    service("relay", &format!("port = {}\nredirect = 127.0.0.1 {}\n", PORTS[3], PORTS[1]));
    service(
        "named",
        &format!(
            "port = {}\nserver = /bin/sh\nserver_args = kitty -c echo${{IFS}}$0\nflags = IPv4 NAMEINARGS\n",
            PORTS[4]
        ),
    );
    let server = serve(&import(&folder, "xinetd", "xinetd.conf", &[]));
    let program = reply_to("127.0.0.1", PORTS[0]);
    for line in ["welcome", "FROM=defaults", "MINE=yes", "77", "nobody", "3", "0027"] {
        assert!(program.lines().any(|other| other == line), "{line}:\n{program}");
    }
    assert!(program.starts_with("welcome\n") && program.contains(" nonsense: "), "{program}");
    assert!(!program.contains("HOME="), "only FROM is passed on: {program}");
    let mut only = Client::connect(PORTS[1]);
    only.echo("me");
    assert_eq!(reply_to("127.0.0.1", PORTS[1]), "come back later\n");
    only.finish();
    wait_until("the only slot is free", || {
        let mut relayed = Client::connect(PORTS[3]);
        relayed.send("through");
        let reply = relayed.finish();
        (reply == b"through").then_some(())
    });
    assert_eq!(reply_to("127.1.0.1", PORTS[2]), "hello\n");
    assert_eq!(reply_to("127.5.0.1", PORTS[2]), "");
    assert_eq!(reply_to("127.0.0.1", PORTS[4]), "kitty\n");
    drop(server);
}

#[test]
fn an_imported_inetd_configuration_serves_as_inetd_does() {
    network::own();
    let folder = Folder::new("import-inetd");
    folder.write(
        "inetd.conf",
        &format!(
            "# services\n127.0.0.1:\n{}\tstream\ttcp\tnowait\tnobody.nogroup\t/bin/sh\tkitty -c id${{IFS}}-un;id${{IFS}}-gn;echo${{IFS}}$0;nonsense\n#<off># {} stream tcp nowait root /bin/cat cat\n*:{}\tstream\ttcp4\tnowait/1/2/1\tnobody\t/bin/cat\tcat\n{} stream tcp wait root /bin/cat cat\n",
            PORTS[0], PORTS[1], PORTS[2], PORTS[3]
        ),
    );
    let toml = import(&folder, "inetd", "inetd.conf", &[]);
    let server = serve(&toml);
    let program = reply_to("127.0.0.1", PORTS[0]);
    assert!(program.starts_with("nobody\nnogroup\nkitty\n") && program.contains(" nonsense: "), "{program}");
    let mut one = Client::connect(PORTS[2]);
    one.echo("one of a minute");
    assert!(std::net::TcpStream::connect(("127.0.0.1", PORTS[1])).is_err(), "the service is commented out");
    drop(server);
    let _all = serve(&import(&folder, "inetd", "inetd.conf", &["--all"]));
    Client::connect(PORTS[1]).echo("imported with --all");
}

#[test]
fn import_reports_what_it_cannot_convert() {
    let folder = Folder::new("import-none");
    let disabled = folder
        .write(
            "disabled",
            "service echo\n{\n\ttype = INTERNAL\n\tdisable = yes\n\tsocket_type = stream\n\twait = no\n}\n",
        )
        .display()
        .to_string();
    for (words, error) in [
        (&["xinetd", "/nowhere"][..], "cannot read /nowhere"),
        (&["xinetd", &disabled], "0 services, 1 left out"),
        (&["launchd", &disabled], "invalid value 'launchd'"),
    ] {
        let (code, _, err) = run(Command::new(tine()).arg("import").args(words));
        assert!(code == 100 && err.contains(error) && err.lines().count() == 1, "{words:?}: {code} {err}");
    }
    let (code, out, err) = run(Command::new(tine()).args(["import", "xinetd", "--all", &disabled]));
    assert!(code == 0 && out.contains("service = \"echo\"") && err.contains("1 services"), "{out}{err}");
}

#[test]
fn a_service_of_xinetd_without_a_user_is_not_served() {
    let folder = Folder::new("import-no-user");
    let service = |name: &str, port: u16, user: &str| {
        format!(
            "service {name}\n{{\n\ttype = UNLISTED\n\tport = {port}\n\tsocket_type = stream\n\twait = no\n\tserver = /usr/bin/id\n{user}}}\n"
        )
    };
    let text = service("without", PORTS[0], "") + &service("with", PORTS[1], "\tuser = nobody\n");
    folder.write("xinetd.conf", &text);
    let toml = std::fs::read_to_string(import(&folder, "xinetd", "xinetd.conf", &[])).expect("written");
    assert!(toml.contains("without is left out: it names no user: xinetd leaves it out, too"), "{toml}");
    assert!(toml.contains("[services.with]") && !toml.contains("[services.without]"), "{toml}");
}

/// A service for xinetd that answers with its name.
fn answers(name: &str, port: u16, attributes: &str) -> String {
    format!(
        "service {name}\n{{\n\ttype = UNLISTED\n\tsocket_type = stream\n\twait = no\n\tuser = nobody\n\tport = \
         {port}\n\tserver = /bin/echo\n\tserver_args = {name}\n{attributes}}}\n"
    )
}

#[test]
fn no_client_is_served_that_xinetd_rejects() {
    network::own();
    let folder = Folder::new("import-rejected");
    let rows = [
        ("no_access", "only_from = 127.5.0.1 127.6.0.1\nno_access = 127.5.0.0\n", ["", "", "it"]),
        ("inside", "only_from = 127.0.0.0\nno_access = 127.5.0.1\n", ["it", "", "it"]),
        ("short", "only_from = 127.1 127.6\n", ["it", "", ""]),
        ("blocks", "only_from = 127.{5,6}\n", ["", "it", "it"]),
        ("removed", "only_from = 127.5.0.0 127.6.0.0\nonly_from -= 127.5.0.9/16\n", ["", "", "it"]),
    ];
    let text: String =
        (8001..).zip(&rows).map(|(port, (name, attributes, _))| answers(name, port, attributes)).collect();
    folder.write("xinetd.conf", &text);
    let _server = serve(&import(&folder, "xinetd", "xinetd.conf", &[]));
    for (port, (name, _, replies)) in (8001..).zip(rows) {
        for (source, reply) in ["127.0.0.1", "127.5.0.1", "127.6.0.1"].into_iter().zip(replies) {
            let wanted = reply.replace("it", &format!("{name}\n"));
            assert_eq!(reply_to(source, port), wanted, "{name} from {source}");
        }
    }
}

#[test]
fn an_imported_service_listens_where_the_original_does() {
    network::own();
    let folder = Folder::new("import-listens");
    let connects = |to: &str| std::net::TcpStream::connect(to).is_ok();
    folder.write(
        "xinetd.conf",
        &[
            answers("both", 8001, "flags = IPv4 IPv6\n"),
            answers("one-address", 8002, "bind = 127.0.0.1\nflags = IPv4\n"),
            answers("ipv6", 8003, "v6only = no\n"),
            // xinetd cannot bind it beside the first.
            answers("second", 8001, "flags = IPv4\n"),
        ]
        .concat(),
    );
    let server = serve(&import(&folder, "xinetd", "xinetd.conf", &[]));
    for (to, is_open) in [
        ("127.0.0.1:8001", true),
        ("[::1]:8001", true),
        ("127.0.0.1:8002", true),
        ("127.0.0.2:8002", false),
        ("[::1]:8002", false),
        ("127.0.0.1:8003", false),
        ("[::1]:8003", true),
    ] {
        assert_eq!(connects(to), is_open, "{to}");
    }
    assert_eq!(reply_to("127.0.0.1", 8001), "both\n");
    drop(server);
    folder.write(
        "inetd.conf",
        "8001 stream tcp nowait root /bin/echo echo first\n8001 stream tcp nowait nobody /bin/echo echo last\n\
         localhost:8002 stream tcp4 nowait nobody /bin/echo echo ipv4\n",
    );
    let _server = serve(&import(&folder, "inetd", "inetd.conf", &[]));
    assert_eq!(reply_to("127.0.0.1", 8001), "last\n");
    assert_eq!(reply_to("127.0.0.1", 8002), "ipv4\n");
    assert!(!connects("[::1]:8002"), "the line is for IPv4");
}
