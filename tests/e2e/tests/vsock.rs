//! Listeners of the family AF_VSOCK, as far as a machine without the module vsock_loopback goes: no
//! client can connect. `bench/vsock` tries clients in a virtual machine.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use rustix::net::{AddressFamily, SocketType};
use rustix::process::Signal;
use tine_e2e::filters::under;
use tine_e2e::{Folder, Server, ServerCommand, run, tine};

/// The port with which the kernel chooses one (vsock(7)).
const ANY_PORT: &str = "vsock:4294967295";

/// Whether the kernel has the family. Without it, a server is refused with that reason.
fn has_vsock() -> bool {
    let has_vsock = rustix::net::socket(AddressFamily::VSOCK, SocketType::STREAM, None).is_ok();
    if !has_vsock {
        refused(&[], &[ANY_PORT], "this kernel has no vsock: load its module");
    }
    has_vsock
}

/// Runs `tine serve` behind a command; it is refused for this reason.
fn refused(wrapper: &[&OsStr], words: &[&str], reason: &str) {
    let tine = tine();
    let all = wrapper.iter().copied().chain([tine.as_os_str()]);
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", "20"]).args(all).args(["serve", "-1"]).args(words);
    let (code, out, err) = run(&mut command);
    assert_eq!((code, out.as_str()), (111, ""), "{err}");
    assert!(err.starts_with("tine: cannot listen on vsock:") && err.contains(reason), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

/// The second address of a server, as it logs it.
fn second_address(server: &Server) -> String {
    server.log.wait_for("listen", 2)[1]["address"].as_str().expect("text").to_owned()
}

#[test]
fn a_server_listens_beside_a_tcp_address() {
    if !has_vsock() {
        return;
    }
    let mut server = ServerCommand::serve([] as [&str; 0]);
    server.command().arg(ANY_PORT);
    let mut server = server.start();
    server.connect().echo("over TCP").finish();
    let address = second_address(&server);
    let port: u32 = address.strip_prefix("vsock::").expect(&address).parse().expect(&address);
    assert!((1024..u32::MAX).contains(&port), "{address}");
    refused(&[], &[&address], "stop the process that listens there (`ss --vsock -lp`");
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    // The port is free again.
    let mut again = ServerCommand::serve([] as [&str; 0]);
    again.command().arg(&address);
    let again = again.start();
    assert_eq!(second_address(&again), address);
}

#[test]
fn the_port_is_printed_and_a_configuration_can_name_it() {
    if !has_vsock() {
        return;
    }
    let folder = Folder::new("vsock");
    let text = format!("[services.a]\nlisten = ['{ANY_PORT}', '127.0.0.1:0']\n");
    let file = folder.write("tine.toml", &text);
    let (code, out, err) = run(Command::new(tine()).arg("check").arg(&file));
    assert!(code == 0 && out.contains(ANY_PORT), "{out}{err}");
    let script = format!("exec {} serve -1 --log json {ANY_PORT} 2>&1", tine().display());
    let mut child = Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().expect("a shell");
    let log = tine_e2e::Log::from_pipe(child.stdout.take().expect("piped"));
    let event = log.wait_for("listen", 1).remove(0);
    let port = event["address"].as_str().and_then(|address| address.strip_prefix("vsock::")).expect("a port");
    log.wait_for_line("the port", |line| line == port);
    tine_e2e::kill(i32::try_from(child.id()).expect("a process id"), Signal::TERM);
    assert!(child.wait().expect("our child").success());
}

#[test]
fn inherited_sockets_are_served() {
    if !has_vsock() {
        return;
    }
    let script = "import os, socket, sys; s = socket.socket(socket.AF_VSOCK); \
        s.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY)); s.listen(); s.setblocking(False); \
        port = s.getsockname()[1]; os.dup2(s.fileno(), 3); os.set_inheritable(3, True); \
        os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='web', PORT=str(port)); \
        os.execvp(sys.argv[1], sys.argv[1:])";
    let tine = tine();
    let words = ["serve", "--log", "json", "-1", "127.0.0.1:0", "fd:web", "--", "printenv", "PORT"];
    let words = [&["-c", script, tine.to_str().expect("UTF-8")][..], &words].concat();
    let mut server = ServerCommand::program("python3", &words).start();
    let port = server.connect().read_text();
    let port = port.trim_end();
    let address = second_address(&server);
    assert_eq!(address, format!("vsock::{port} (web)"));
    server.signal(Signal::TERM);
    assert!(server.wait().success());
}

#[test]
fn what_the_kernel_refuses_is_refused_with_the_reason() {
    // A kernel without the family, and the default profile of a container engine.
    for (filter, reason) in [
        ("EAFNOSUPPORT:vsock", "this kernel has no vsock: load its module (`modprobe vsock`)"),
        ("EPERM:vsock", "a security policy forbids it (seccomp"),
    ] {
        let wrapper = under(&[filter]);
        let wrapper: Vec<&OsStr> = wrapper.iter().map(AsRef::as_ref).collect();
        refused(&wrapper, &["vsock:5000"], reason);
    }
    if !has_vsock() {
        return;
    }
    let ordinary = "setpriv --reuid=61008 --regid=61008 --clear-groups --bounding-set=-all --inh-caps=-all";
    let ordinary: Vec<&OsStr> = ordinary.split(' ').map(AsRef::as_ref).collect();
    let folder = Folder::new("vsock-ordinary");
    let copy = folder.copy_of_tine();
    let mut command = Command::new(ordinary[0]);
    command.args(&ordinary[1..]).arg(copy).args(["serve", "vsock:80"]);
    let (code, _, err) = run(&mut command);
    assert!(code == 111 && err.contains("choose a port from 1024 up"), "{code} {err}");
    // No machine has the CID of the hypervisor.
    refused(&[], &["vsock:0:5000"], "leave the CID out");
}

#[test]
fn addresses_that_cannot_be_used_together_or_at_all_are_usage_errors() {
    for (words, reason) in [
        (&["vsock:5000", "vsock:2:5000"][..], "vsock::5000 and vsock:2:5000 cannot be listened on together"),
        (&["vsock:2:x"], "the port is not a number from 0 to 4294967295"),
        (&["vsock:host:5000"], "the CID is not a number"),
        (&["vsock://2:5000"], "write vsock:2:5000"),
        (&["--allow", "vsock:host", "vsock:5000"], "write vsock:CID"),
        (&["--allow", "vsock:2", "--deny", "vsock:2", "vsock:5000"], "both allowed and denied"),
    ] {
        let (code, _, err) = run(Command::new(tine()).arg("serve").args(words));
        assert!(code == 100 && err.contains(reason), "{words:?}: {code} {err}");
    }
}

#[test]
fn a_client_without_a_way_to_the_machine_says_so() {
    // No machine has this CID. The kernel reports it, or nothing answers.
    let (code, out, err) =
        run(Command::new(tine()).args(["client", "--wait", "1s", "vsock:4000000000:5000"]));
    assert_eq!((code, out.as_str()), (111, ""), "{err}");
    assert!(
        err.starts_with("tine: cannot connect to vsock:4000000000:5000: ") && err.contains("; "),
        "{err}"
    );
    let next = ["check the CID", "check that this machine has a way there", "use a kernel with vsock"];
    assert!(next.iter().any(|next| err.contains(next)), "{err}");
}
