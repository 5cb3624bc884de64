//! `tine reload` and HUP: a configuration is read again while the server runs.

use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use tine_e2e::other_process::free_port;
use tine_e2e::{
    Client, Folder, Server, ServerCommand, TEST_TIMEOUT, kill, network, procfs, run, tine, wait_until,
};

/// A server with a configuration, and its files.
struct Configured {
    folder: Folder,
    server: Server,
}

impl Configured {
    fn start(name: &str, text: &str) -> Configured {
        let folder = Folder::new(name);
        Configured { server: serve(&folder, text, None), folder }
    }

    fn write(&self, text: &str) {
        self.folder.write("tine.toml", text);
    }

    /// Runs `tine reload`: its exit code, standard output and standard error.
    fn reload(&self) -> (i32, String, String) {
        let socket = self.folder.path("c.sock");
        run(std::process::Command::new(tine()).args(["reload", "--control", &socket]))
    }
}

fn serve(folder: &Folder, text: &str, notify: Option<&str>) -> Server {
    let file = folder.write("tine.toml", text).display().to_string();
    let words = ["serve", "--log", "json", "-1", "--config", &file, "--control", &folder.path("c.sock")];
    let mut command = ServerCommand::program(tine(), &words);
    command.command().envs(notify.map(|path| ("NOTIFY_SOCKET", path)));
    command.start()
}

/// A key by which each client gets this text first.
fn banner(folder: &Folder, text: &str) -> String {
    format!("banner-file = '{}'\n", folder.write("banner", text).display())
}

fn echo(name: &str, listen: &str) -> String {
    format!("[services.{name}]\nlisten = '{listen}'\n")
}

#[test]
fn services_are_added_removed_and_changed() {
    network::own();
    let (removed, added) = (free_port(), free_port());
    let first = echo("kept", "127.0.0.1:0") + &echo("removed", &format!("127.0.0.1:{removed}"));
    let mut configured = Configured::start("reload-services", &first);
    let server = &configured.server;
    let mut kept = server.connect();
    let mut of_removed = Client::connect(removed);
    kept.echo("x");
    of_removed.echo("x");
    let second = echo("kept", "127.0.0.1:0")
        + "service = 'discard'\n"
        + &banner(&configured.folder, "new\n")
        + &echo("added", &format!("127.0.0.1:{added}"));
    configured.write(&second);
    let (code, out, err) = configured.reload();
    assert!(code == 0 && out.starts_with("pid "), "{out}{err}");
    // The listener of the changed service stays, and its connections keep what they began with.
    let mut changed = server.connect();
    changed.expect("new\n").send("discarded").half_close();
    assert!(changed.read_to_end().is_empty());
    kept.echo("still echo");
    Client::connect(added).echo("x").finish();
    // The removed service accepts no more; its connections end by themselves.
    let refused = TcpStream::connect(("127.0.0.1", removed)).expect_err("nobody listens");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    of_removed.echo("still there").finish();
    kept.finish();
    configured.server.signal(Signal::TERM);
    assert_eq!(configured.server.wait().code(), Some(0));
    configured.server.wait_until_gone();
}

