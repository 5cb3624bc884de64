//! The PROXY protocol with several services under a master, and when access rules are reloaded.

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::names::{PROXY_READER, REJECT};
use tine_e2e::proxies::{behind_proxies, line, proxy_reader, wait_until_read};
use tine_e2e::{Client, Folder, Server, ServerCommand, kill, procfs, tine, wait_until};

const MODES: [&[&str]; 4] =
    [&[], &["--forkers", "1"], &["--spares", "4"], &["--spares", "4", "--reuse", "100"]];

/// The same as keys of a service.
const KEYS: [&str; 4] = ["", "forkers = 1", "spares = 4", "spares = 4\nreuse = 100"];

/// Two services, the first of which has proxies, in a mode each.
fn serve(folder: &Folder, mode: &str, more: &str) -> Server {
    let service = |name: &str| format!("[services.{name}]\nlisten = '127.0.0.1:0'\n{mode}\n");
    let proxies = format!("proxy-from = ['127.0.0.1']\n{more}\n");
    let file = folder.write("tine.toml", &(service("behind") + &proxies + &service("direct")));
    let file = file.to_str().expect("a path in UTF-8");
    ServerCommand::program(tine(), &["serve", "--config", file, "--log", "json", "-1"]).start()
}

/// A proxy that has sent a header for a client of this address to a port.
fn proxied(port: u16, source: &str) -> Client {
    let mut client = Client::connect(port);
    client.send(line(source));
    client
}

/// The event of a service about the connection of this address.
fn of_peer(server: &Server, event: &str, peer: &str) -> Value {
    server.log.wait(&format!("{event} of {peer}"), |log| {
        log.of(event).into_iter().find(|event| event["peer"] == peer)
    })
}

fn supervisor(server: &Server, service: &str) -> i32 {
    let name = format!("tine: {service}");
    wait_until("the supervisor runs", || {
        procfs::children(server.pid()).into_iter().find(|child| child.name == name).map(|child| child.pid)
    })
}

#[test]
fn each_service_has_its_own_proxies() {
    for mode in KEYS {
        let folder = Folder::new("proxies-of-services");
        let mut server = serve(&folder, mode, "");
        let (behind, direct) = (server.log.port_of("behind"), server.log.port_of("direct"));
        let mut client = proxied(behind, "192.0.2.1");
        client.echo("served");
        let accept = of_peer(&server, "accept", "192.0.2.1:4711");
        assert_eq!((&accept["service"], &accept["proxy"]), (&"behind".into(), &client.address().into()));
        // To the other one, a header is data, and a client is one.
        let mut other = Client::connect(direct);
        other.echo(line("192.0.2.2"));
        let accept = of_peer(&server, "accept", &other.address());
        assert_eq!((&accept["service"], &accept["proxy"]), (&"direct".into(), &Value::Null));
        assert_eq!(server.named(PROXY_READER).len(), 1, "{mode}");
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 2);
        assert_eq!((client.finish(), other.finish()), (vec![], vec![]));
        assert_eq!(server.wait().code(), Some(0), "{mode}");
        server.wait_until_gone();
    }
}

#[test]
fn a_drain_of_a_master_waits_for_headers() {
    for mode in KEYS {
        let folder = Folder::new("proxies-drain");
        let mut server = serve(&folder, mode, "proxy-timeout = '1h'");
        let mut late = Client::connect(server.log.port_of("behind"));
        let header = line("192.0.2.1");
        late.send(&header[..20]);
        wait_until_read(&server, &[&late]);
        server.signal(Signal::TERM);
        server.log.wait_for("drain", 2);
        late.send(&header[20..]).echo("served").finish();
        assert_eq!(server.wait().code(), Some(0), "{mode}");
        assert_eq!(of_peer(&server, "end", "192.0.2.1:4711")["service"], "behind");
    }
}

#[test]
fn a_restarted_supervisor_has_a_proxy_reader_again() {
    let folder = Folder::new("proxies-restart");
    let server = serve(&folder, "", "");
    let (behind, direct) = (server.log.port_of("behind"), server.log.port_of("direct"));
    let mut other = Client::connect(direct);
    other.echo("before");
    let reader = proxy_reader(&server);
    kill(supervisor(&server, "behind"), Signal::KILL);
    wait_until("the proxy reader has died with it", || (!procfs::is_running(reader)).then_some(()));
    proxied(behind, "192.0.2.1").echo("by the next one").finish();
    assert_eq!(of_peer(&server, "accept", "192.0.2.1:4711")["service"], "behind");
    other.echo("after").finish();
}

#[test]
fn rules_that_are_reloaded_apply_to_the_addresses_in_headers() {
    // At the same time, since a reload waits for a second change.
    std::thread::scope(|scope| {
        for (number, mode) in MODES.into_iter().enumerate() {
            scope.spawn(move || reload(mode, number));
        }
    });
}

fn reload(mode: &[&str], number: usize) {
    let folder = Folder::new(&format!("proxies-reload-{number}"));
    let rules = folder.write("rules", "");
    let path = rules.to_str().expect("a path in UTF-8");
    let server = behind_proxies(&["--rules", path, "--proxy-timeout", "1h"], mode);
    let mut served = proxied(server.port(), "192.0.2.1");
    served.echo("served");
    let mut pending = Client::connect(server.port());
    let header = line("192.0.2.1");
    pending.send(&header[..20]);
    wait_until_read(&server, &[&pending]);
    let reader = proxy_reader(&server);
    let reloads = server.log.of("reload").len();
    std::fs::write(&rules, "192.0.2.1:deny\n").expect("ours");
    server.signal(Signal::HUP);
    server.log.wait("the rules are reloaded", |log| {
        log.of("reload")[reloads..].iter().find(|reload| reload["rules"] == 1).cloned()
    });
    // No connection and no process is affected, and no header is lost; the header decides.
    served.echo("not affected");
    pending.send(&header[20..]).expect_closed();
    let reject = server.log.wait("the client is rejected", |log| log.of(REJECT).into_iter().next());
    assert_eq!(
        (&reject["peer"], &reject["reason"]),
        (&"192.0.2.1:4711".into(), &"denied".into()),
        "{mode:?}"
    );
    assert_eq!(reject["proxy"], pending.address().as_str(), "{mode:?}");
    proxied(server.port(), "192.0.2.2").echo("another client of the same proxy");
    assert_eq!(proxy_reader(&server), reader, "{mode:?}");
    assert!(server.log.of("restart").is_empty(), "{mode:?}");
}

#[test]
fn a_hup_to_the_supervisor_of_a_service_reloads_its_rules() {
    let folder = Folder::new("proxies-hup");
    let rules = folder.write("rules", "");
    let server = serve(&folder, "", &format!("rules = '{}'", rules.display()));
    let behind = server.log.port_of("behind");
    proxied(behind, "192.0.2.1").echo("served").finish();
    std::fs::write(&rules, "192.0.2.1:deny\n").expect("ours");
    // The master reads its configuration again, which is the same.
    server.signal(Signal::HUP);
    server.log.wait_for("replace", 1);
    kill(supervisor(&server, "behind"), Signal::HUP);
    server.log.wait("the rules are reloaded", |log| {
        log.of("reload").into_iter().find(|reload| reload["rules"] == 1 && reload["service"] == "behind")
    });
    proxied(behind, "192.0.2.1").expect_closed();
    let reject = of_peer(&server, REJECT, "192.0.2.1:4711");
    assert_eq!((&reject["service"], &reject["reason"]), (&"behind".into(), &"denied".into()));
    // Clients of the other service are not behind a proxy.
    Client::connect(server.log.port_of("direct")).echo("served").finish();
}
