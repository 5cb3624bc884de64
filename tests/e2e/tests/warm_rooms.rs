//! Copies that are process 1 of their jail: each makes a room of its own.

use std::collections::BTreeSet;
use std::process::Command;

use tine_e2e::names::outcome;
use tine_e2e::{Server, run, tine};

const FULL: &[&str] = &["--jail=full", "--jail-init", "no", "--forkers", "1"];
const WARM: &[&str] = &["--warm", "--jail=full", "--jail-init", "no", "--forkers", "1"];

fn answer(server: &Server, text: &str) -> String {
    let mut client = server.connect();
    client.send(text).half_close();
    client.read_text()
}

/// How each connection was started, as the log has it.
fn starts(server: &Server, number: usize) -> Vec<String> {
    let ends = server.log.wait_for("end", number);
    ends.iter().map(|end| end["start"].as_str().expect("a way").to_owned()).collect()
}

#[test]
fn a_copy_is_process_1_of_a_room_as_that_of_an_execution() {
    let script = "read a; id; echo x > /tmp/x; ls -a /tmp; stat -c %a:%u /tmp; echo /proc/*; \
        grep -E '^(Cap|NoNewPrivs|Uid|Gid)' /proc/self/status; cut -d' ' -f4,5 /proc/self/stat; \
        hostname; pwd; kill -TERM 1; echo alive";
    let [cold, warm] = [FULL, WARM].map(|options| Server::program(options, &["sh", "-c", script]));
    // The jail's root owns the `/tmp` of a room that the server has made.
    let of_an_execution = answer(&cold, "\n").replace("1777:525312", "1777:524288");
    assert!(of_an_execution.contains("CapBnd:\t0000000000000000\n") && of_an_execution.ends_with("alive\n"));
    for number in 1..=2 {
        assert_eq!(answer(&warm, "\n"), of_an_execution);
        let end = &warm.log.wait_for("end", number)[number - 1];
        assert_eq!((outcome(end), end["start"].as_str()), ("exit 0", Some("warm")));
    }
}

#[test]
fn rooms_of_copies_are_their_own() {
    let script = "read a; echo $(readlink /proc/self/ns/pid /proc/self/ns/mnt /proc/self/ns/ipc \
        /proc/self/ns/user); ls /tmp; touch /tmp/$a; read b";
    let server = Server::program(WARM, &["sh", "-c", script]);
    let (mut first, mut second) = (server.connect(), server.connect());
    let mut names = BTreeSet::new();
    for client in [&mut first, &mut second] {
        client.send("a\n");
        let line = client.read_line();
        names.extend(line.split_whitespace().map(str::to_owned));
    }
    assert_eq!(names.len(), 8, "{names:?}");
    first.send("b\n").half_close();
    second.send("b\n").half_close();
    assert_eq!((first.read_text(), second.read_text()), (String::new(), String::new()));
    assert_eq!(starts(&server, 2), ["warm", "warm"]);
}

#[test]
fn a_copy_can_make_no_other_room() {
    let script = "import ctypes, os, sys\n\
        sys.stdin.readline()\n\
        libc = ctypes.CDLL(None, use_errno=True)\n\
        def tried(name, result): print(name, result, os.strerror(ctypes.get_errno()))\n\
        tried('clone', libc.syscall(220 if os.uname().machine == 'aarch64' else 56, 0x38020011, 0, 0, 0, 0))\n\
        tried('unshare', libc.unshare(0x10000000))\n\
        tried('mount', libc.mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None))\n\
        tried('umount', libc.umount2(b'/tmp', 2))\n";
    let options = [WARM, &["--warm-allow", "variables"]].concat();
    let server = Server::program(&options, &["/usr/bin/python3", "-c", script]);
    let refused = |name: &str| format!("{name} -1 Operation not permitted\n");
    assert_eq!(answer(&server, "\n"), ["clone", "unshare", "mount", "umount"].map(refused).concat());
    assert_eq!(starts(&server, 1), ["warm"]);
}

#[test]
fn each_copy_has_a_loopback_interface_where_connections_do() {
    let script = "import socket, sys\n\
        sys.stdin.readline()\n\
        listener = socket.create_server(('127.0.0.1', 4711))\n\
        client = socket.create_connection(('127.0.0.1', 4711))\n\
        print('listens', flush=True)\n\
        sys.stdin.readline()\n";
    let options = [WARM, &["--warm-allow", "variables", "--private-network", "loopback"]].concat();
    let server = Server::program(&options, &["/usr/bin/python3", "-uc", script]);
    let (mut first, mut second) = (server.connect(), server.connect());
    first.send("\n").expect("listens\n");
    second.send("\n").expect("listens\n");
    for mut client in [first, second] {
        client.half_close();
        assert_eq!(client.read_text(), "");
    }
    assert_eq!(starts(&server, 2), ["warm", "warm"]);
}

#[test]
fn what_a_copy_would_not_find_in_its_room_is_refused() {
    let nested = ["--temporary-file-system", "/srv", "--temporary-file-system", "/srv/a"];
    for (options, script, code, why) in [
        (&[][..], "echo x > /tmp/made; read a", 100, "files: /tmp/made changed, where"),
        (&nested[..], "read a", 111, "a temporary file system that has another one"),
    ] {
        let args = [&["serve"], WARM, options, &["127.0.0.1:0", "--", "sh", "-c", script]].concat();
        let (exit_code, _, said) = run(Command::new(tine()).args(args));
        assert_eq!(exit_code, code, "{said}");
        assert!(said.contains(why) && said.contains("--jail-init yes"), "{said}");
    }
}
