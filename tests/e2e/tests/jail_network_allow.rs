//! `--network-allow`: connections from full jails to endpoints that were named, and to no other.

use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use tine_e2e::outgoing::{BEGIN, Greeter, lines, server};
use tine_e2e::server::built;
use tine_e2e::{Folder, Server, ServerCommand, run, tine};

#[test]
fn a_program_connects_to_what_is_allowed_as_without_a_jail() {
    let (four, six) = (Greeter::start("127.0.0.1"), Greeter::start("::1"));
    let script = format!(
        "tries('blocking', lambda: connected('127.0.0.1', {four}))\n\
         tries('timeout', lambda: connected('127.0.0.1', {four}, 10))\n\
         async def later():\n\
         \x20   reader, _ = await asyncio.open_connection('127.0.0.1', {four})\n\
         \x20   return (await reader.readline()).decode().strip()\n\
         tries('asyncio', lambda: asyncio.run(later()))\n\
         tries('v6', lambda: connected('::1', {six}))\n\
         def mapped():\n\
         \x20   stream = socket.socket(socket.AF_INET6)\n\
         \x20   stream.connect(('::ffff:127.0.0.1', {four}))\n\
         \x20   return greeting(stream), stream.getpeername()[0]\n\
         tries('mapped', mapped)\n\
         def options():\n\
         \x20   stream = socket.socket()\n\
         \x20   stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n\
         \x20   stream.set_inheritable(True)\n\
         \x20   number = stream.fileno()\n\
         \x20   stream.connect(('127.0.0.1', {four}))\n\
         \x20   return (stream.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), stream.get_inheritable(),\n\
         \x20           os.get_blocking(number), number == stream.fileno(), greeting(stream))\n\
         tries('options', options)\n\
         def again():\n\
         \x20   stream = socket.create_connection(('127.0.0.1', {four}))\n\
         \x20   stream.connect(('127.0.0.1', {four}))\n\
         tries('again', again)\n\
         found = []\n\
         threads = [threading.Thread(target=lambda: found.append(connected('127.0.0.1', {four})))\n\
         \x20          for _ in range(8)]\n\
         for one in threads: one.start()\n\
         for one in threads: one.join()\n\
         print('threads', len(found), set(found))\n",
        four = four.port(),
        six = six.port(),
    );
    let server = server(&["--spares", "1"], &[four.endpoint(), six.endpoint()], &script);
    let expected = [
        "blocking hello",
        "timeout hello",
        "asyncio hello",
        "v6 hello",
        "mapped ('hello', '::ffff:127.0.0.1')",
        "options (1, True, True, True, 'hello')",
        "again Transport endpoint is already connected",
        "threads 8 {'hello'}",
    ];
    assert_eq!(lines(&mut server.connect()), expected);
}

#[test]
fn a_program_reaches_nothing_else() {
    let (allowed, other) = (Greeter::start("127.0.0.1"), Greeter::start("127.0.0.1"));
    let script = format!(
        "tries('port', lambda: connected('127.0.0.1', {other}))\n\
         tries('host', lambda: connected('127.0.0.2', {allowed}))\n\
         tries('elsewhere', lambda: connected('192.0.2.1', {allowed}))\n\
         tries('unspecified', lambda: connected('0.0.0.0', {other}))\n\
         async def later():\n\
         \x20   await asyncio.open_connection('127.0.0.1', {other})\n\
         tries('asyncio', lambda: asyncio.run(later()))\n\
         def datagram():\n\
         \x20   socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', {allowed}))\n\
         tries('datagram', datagram)\n\
         def fast():\n\
         \x20   socket.socket().sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', {allowed}))\n\
         tries('fast', fast)\n\
         def routed(level, option):\n\
         \x20   return lambda: socket.socket().setsockopt(level, option, bytes([131, 7, 4, 127, 0, 0, 1, 0]))\n\
         tries('routed', routed(socket.IPPROTO_IP, socket.IP_OPTIONS))\n\
         def local():\n\
         \x20   path = '/tmp/' + 'x' * 50\n\
         \x20   with socket.socket(socket.AF_UNIX) as listener:\n\
         \x20       listener.bind(path); listener.listen()\n\
         \x20       socket.socket(socket.AF_UNIX).connect(path)\n\
         \x20   return 'works'\n\
         tries('local', local)\n",
        allowed = allowed.port(),
        other = other.port(),
    );
    let server = server(&[], &[allowed.endpoint()], &script);
    let expected = [
        "port Permission denied",
        "host Permission denied",
        "elsewhere Permission denied",
        "unspecified Permission denied",
        "asyncio Permission denied",
        "datagram Network is unreachable",
        "fast Operation not supported",
        "routed Operation not permitted",
        "local works",
    ];
    assert_eq!(lines(&mut server.connect()), expected);
}