#[test]
fn the_same_text_changes_nothing() {
    let text = echo("a", "127.0.0.1:0");
    let configured = Configured::start("reload-same", &text);
    let before = procfs::children(configured.server.pid()).len();
    let (code, out, err) = configured.reload();
    assert_eq!((code, out.as_str()), (0, "nothing has changed\n"), "{err}");
    assert_eq!(configured.server.log.of("replaced").len(), 0);
    configured.server.connect().echo("x").finish();
    wait_until("no new process is left", || {
        (procfs::children(configured.server.pid()).len() == before).then_some(())
    });
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_explained() {
    let listening = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = listening.local_addr().expect("bound");
    let text = echo("a", "127.0.0.1:0");
    let configured = Configured::start("reload-wrong", &text);
    let mut held = configured.server.connect();
    held.echo("x");
    for (wrong, code, words) in [
        (text.clone() + "[services.b\n", 100, "tine.toml:3: "),
        (text.clone() + "max-connections = 'many'\n", 100, "tine.toml:3: "),
        (text.clone() + "program = ['/no/such/file']\n", 100, "/no/such/file"),
        (text.clone() + &echo("b", &taken.to_string()), 111, "address already in use"),
        (text.clone() + "bind-ipv6-only = 'ipv6-only'\nfree-bind = true\n", 100, "restart the server"),
        (String::new(), 100, "there is no service"),
    ] {
        configured.write(&wrong);
        let (found, out, err) = configured.reload();
        assert_eq!((found, out.as_str()), (code, ""), "{wrong}: {err}");
        assert!(err.contains(words), "{wrong}: {err}");
        held.echo("y");
        configured.server.connect().echo("z").finish();
    }
    assert_eq!(configured.server.log.of("replaced").len(), 0);
    configured.write(&(text + &banner(&configured.folder, "right\n")));
    assert_eq!(configured.reload().0, 0);
    configured.server.connect().expect("right\n");
    held.echo("y").finish();
}

#[test]
fn the_control_socket_cannot_change() {
    let text = echo("a", "127.0.0.1:0");
    let folder = Folder::new("reload-control");
    let path = |name: &str| format!("control = '{}'\n", folder.path(name));
    let file = folder.write("tine.toml", &(path("one.sock") + &text)).display().to_string();
    let server = ServerCommand::program(tine(), &["serve", "--log", "json", "-1", "--config", &file]).start();
    folder.write("tine.toml", &(path("two.sock") + &text));
    let (code, _, err) =
        run(std::process::Command::new(tine()).args(["reload", "--control", &folder.path("one.sock")]));
    assert!(code == 100 && err.contains("control socket (`control`)"), "{err}");
    server.connect().echo("x").finish();
    assert!(!std::path::Path::new(&folder.path("two.sock")).exists(), "nothing of it is left");
}

#[test]
fn clients_in_the_backlog_are_served_by_the_next_generation() {
    let text = echo("a", "127.0.0.1:0");
    let configured = Configured::start("reload-backlog", &text);
    let socket = configured.folder.path("c.sock");
    let command = |words: &[&str]| {
        let (code, _, err) = run(std::process::Command::new(tine()).args(words).args(["--control", &socket]));
        assert_eq!(code, 0, "{words:?}: {err}");
    };
    command(&["pause"]);
    let mut waiting: Vec<Client> = (0..5).map(|_| configured.server.connect()).collect();
    waiting.iter_mut().for_each(|client| _ = client.send("x"));
    configured.write(&(text + &banner(&configured.folder, "hello\n")));
    command(&["reload"]);
    command(&["resume"]);
    waiting.iter_mut().for_each(|client| _ = client.expect("hello\nx"));
}

#[test]
fn access_rules_of_a_server_without_a_configuration_are_read_again() {
    let folder = Folder::new("reload-rules");
    let rules = folder.write("rules", "127.0.0.1:allow\n").display().to_string();
    let socket = folder.path("c.sock");
    let server = Server::serve(&["--rules", &rules, "--control", &socket]);
    let reload = || run(std::process::Command::new(tine()).args(["reload", "--control", &socket]));
    server.connect().echo("x").finish();
    assert_eq!(reload().0, 0);
    folder.write("rules", "127.0.0.1:allow\nnonsense\n");
    let (code, _, err) = reload();
    assert!(code == 100 && err.contains("rules:2: "), "{err}");
    server.connect().echo("x").finish();
}

#[test]
fn the_service_manager_hears_of_access_rules_that_are_read_again() {
    let folder = Folder::new("reload-notify-rules");
    let path = folder.path("notify");
    let manager = Manager { socket: UnixDatagram::bind(&path).expect("a socket") };
    manager.socket.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
    let rules = folder.write("rules", "127.0.0.1:allow\n").display().to_string();
    let mut command = ServerCommand::serve(["--rules", &rules]);
    command.command().env("NOTIFY_SOCKET", &path);
    let server = command.start();
    assert_eq!(manager.next(), "READY=1\n");
    for _ in 0..2 {
        server.signal(Signal::HUP);
        manager.expect_reloading();
        assert_eq!(manager.next(), "READY=1\n");
    }
}

/// What a service manager hears.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn next(&self) -> String {
        let mut buffer = [0; 256];
        let received = self.socket.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..received]).into_owned()
    }

    fn expect_nothing(&self) {
        self.socket.set_nonblocking(true).expect("a socket option");
        self.socket.recv(&mut [0; 256]).expect_err("nothing is said");
        self.socket.set_nonblocking(false).expect("a socket option");
    }

    /// The time of a reload is that of the monotonic clock, in microseconds.
    fn expect_reloading(&self) {
        let text = self.next();
        let time = text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect(&text);
        let time: u64 = time.trim_end().parse().expect("a number");
        let mut uptime = String::new();
        std::fs::File::open("/proc/uptime").expect("a file").read_to_string(&mut uptime).expect("text");
        let seconds: f64 = uptime.split(' ').next().expect("a word").parse().expect("a number");
        let now = (seconds * 1e6) as u64;
        assert!(time <= now + 20_000 && time + 60_000_000 > now, "{time} {now}");
    }
}

