//! `tine load --bus`: credentials that open a bus, and the errors of those that do not.

use std::path::Path;
use std::process::Command;

use tine_e2e::bus::{NatsServer, OnBus};
use tine_e2e::load::command;
use tine_e2e::{Folder, Server, network, run, tine};

/// The seed of a key that is used nowhere else, and its public key.
const SEED: &str = "SUABWAKMEF2H5AFSJWPENEZ4WYBB5R4J2WYQRUV3EWG54CORMQWNM4C6RI";
const PUBLIC: &str = "UAEEBSXMGTHWGG74SR3AVL4P5YD232YNFYYCFQ6QOPIZEOBJJBDBPH4B";

/// The configuration of a server with an operator and an account, signed for this test without an
/// end; and the credentials of a user of the account, whose seed is the one above.
const OPERATOR: &str = include_str!("../data/nats-operator.conf");
const CREDENTIALS: &str = include_str!("../data/nats-user.creds");

/// Runs a load on two agents, each with these options, and checks its result.
fn expect_run(url: &str, options: &[&str], folder: &Folder) {
    let server = Server::serve(&[]);
    let address = format!("127.0.0.1:{}", server.port());
    let mut agents = [(); 2].map(|()| OnBus::agent(url, folder, options));
    let words = ["crr", &address, "--agents", "2", "-p", "2", "-n", "10", "--max-lateness", "5s"];
    let loaded = OnBus::coordinator(url, &[&words[..], options].concat()).loaded();
    loaded.expect_sound();
    assert_eq!(loaded.state("ok"), 10);
    agents.iter_mut().for_each(|agent| assert_eq!(agent.wait_for_end().code(), Some(0)));
}

/// Checks that neither an agent nor a coordinator gets onto a bus. Returns what they say.
fn expect_refused(url: &str, options: &[&str], code: i32) -> String {
    let agent = run(Command::new(tine()).args(["load", "agent", "--bus", url]).args(options));
    let words = ["crr", "127.0.0.1:1", "--agents", "1", "--bus", url];
    let coordinator = run(command(&words).args(options));
    assert_eq!((agent.0, coordinator.0), (code, code), "{} {}", agent.2, coordinator.2);
    let said = [agent.2, coordinator.2].concat();
    assert_eq!(said.lines().count(), 2, "{said}");
    said
}

#[test]
fn a_bus_lets_those_in_who_know_its_token_or_password() {
    network::own();
    let folder = Folder::new("bus-token");
    let bus = NatsServer::start(&["--auth", "secret"]);
    let with = |user: &str| format!("nats://{user}@127.0.0.1:{}", bus.port);
    expect_run(&with("secret"), &[], &folder);
    for url in [bus.url(), with("guess")] {
        let said = expect_refused(&url, &[], 111);
        assert!(
            said.contains(&format!("cannot connect to the bus nats://127.0.0.1:{}: ", bus.port)),
            "{said}"
        );
        assert!(said.contains("authorization violation") && !said.contains("guess"), "{said}");
    }
    let bus = NatsServer::start(&["--user", "me", "--pass", "word"]);
    expect_run(&format!("nats://me:word@127.0.0.1:{}", bus.port), &[], &folder);
}

#[test]
fn a_bus_lets_those_in_who_have_the_seed_of_a_key() {
    network::own();
    let folder = Folder::new("bus-nkey");
    let config = folder.write("nats.conf", &format!("authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}"));
    let bus = NatsServer::start(&["-c", &config.display().to_string()]);
    let seed = folder.write("seed", &format!("{SEED}\n")).display().to_string();
    expect_run(&bus.url(), &["--bus-nkey", &seed], &folder);
    expect_refused(&bus.url(), &[], 111);
    // Files that are none are usage errors, and named.
    let said = expect_refused(&bus.url(), &["--bus-nkey", "/nonexistent/seed"], 100);
    assert!(said.contains("cannot use /nonexistent/seed: "), "{said}");
    let said = expect_refused(&bus.url(), &["--bus-credentials", &seed], 100);
    assert!(said.contains(&format!("cannot use {seed}: ")), "{said}");
    let cut = folder.write("cut", &SEED[..SEED.len() - 1]).display().to_string();
    for option in ["--bus-nkey", "--bus-ca"] {
        let said = expect_refused(&bus.url(), &[option, &cut], 100);
        assert!(said.contains(&format!("cannot use {cut}: it has no ")), "{said}");
    }
}