#[test]
fn a_socket_that_was_passed_in_is_of_use_for_its_peer_only() {
    let (allowed, other) = (Greeter::start("127.0.0.1"), Greeter::start("127.0.0.1"));
    let script = format!(
        "stream = socket.create_connection(('127.0.0.1', {allowed}))\n\
         libc = ctypes.CDLL(None, use_errno=True)\n\
         print('disconnected', libc.connect(stream.fileno(), bytes(16), 16))\n\
         tries('other', lambda: stream.connect(('127.0.0.1', {other})))\n\
         tries('fast', lambda: stream.sendto(b'x', socket.MSG_FASTOPEN, ('127.0.0.1', {other})))\n\
         tries('bound', lambda: stream.bind(('127.0.0.1', 0)))\n\
         tries('detached', lambda: stream.setsockopt(socket.SOL_SOCKET, 27, 0))\n\
         stream.listen()\n\
         print('listens', stream.getsockname()[1], flush=True)\n\
         input()\n\
         stream.setblocking(False)\n\
         tries('accept', lambda: stream.accept())\n\
         stream = socket.socket()\n\
         stream.connect(('127.0.0.1', {allowed}))\n\
         libc.connect(stream.fileno(), bytes(16), 16)\n\
         stream.connect(('127.0.0.1', {allowed}))\n\
         print('again', greeting(stream), flush=True)\n",
        allowed = allowed.port(),
        other = other.port(),
    );
    let server = server(&[], &[allowed.endpoint()], &script);
    let mut client = server.connect();
    for expected in [
        "disconnected 0",
        "other Permission denied",
        "fast Operation not supported",
        "bound Permission denied",
        "detached Operation not permitted",
    ] {
        assert_eq!(client.read_line(), expected);
    }
    let line = client.read_line();
    let port = line.strip_prefix("listens ").and_then(|port| port.parse::<u16>().ok()).expect("a port");
    // It is a port of the machine: a connection would be refused if nothing listened there.
    let connected =
        TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(500));
    assert_eq!(connected.expect_err("no answer").kind(), std::io::ErrorKind::TimedOut);
    client.send("\n");
    assert_eq!(client.read_line(), "accept Resource temporarily unavailable");
    assert_eq!(client.read_line(), "again hello");
}

#[test]
fn whoever_serves_connections_they_can_connect() {
    let allowed = Greeter::start("127.0.0.1");
    let script = format!(
        "tries('allowed', lambda: connected('127.0.0.1', {port}))\n\
         tries('other', lambda: connected('127.0.0.2', {port}))\n",
        port = allowed.port()
    );
    for options in [
        &["--user", "nobody"][..],
        &["--uid-range", "300000-301100"],
        &["--private-network", "loopback"],
        &["--pty"],
        &["--jail=auto"],
    ] {
        let server = server(options, &[allowed.endpoint()], &script);
        let answer = if options.contains(&"loopback") { "Connection refused" } else { "Permission denied" };
        let expected = ["allowed hello".to_owned(), format!("other {answer}")];
        assert_eq!(lines(&mut server.connect()), expected, "{options:?}");
    }
}

