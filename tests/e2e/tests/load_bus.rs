//! `tine load --bus`: several agents measure one load, as one client would.

use std::process::Command;

use serde_json::Value;
use tine_e2e::bus::{NatsServer, OnBus};
use tine_e2e::load::{Loaded, load};
use tine_e2e::{Folder, Server, network, procfs, run, tine, wait_until};

/// A load whose schedule is the same each time, and which ends when all of it is done.
fn words(address: &str) -> [&str; 12] {
    ["crr", address, "-p", "4", "--rate", "200/s", "-n", "400", "-c", "64", "--max-lateness", "5s"]
}

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// The counts of everything that a schedule determines.
fn counts(loaded: &Loaded) -> Value {
    let count = |measure: &str| loaded.number(&format!("/findings/records/{measure}/count"));
    let measures = ["exchange", "uncorrected", "connect", "first-byte", "lateness"].map(count);
    serde_json::json!({
        "durations": measures,
        "connections": loaded.report["findings"]["connections"],
        "exchanges": loaded.report["findings"]["exchanges"],
        "bytes": loaded.report["findings"]["bytes"],
        "plan": loaded.report["plan"],
    })
}

#[test]
fn four_agents_measure_what_one_process_does() {
    network::own();
    let (bus, server, folder) = (NatsServer::start(&[]), Server::serve(&[]), Folder::new("bus-four"));
    let address = address(&server);
    let alone = load(&words(&address));
    alone.expect_sound();
    let mut agents = OnBus::agents(4, &bus.url(), &folder);
    let coordinator = OnBus::coordinator(&bus.url(), &[&words(&address)[..], &["--agents", "4"]].concat());
    let together = coordinator.loaded();
    together.expect_sound();
    assert_eq!(counts(&together), counts(&alone));
    together.expect_done(400);
    let each = together.report["agents"]["each"].as_array().expect("agents");
    let names: Vec<&str> = each.iter().filter_map(|agent| agent["name"].as_str()).collect();
    assert!(each.iter().all(|agent| agent["processes"] == 1 && agent["connections"] == 16), "{each:?}");
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{names:?}");
    for agent in &mut agents {
        assert_eq!(agent.wait_for_end().code(), Some(0), "{:?}", agent.log.lines());
    }
    // Acknowledged results are removed.
    assert_eq!(std::fs::read_dir(&folder.0).expect("a folder").count(), 0);
}

#[test]
fn agents_start_together_as_their_own_clocks_say() {
    network::own();
    let (bus, server, folder) = (NatsServer::start(&[]), Server::serve(&[]), Folder::new("bus-start"));
    let agent = |_| {
        // Other tests run on these processors: this one is about clocks.
        let mut command = Command::new("chrt");
        command.args(["--fifo", "1"]).arg(tine()).args(["load", "agent", "--once", "--bus", &bus.url()]);
        // One that is killed at the end of the test may not have removed its result.
        command.arg("--results").arg(&folder.0);
        let agent = OnBus::start(command);
        agent.wait_for("waits for a run");
        agent
    };
    let agents: Vec<OnBus> = (0..4).map(agent).collect();
    let address = address(&server);
    let words = ["rr", &address, "--agents", "4", "-p", "4", "-c", "4", "--rate", "20/s", "-d", "1s"];
    let loaded = OnBus::coordinator(&bus.url(), &[&words[..], &["--max-lateness", "1s"]].concat()).loaded();
    assert_eq!(loaded.code, 0, "{} {}", loaded.err, loaded.report["validity"]);
    let skew = loaded.number("/agents/start_skew_ns");
    assert!(skew < 5e6, "{skew} ns: {}", loaded.report["agents"]);
    // All have the clock of this machine: what was measured is an error, and no greater than said.
    for agent in loaded.report["agents"]["each"].as_array().expect("agents") {
        let (offset, uncertainty) =
            (agent["clock_offset_ns"].as_f64(), agent["clock_uncertainty_ns"].as_f64());
        assert!(offset.expect("one").abs() <= uncertainty.expect("one"), "{agent}");
    }
    drop(agents);
    // As long as they might be further apart than that, the result says so.
    let agents = OnBus::agents(2, &bus.url(), &folder);
    let words = ["crr", &address, "--agents", "2", "-p", "2", "-n", "4", "--max-lateness", "1ns"];
    let loaded = OnBus::coordinator(&bus.url(), &words).loaded();
    let reasons = loaded.report["validity"]["reasons"].to_string();
    assert!(loaded.code == 4 && reasons.contains("did not start together"), "{} {reasons}", loaded.code);
    drop(agents);
}

#[test]
fn processes_that_generate_load_have_one_thread_and_no_bus() {
    network::own();
    let (bus, server, folder) = (NatsServer::start(&[]), Server::serve(&[]), Folder::new("bus-threads"));
    let agent = OnBus::agent(&bus.url(), &folder, &[]);
    let words = ["hold", &address(&server), "--agents", "1", "-p", "2", "-c", "4", "-d", "20s"];
    let coordinator = OnBus::coordinator(&bus.url(), &words);
    for name in ["tine: runner", "tine: load 1", "tine: load 2"] {
        let process = agent.wait_for_process(name);
        assert_eq!(procfs::status(process.pid, "Threads"), "1", "{name}");
        let sockets = procfs::tcp_sockets(process.pid);
        let to_bus = sockets.iter().filter(|socket| socket.peer_port == bus.port).count();
        assert_eq!(to_bus, 0, "{name}");
    }
    drop(coordinator);
}