#[test]
fn the_service_manager_follows_reloads_and_replacements() {
    let folder = Folder::new("reload-notify");
    let path = folder.path("notify");
    let manager = Manager { socket: UnixDatagram::bind(&path).expect("a socket") };
    manager.socket.set_read_timeout(Some(TEST_TIMEOUT)).expect("a socket option");
    let text = echo("a", "127.0.0.1:0");
    let mut server = serve(&folder, &text, Some(&path));
    assert_eq!(manager.next(), "READY=1\n");
    // Nothing to change.
    server.signal(Signal::HUP);
    manager.expect_reloading();
    assert_eq!(manager.next(), "READY=1\n");
    // Wrong.
    folder.write("tine.toml", "nonsense");
    server.signal(Signal::HUP);
    manager.expect_reloading();
    let said = manager.next();
    assert!(said.starts_with("READY=1\nSTATUS=") && said.contains("tine.toml:1: "), "{said}");
    // A second one while one is in progress does not end that.
    let script = folder.write("sleeper", "#!/bin/sh\nexec sleep 60\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("our file");
    let upgrade = |binary: &str| {
        let mut command = std::process::Command::new(tine());
        command.args(["upgrade", "--control", &folder.path("c.sock"), binary]);
        command.stderr(std::process::Stdio::null()).spawn().expect("tine starts")
    };
    let mut first = upgrade(&script.display().to_string());
    manager.expect_reloading();
    let mut second = upgrade("/bin/true");
    assert_eq!(second.wait().expect("our child").code(), Some(111));
    manager.expect_nothing();
    // Who sends a signal waits for a message, also of a reload that cannot begin.
    server.signal(Signal::HUP);
    manager.expect_reloading();
    manager.expect_nothing();
    let new = server.log.wait_for("replace", 3).pop().expect("a line");
    kill(i32::try_from(new["pid"].as_i64().expect("a pid")).expect("a pid"), Signal::KILL);
    assert_eq!(first.wait().expect("our child").code(), Some(111));
    let said = manager.next();
    assert!(said.starts_with("READY=1\nSTATUS=") && said.contains("signal KILL"), "{said}");
    // Changed: another process is watched from now on, and the old one ends.
    folder.write("tine.toml", &(text + &banner(&folder, "x")));
    server.signal(Signal::HUP);
    manager.expect_reloading();
    let said = manager.next();
    let pid = said.strip_prefix("MAINPID=").and_then(|rest| rest.strip_suffix("\nREADY=1\n")).expect(&said);
    let pid: i32 = pid.parse().expect("a process id");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    Client::connect(server.port()).expect("x");
    kill(pid, Signal::USR2);
    manager.expect_reloading();
    let said = manager.next();
    assert!(said.starts_with("MAINPID=") && said.ends_with("\nREADY=1\n"), "{said}");
    let last = server.processes().into_iter().find(|process| said.contains(&process.pid.to_string()));
    let last = last.expect("it runs").pid;
    kill(last, Signal::TERM);
    assert_eq!(manager.next(), "STOPPING=1\n");
    server.wait_until_gone();
}
