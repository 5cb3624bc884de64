//! Starting a server: it is fast whatever the limits are, and an error is one line that leaves
//! nothing behind.

use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::{Client, Server, ServerCommand, kill, network, procfs, run, tine, wait_until};

#[test]
fn a_huge_open_files_limit_does_not_slow_the_start() {
    // The kernel's own maximum; the hard limit where raising it is not permitted.
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").expect("/proc is mounted").trim().to_owned();
    let own = procfs::limit(i32::try_from(std::process::id()).expect("a process id"), "Max open files").1;
    let allowed = |limit: &str| {
        run(Command::new("prlimit").args([&format!("--nofile={limit}:{limit}"), "true"])).0 == 0
    };
    let huge = if allowed(&most) { most } else { own };
    let nofile = format!("--nofile={huge}:{huge}");
    let server = ServerCommand::wrapped(["prlimit", &nofile, "--"], ["--spares", "4"]).start();
    server.connect().echo("x");
    assert_eq!(procfs::limit(server.pid(), "Max open files").0, huge);
    let ticks: u64 = server.processes().iter().map(|process| process.ticks).sum();
    // A step for each possible descriptor takes minutes.
    assert!(ticks < 100, "{ticks} ticks of 10 ms");
}

/// Asserts that a command fails with this exit code and one line of error that contains these
/// parts.
fn fails(mut command: Command, code: i32, parts: &[&str]) {
    let (exit, out, err) = run(&mut command);
    assert_eq!(exit, code, "{command:?}: {err}");
    assert_eq!((out.as_str(), err.lines().count()), ("", 1), "{err}");
    for part in ["tine: ", "; "].iter().chain(parts) {
        assert!(err.contains(part), "'{part}' is not in: {err}");
    }
}

fn serve(words: &[&str]) -> Command {
    let mut command = Command::new(tine());
    command.arg("serve").args(words);
    command
}

#[test]
fn startup_errors_say_what_failed_why_and_the_next_move() {
    // Some cases use the default port, which another process may use.
    network::own();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("a bound socket").to_string();
    for (words, code, parts) in [
        (
            &[taken.as_str()][..],
            111,
            &["cannot listen on", taken.as_str(), "address already in use", "ss -ltnp"][..],
        ),
        (&["127.0.0.1:0", taken.as_str()], 111, &["address already in use"]),
        (&["192.0.2.1:0"], 111, &["192.0.2.1:0", "assign requested address", "ip address"]),
        (&["127.0.0.1"], 100, &["bad address '127.0.0.1': the port is missing; write 127.0.0.1:PORT"]),
        (&["[::1]"], 100, &["bad address '[::1]': the port is missing; write [::1]:PORT"]),
        (&["http://[::1]:8080/x"], 100, &["this is a URL; write [::1]:8080"]),
        (&["http://127.0.0.1/"], 100, &["this is a URL; write 127.0.0.1:80"]),
        (&["--rules", "/", "127.0.0.1:0"], 100, &["cannot read rules from /", "it is a directory"]),
        (&["--rules", "/no/rules", "127.0.0.1:0"], 100, &["cannot read rules from", "does not exist"]),
        (&["--config", "/"], 111, &["cannot read /: is a directory", "it is a directory"]),
        (&["--config", "/no/file"], 100, &["cannot read /no/file: no such file", "does not exist"]),
        (&["::1:80"], 100, &["brackets"]),
        (&["unix:/no/such/folder/s"], 111, &["no such file or directory", "create the directory"]),
        (&["no-such-host.invalid:80"], 111, &["cannot resolve 'no-such-host.invalid'", "/etc/hosts"]),
        (&["--no-such-option"], 100, &["--no-such-option", "--help"]),
        (&["--max-connections", "0"], 100, &["--max-connections", "1"]),
        (&["--drain-timeout", "soon"], 100, &["--drain-timeout", "500ms"]),
        (&["--when-full", "shrug"], 100, &["--when-full", "reject=TEXT"]),
        (&["--user", "no-such-user"], 100, &["no user 'no-such-user'", "getent passwd"]),
        (
            &["--user", "nobody", "--supplementary-groups", "adm,no-such"],
            100,
            &["no group 'no-such'", "getent group"],
        ),
        (&["--supplementary-groups", "adm"], 100, &["needs a user or a group", "--user"]),
        (&["--group", "no-such-group"], 100, &["no group 'no-such-group'", "getent group"]),
        (&["--reuse", "5", "127.0.0.1:0"], 100, &["--spares"]),
        (&["--ready-fd", "77", "127.0.0.1:0"], 100, &["77", "--ready-fd"]),
        (&["--keep-alive-time", "500ms", "127.0.0.1:0"], 100, &["keep-alive time is 500ms", "1 to 32767"]),
        (&["-v", "-q"], 100, &["--quiet"]),
    ] {
        fails(serve(words), code, parts);
    }
}