#[test]
fn by_default_each_processor_of_each_agent_has_a_process() {
    network::own();
    let (bus, server, folder) = (NatsServer::start(&[]), Server::serve(&[]), Folder::new("bus-default"));
    let processors = std::thread::available_parallelism().expect("a number").get() as u64;
    let _agents = OnBus::agents(2, &bus.url(), &folder);
    let words = ["crr", &address(&server), "--agents", "2", "-n", "64", "--max-lateness", "5s"];
    let loaded = OnBus::coordinator(&bus.url(), &words).loaded();
    loaded.expect_sound();
    assert_eq!(loaded.report["plan"]["processes"], 2 * processors);
    assert_eq!(loaded.report["plan"]["connections"], 32 * processors);
    assert_eq!(loaded.state("ok"), 64);
}

#[test]
fn agents_serve_one_run_after_another_and_only_as_many_as_are_needed() {
    network::own();
    let (bus, server) = (NatsServer::start(&[]), Server::serve(&[]));
    let agent = |_| {
        let mut command = Command::new(tine());
        command.args(["load", "agent", "--bus", &bus.url(), "--results", "/nonexistent"]);
        let agent = OnBus::start(command);
        agent.wait_for("waits for a run");
        agent
    };
    let agents: Vec<OnBus> = (0..3).map(agent).collect();
    let address = address(&server);
    for _ in 0..2 {
        let words = ["crr", &address, "--agents", "2", "-p", "2", "-n", "10", "--max-lateness", "5s"];
        let loaded = OnBus::coordinator(&bus.url(), &words).loaded();
        loaded.expect_sound();
        assert_eq!(loaded.state("ok"), 10);
    }
    for agent in &agents {
        wait_until("its runner has ended", || (agent.processes().len() == 1).then_some(()));
    }
    // The directory for results does not exist: it says so, and works nevertheless.
    assert!(agents.iter().any(|agent| agent.log.lines().iter().any(|line| line.contains("cannot write"))));
}

#[test]
fn a_result_of_agents_matches_the_json_schema() {
    network::own();
    let (bus, server, folder) = (NatsServer::start(&[]), Server::serve(&[]), Folder::new("bus-schema"));
    let _agents = OnBus::agents(2, &bus.url(), &folder);
    let words = ["crr", &address(&server), "--agents", "2", "-p", "2", "-n", "10"];
    let loaded = OnBus::coordinator(&bus.url(), &words).loaded();
    let result = folder.write("result.json", &loaded.report.to_string());
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/load.schema.json");
    let check = "import json, jsonschema, sys\n\
                 schema, result = (json.load(open(path)) for path in sys.argv[1:])\n\
                 assert len(result['agents']['each']) == 2\n\
                 jsonschema.Draft202012Validator(schema).validate(result)\n";
    let (code, _, err) = run(Command::new("python3").args(["-c", check, schema]).arg(&result));
    assert_eq!(code, 0, "{err}");
}

#[test]
fn agents_are_started_by_ssh() {
    network::own();
    let (bus, server, folder) = (NatsServer::start(&[]), Server::serve(&[]), Folder::new("bus-ssh"));
    let path = |name: &str| folder.path(name);
    for key in ["host", "user"] {
        let words = ["-q", "-t", "ed25519", "-N", "", "-f", &path(key)];
        assert_eq!(run(Command::new("ssh-keygen").args(words)).0, 0);
    }
    std::fs::create_dir_all("/run/sshd").expect("root");
    let programs = tine().parent().expect("a directory").display().to_string();
    let search = std::env::var("PATH").expect("a path");
    let mark = format!("TINE_SSH_MARK={}", std::process::id());
    let config = format!(
        "Port 2222\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PidFile none\nPermitRootLogin yes\nSetEnv PATH={programs}:{search} {mark}\n",
        path("host"),
        path("user.pub"),
    );
    let config = folder.write("sshd_config", &config).display().to_string();
    let mut command = Command::new("/usr/sbin/sshd");
    command.args(["-D", "-e", "-f", &config]);
    let sshd = OnBus::start(command);
    sshd.wait_for("Server listening on 127.0.0.1 port 2222");
    // The ssh of the user, with the port and the key of this one.
    let options = format!(
        "-p 2222 -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR",
        path("user")
    );
    let wrapper = folder.write("ssh", &format!("#!/bin/sh\nexec /usr/bin/ssh {options} \"$@\"\n"));
    run(Command::new("chmod").arg("755").arg(&wrapper));
    let hosts = folder.write("hosts", "# two on one machine\n127.0.0.1\n\nroot@127.0.0.1\n");
    let mut command = Command::new(tine());
    command.args([
        "load",
        "crr",
        &address(&server),
        "-p",
        "2",
        "-n",
        "10",
        "--max-lateness",
        "5s",
        "--json",
        "-",
    ]);
    command.args(["--bus", &bus.url(), "--ssh-hosts"]).arg(hosts);
    command.env("PATH", format!("{}:{search}", folder.0.display()));
    let loaded = OnBus::start(command).loaded();
    loaded.expect_sound();
    assert_eq!(loaded.report["agents"]["each"].as_array().map(Vec::len), Some(2));
    wait_until("the agents have ended", || procfs::all_with(&mark).is_empty().then_some(()));
    drop(sshd);
}