#[test]
fn an_ordinary_user_can_allow_endpoints() {
    let allowed = Greeter::start("127.0.0.1");
    let folder = Folder::new("jail-network-allow");
    std::fs::set_permissions(folder.path(""), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let script = format!(
        "{BEGIN}tries('allowed', lambda: connected('127.0.0.1', {port}))\n\
         tries('other', lambda: connected('127.0.0.2', {port}))\n\
         stream = socket.create_connection(('127.0.0.1', {port}))\n\
         ctypes.CDLL(None).connect(stream.fileno(), bytes(16), 16)\n\
         tries('listens', lambda: stream.listen() or stream.getsockname()[1])\n",
        port = allowed.port()
    );
    let words = ["setpriv", "--reuid", "61234", "--regid", "61234", "--clear-groups", "--"];
    let endpoint = allowed.endpoint();
    let options = ["--jail", "--stderr", "client", "--network-allow", &endpoint];
    let mut command = ServerCommand::wrapped(words, options);
    command.command().args(["--", "/usr/bin/python3", "-c", &script]);
    let server = command.start();
    let found = lines(&mut server.connect());
    assert_eq!(found[..2], ["allowed hello", "other Permission denied"]);
    // Where the kernel lets him have a filter of packets, the socket listens, and receives nothing.
    let listens = found[2].strip_prefix("listens ").expect("a result");
    let Ok(port) = listens.parse::<u16>() else {
        assert_eq!(listens, "Operation not permitted");
        return;
    };
    TcpStream::connect_timeout(&SocketAddr::from(([127, 0, 0, 1], port)), Duration::from_millis(500))
        .expect_err("it receives packets of its peer only");
}

#[test]
fn names_are_found_without_a_name_server() {
    let allowed = Greeter::start("127.0.0.1");
    let folder = Folder::new("network-allow-names");
    let hosts = "127.0.0.1 localhost\n127.0.0.1 db.test other.test\n";
    folder.write("hosts", hosts);
    let script = format!(
        "{BEGIN}tries('name', lambda: connected('db.test', {}))\n\
         print(open('/etc/hosts').read().endswith('other.test\\n127.0.0.1 db.test\\n'))\n\
         tries('file', lambda: open('/etc/hosts', 'w'))\n",
        allowed.port()
    );
    let mount = "mount --make-rprivate / && mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let words = ["unshare", "-m", "sh", "-c", mount, &folder.path("hosts")];
    let endpoint = format!("DB.test:{}", allowed.port());
    let mut command = ServerCommand::wrapped(words, ["--jail", "--network-allow", &endpoint]);
    command.command().args(["--stderr", "client", "--", "/usr/bin/python3", "-c", &script]);
    let server = command.start();
    assert_eq!(lines(&mut server.connect()), ["name hello", "True", "file Read-only file system"]);
}

#[test]
fn handlers_connect_too() {
    let (allowed, other) = (Greeter::start("127.0.0.1"), Greeter::start("127.0.0.1"));
    let server = ServerCommand::program(built("connecting"), &[&allowed.endpoint()]).start();
    for (address, expected) in [(allowed.endpoint(), "hello\n"), (other.endpoint(), "PermissionDenied\n")] {
        let mut client = server.connect();
        client.send(format!("{address}\n"));
        assert_eq!(client.half_close().read_text(), expected);
    }
}

#[test]
fn a_jail_with_endpoints_has_its_own_loopback_addresses_beside_them() {
    let (allowed, other) = (Greeter::start("127.0.0.1"), Greeter::start("127.0.0.1"));
    let script = format!(
        "def own():\n\
         \x20   with socket.socket() as listener:\n\
         \x20       listener.bind(('127.0.0.1', 0)); listener.listen()\n\
         \x20       socket.create_connection(listener.getsockname()).close()\n\
         \x20   return 'works'\n\
         tries('own', own)\n\
         tries('allowed', lambda: connected('127.0.0.1', {allowed}))\n\
         tries('other', lambda: connected('127.0.0.1', {other}))\n\
         stream = socket.create_connection(('127.0.0.1', {allowed}))\n\
         ctypes.CDLL(None).connect(stream.fileno(), bytes(16), 16)\n\
         tries('passed', lambda: stream.connect(('127.0.0.1', {other})))\n",
        allowed = allowed.port(),
        other = other.port(),
    );
    let server = server(&["--private-network", "loopback"], &[allowed.endpoint()], &script);
    let expected = ["own works", "allowed hello", "other Connection refused", "passed Permission denied"];
    assert_eq!(lines(&mut server.connect()), expected);
}

#[test]
fn what_cannot_be_is_refused_at_the_start() {
    for (options, words) in [
        (&["--network-allow", "192.0.2.1:443"][..], "only a full jail"),
        (&["--jail=light", "--user", "nobody", "--network-allow", "192.0.2.1:443"], "only a full jail"),
        (&["--jail", "--private-network", "no", "--network-allow", "192.0.2.1:443"], "the machine"),
        (&["--jail", "--network-allow", "192.0.2.1"], "no port"),
        (&["--jail", "--network-allow", "192.0.2.1:http"], "port"),
        (&["--jail", "--network-allow", "name.invalid:80"], "name.invalid"),
        (
            &["--jail", "--system-call-filter", "~connect", "--network-allow", "192.0.2.1:443"],
            "no program connect",
        ),
    ] {
        let mut command = Command::new(tine());
        command.args(["serve", "-1"]).args(options).args(["127.0.0.1:0", "--", "true"]);
        let (code, _, stderr) = run(&mut command);
        assert!(code == 100 || code == 111, "{options:?}: {code}");
        assert!(stderr.contains(words), "{options:?}: {stderr}");
    }
}

#[test]
fn the_layer_is_told() {
    let options = ["--jail", "--network-allow", "192.0.2.1:443", "--network-allow", "[2001:db8::]/32:*"];
    let server = Server::program(&options, &["true"]);
    let layers = server.log.of("jail");
    let layer = layers.iter().find(|line| line["layer"] == "network-allow").expect("a line");
    assert_eq!(
        (&layer["state"], &layer["detail"]),
        (&"on".into(), &"192.0.2.1:443 [2001:db8::]/32:*".into())
    );
}