#[test]
fn a_failed_start_removes_its_unix_socket() {
    let path = std::env::temp_dir().join(format!("tine-start-{}.socket", std::process::id()));
    fails(serve(&[&format!("unix:{}", path.display()), "192.0.2.1:0"]), 111, &["192.0.2.1:0"]);
    assert!(!path.exists());
}

#[test]
fn a_privileged_port_is_denied_to_an_ordinary_user_with_advice() {
    // In a network namespace of its own, port 80 is free and privileged.
    let mut command = Command::new("unshare");
    command.args([
        "--net",
        "--",
        "setpriv",
        "--reuid",
        "61003",
        "--regid",
        "61003",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--",
    ]);
    let public = std::env::temp_dir().join(format!("tine-start-{}", std::process::id()));
    std::fs::copy(tine(), &public).expect("a copy");
    command.arg(&public).args(["serve", "0.0.0.0:80"]);
    fails(command, 111, &["0.0.0.0:80", "permission denied", "1024"]);
    std::fs::remove_file(&public).expect("our file");
}

#[test]
fn without_ipv6_a_bare_port_listens_on_every_ipv4_address() {
    // The first socket(2) fails as in a kernel without IPv6.
    let tine = tine();
    let server = ServerCommand::program(
        "strace",
        &[
            "-qq",
            "-o/dev/null",
            "-etrace=socket",
            "-einject=socket:error=EAFNOSUPPORT:when=1",
            tine.to_str().expect("a path in UTF-8"),
            "serve",
            "--log=json",
            "-1",
            "0",
        ],
    )
    .start();
    let listen = &server.log.wait_for("listen", 1)[0];
    assert_eq!(listen["address"], format!("0.0.0.0:{}", server.port()));
    server.connect().echo("hello").finish();
}

#[test]
fn a_server_on_all_addresses_serves_ipv4_once_ipv6_is_switched_off() {
    network::own();
    let tine = tine();
    let start = || -> Server { ServerCommand::program(&tine, &["serve", "--log=json", "-1", "0"]).start() };
    let server = start();
    drop(TcpStream::connect((Ipv6Addr::LOCALHOST, server.port())).expect("IPv6 is served"));
    std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").expect("a namespace of our own");
    TcpStream::connect((Ipv6Addr::LOCALHOST, server.port())).expect_err("there is no IPv6");
    server.connect().echo("goes on").finish();
    let restarted = start();
    restarted.connect().echo("starts").finish();
    assert!(restarted.log.of("warning").is_empty(), "{:?}", restarted.log.lines());
}

#[test]
fn a_server_whose_standard_descriptors_are_closed_serves() {
    network::own();
    // A socket that takes the place of a standard descriptor would be served as that of a client.
    let script = "for n in 0 1 2 3; do readlink /proc/$$/fd/$n || echo none; done; cat";
    let program = ["127.0.0.1:7001", "--", "sh", "-c", script];
    for closed in ["<&-", "2>&-", "<&- >&- 2>&-"] {
        for options in [&[][..], &["--spares", "2"], &["--stderr", "log"], &["--proxy-from", "192.0.2.1"]] {
            let shell = format!("exec \"$@\" {closed}");
            let mut command = Command::new("sh");
            command.args(["-c", &shell, "sh"]).arg(tine()).arg("serve").args(options);
            if options.contains(&"--proxy-from") {
                command.args(["--proxy-others", "serve"]);
            }
            command.args(program).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut server = command.spawn().expect("a shell");
            wait_until("the server listens", || TcpStream::connect("127.0.0.1:7001").ok());
            let mut client = Client::connect(7001);
            let said = [(); 4].map(|()| client.read_line());
            assert!(
                said[..2].iter().all(|name| name.starts_with("socket:")),
                "{closed} {options:?}: {said:?}"
            );
            let null = if options.contains(&"log") { "pipe:" } else { "/dev/null" };
            assert!(said[2].starts_with(null), "{closed} {options:?}: {said:?}");
            assert_eq!(said[3].trim(), "none", "{closed} {options:?}");
            assert!(client.echo("data").finish().is_empty());
            kill(i32::try_from(server.id()).expect("a process id"), Signal::TERM);
            assert!(server.wait().expect("our child").success(), "{closed} {options:?}");
        }
    }
}