#[test]
fn a_bus_lets_those_in_whose_credentials_its_operator_has_signed() {
    network::own();
    let folder = Folder::new("bus-credentials");
    let config = folder.write("nats.conf", OPERATOR).display().to_string();
    let bus = NatsServer::start(&["-c", &config]);
    let file = folder.write("user.creds", CREDENTIALS).display().to_string();
    expect_run(&bus.url(), &["--bus-credentials", &file], &folder);
    expect_refused(&bus.url(), &[], 111);
    // The seed of the user alone is no credential, nor is what somebody else has signed.
    let seed = folder.write("seed", SEED).display().to_string();
    expect_refused(&bus.url(), &["--bus-nkey", &seed], 111);
    let (jwt, rest) = CREDENTIALS.split_once("\n------END NATS USER JWT").expect("a JWT");
    let (signed, signature) = jwt.rsplit_once('.').expect("a signature");
    let forged: String = signature.chars().rev().collect();
    let file = folder.write("forged.creds", &format!("{signed}.{forged}\n------END NATS USER JWT{rest}"));
    let said = expect_refused(&bus.url(), &["--bus-credentials", &file.display().to_string()], 111);
    assert!(said.contains("authorization violation") && !said.contains(signature), "{said}");
}

/// Makes a certificate for 127.0.0.1, which no other has signed. Returns its file and that of the
/// key.
fn certificate(folder: &Path, name: &str) -> [String; 2] {
    let [file, key] = ["crt", "key"].map(|kind| folder.join(format!("{name}.{kind}")).display().to_string());
    let (code, _, err) = run(Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
        .args(["-days", "1", "-subj", "/CN=bus", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", &key, "-out", &file]));
    assert_eq!(code, 0, "{err}");
    [file, key]
}

#[test]
fn a_bus_over_tls_needs_a_certificate_of_a_known_authority() {
    network::own();
    let folder = Folder::new("bus-tls");
    let [[file, key], [other, _]] = ["bus", "other"].map(|name| certificate(&folder.0, name));
    let bus = NatsServer::start(&["--tls", "--tlscert", &file, "--tlskey", &key]);
    expect_run(&bus.url(), &["--bus-ca", &file], &folder);
    for options in [&["--bus-ca", &other][..], &[]] {
        let said = expect_refused(&bus.url(), options, 111);
        assert!(said.contains("ertificate"), "{said}");
    }
    // One without TLS is not used when TLS is required.
    let plain = NatsServer::start(&[]);
    expect_refused(&plain.url(), &["--bus-ca", &file], 111);
    expect_refused(&format!("tls://127.0.0.1:{}", plain.port), &["--bus-ca", &file], 111);
}

#[test]
fn a_bus_that_is_not_there_and_wrong_options_are_errors() {
    network::own();
    let said = expect_refused("nats://127.0.0.1:1", &[], 111);
    assert!(said.contains("onnection refused"), "{said}");
    let said = expect_refused("http://127.0.0.1:1", &[], 100);
    assert!(said.contains("bad address of a bus"), "{said}");
    for (words, why) in [
        (&["crr", "127.0.0.1:1", "--bus", "nats://a"][..], "--bus without --agents"),
        (&["crr", "127.0.0.1:1", "--agents", "2"], "--bus <URL>"),
        (&["crr", "unix:/a", "--bus", "nats://a", "--agents", "2"], "agents connect over TCP only"),
        (
            &["crr", "1", "--bus", "nats://a", "--agents", "2", "--allow-lost", "2"],
            "all of 2 agents may be lost",
        ),
        (&["crr", "1", "--bus", "nats://a", "--agents", "2", "-p", "1"], "cannot be divided among 2 agents"),
        (&["crr", "1", "--bus", "nats://a", "--agents", "1", "-m", "\\x"], "invalid escape"),
        (&["agent"], "--bus <URL>"),
    ] {
        let (code, _, err) = run(&mut command(words));
        assert!(code == 100 && err.contains(why), "{words:?}: {code} {err}");
    }
}

#[test]
fn an_agent_whose_machine_cannot_run_the_load_says_why() {
    network::own();
    let (bus, folder) = (NatsServer::start(&[]), Folder::new("bus-cannot"));
    let mut agent = OnBus::agent(&bus.url(), &folder, &[]);
    let words = ["load", "crr", "no-such-host.invalid:1", "--bus", &bus.url(), "--agents", "1"];
    let (code, _, err) = run(Command::new(tine()).args(words));
    assert!(code == 111 && err.contains("no-such-host.invalid"), "{code} {err}");
    agent.wait_for_end();
}
