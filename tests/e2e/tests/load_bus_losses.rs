//! `tine load --bus` when agents, coordinators and the bus are killed, stopped or cut off: the run
//! ends with the right verdict, and nothing is left.

use std::process::Command;

use rustix::process::Signal;
use tine_e2e::bus::{Cable, NatsServer, OnBus};
use tine_e2e::load::Loaded;
use tine_e2e::{Folder, Server, kill, network, run, tine, wait_until};

/// A bus, a server to load, and a folder for results.
struct Place {
    bus: NatsServer,
    server: Server,
    folder: Folder,
}

fn place(name: &str) -> Place {
    network::own();
    Place { bus: NatsServer::start(&[]), server: Server::serve(&[]), folder: Folder::new(name) }
}

impl Place {
    fn agents(&self, number: usize) -> Vec<OnBus> {
        OnBus::agents(number, &self.bus.url(), &self.folder)
    }

    /// Starts a load of one process for each agent.
    fn load(&self, agents: &str, duration: &str, options: &[&str]) -> OnBus {
        let address = format!("127.0.0.1:{}", self.server.port());
        let words = ["rr", &address, "--agents", agents, "-p", agents, "-c", agents, "--rate", "40/s"];
        let words = [&words[..], &["-d", duration, "--max-lateness", "5s"], options].concat();
        OnBus::coordinator(&self.bus.url(), &words)
    }

    /// The results that were not acknowledged.
    fn results(&self) -> Vec<std::path::PathBuf> {
        std::fs::read_dir(&self.folder.0).expect("a folder").flatten().map(|entry| entry.path()).collect()
    }
}

/// Waits until each agent runs its load.
fn wait_for_load(agents: &[OnBus]) {
    agents.iter().for_each(|agent| drop(agent.wait_for_process("tine: load ")));
}

fn expect_lost(loaded: &Loaded, why: &str) {
    let reasons = loaded.report["validity"]["reasons"].to_string();
    assert!(
        loaded.code == 4 && reasons.contains(" was lost: ") && reasons.contains(why),
        "{} {reasons}",
        loaded.code
    );
}

/// Waits until agents have ended by themselves, with everything that they have started.
fn expect_no_rest(agents: &mut [OnBus]) {
    for agent in agents {
        agent.wait_for_end();
    }
}

#[test]
fn an_agent_that_is_killed_or_stopped_in_its_load_ends_that_of_all() {
    let place = place("bus-killed");
    for signal in [Signal::KILL, Signal::STOP] {
        let mut agents = place.agents(3);
        let coordinator = place.load("3", "60s", &[]);
        wait_for_load(&agents);
        agents[1].signal(signal);
        let loaded = coordinator.loaded();
        expect_lost(&loaded, "no sign of it for 3.00 s");
        // The figures are those of the others, up to the abort.
        assert!(loaded.number("/summary/done") > 0.0 && loaded.number("/summary/connections") >= 2.0);
        if signal == Signal::STOP {
            agents[1].signal(Signal::CONT);
        }
        expect_no_rest(&mut agents);
    }
}

#[test]
fn an_agent_that_may_be_lost_is_reported_and_the_result_is_valid() {
    let place = place("bus-allowed");
    let mut agents = place.agents(3);
    let coordinator = place.load("3", "4s", &["--allow-lost", "1"]);
    wait_for_load(&agents);
    agents[0].signal(Signal::KILL);
    let loaded = coordinator.loaded();
    assert_eq!(loaded.code, 0, "{} {}", loaded.err, loaded.report["validity"]);
    assert!(
        loaded.report["validity"]["warnings"].to_string().contains(" was lost: no sign"),
        "{:?}",
        loaded.err
    );
    assert_eq!(loaded.number("/summary/window_seconds"), 4.0);
    expect_no_rest(&mut agents);
}

#[test]
fn processes_below_an_agent_that_are_killed_or_stopped_make_the_result_invalid() {
    let place = place("bus-below");
    for (name, signal, why) in [
        ("tine: runner", Signal::KILL, "its load ended without a result"),
        ("tine: runner", Signal::STOP, "its load does not answer"),
        ("tine: load 1", Signal::KILL, "signal 9"),
    ] {
        let mut agents = place.agents(1);
        let coordinator = place.load("1", "5s", &[]);
        wait_for_load(&agents);
        kill(agents[0].wait_for_process(name).pid, signal);
        expect_lost(&coordinator.loaded(), why);
        expect_no_rest(&mut agents);
    }
}

#[test]
fn before_the_start_another_agent_takes_the_place_of_a_lost_one() {
    let place = place("bus-before");
    for signal in [Signal::KILL, Signal::STOP] {
        // The first waits for a second; the load is short enough to end in time.
        let mut agents = place.agents(1);
        let coordinator = place.load("2", "1s", &[]);
        coordinator.wait_for("(1 of 2)");
        agents[0].signal(signal);
        // The coordinator takes the agents that join now, and replaces the one that is lost.
        agents.extend(place.agents(2));
        let loaded = coordinator.loaded();
        loaded.expect_sound();
        assert_eq!(loaded.report["agents"]["each"].as_array().map(Vec::len), Some(2));
        if signal == Signal::STOP {
            agents[0].signal(Signal::CONT);
        }
        expect_no_rest(&mut agents);
    }
}

#[test]
fn agents_that_are_lost_while_others_prepare_are_replaced_and_leave_nothing() {
    let place = place("bus-ready");
    for signal in [Signal::KILL, Signal::STOP] {
        let start = || OnBus::agent(&place.bus.url(), &place.folder, &["--join-timeout", "20s"]);
        let mut agents = vec![start()];
        let coordinator = place.load("2", "1s", &[]);
        coordinator.wait_for("(1 of 2)");
        // It does not prepare its part, so the other one, which does, has to wait.
        agents[0].signal(Signal::STOP);
        agents.push(start());
        coordinator.wait_for("(2 of 2)");
        drop(agents[1].wait_for_process("tine: runner"));
        agents[1].signal(signal);
        coordinator.wait_for("was lost before the start");
        agents.extend([start(), start()]);
        let loaded = coordinator.loaded();
        loaded.expect_sound();
        let lost = loaded.report["agents"]["each"][0]["name"].as_str().expect("a name").to_owned();
        assert!(!lost.contains(&format!("-{}-", agents[1].pid())), "{lost}");
        agents[0].signal(Signal::CONT);
        if signal == Signal::STOP {
            agents[1].signal(Signal::CONT);
        }
        // Those that were lost wait for another run, until their time is over.
        expect_no_rest(&mut agents);
    }
}

#[test]
fn agents_that_do_not_come_are_not_waited_for_without_end() {
    let place = place("bus-few");
    let mut agents = place.agents(1);
    let mut coordinator = place.load("2", "1s", &["--join-timeout", "2s"]);
    coordinator.wait_for("1 of 2 agents have joined in time");
    assert_eq!(coordinator.wait_for_end().code(), Some(111));
    expect_no_rest(&mut agents);
    let mut alone = OnBus::agent(&place.bus.url(), &place.folder, &["--join-timeout", "1s"]);
    assert_eq!(alone.wait_for_end().code(), Some(111));
}

#[test]
fn a_coordinator_that_is_killed_or_stopped_leaves_no_load_behind() {
    let place = place("bus-coordinator");
    for signal in [Signal::KILL, Signal::STOP] {
        let mut agents = place.agents(2);
        let coordinator = place.load("2", "60s", &[]);
        wait_for_load(&agents);
        coordinator.signal(signal);
        expect_no_rest(&mut agents);
        // What was measured is kept, and can be read.
        let results = place.results();
        assert_eq!(results.len(), 2, "{:?}", agents[0].log.lines());
        for file in &results {
            let (code, out, err) = run(Command::new(tine()).args(["load", "merge"]).arg(file));
            assert!(code == 130 && out.contains("\nrr/fin-client to 127.0.0.1:"), "{code} {out}{err}");
            std::fs::remove_file(file).expect("our file");
        }
        drop(coordinator);
    }
    // Also while agents wait for others.
    let mut agents = place.agents(1);
    let coordinator = place.load("2", "1s", &[]);
    coordinator.wait_for("(1 of 2)");
    coordinator.signal(Signal::KILL);
    expect_no_rest(&mut agents);
}

#[test]
fn an_interrupt_ends_the_load_with_the_figures_up_to_it() {
    let place = place("bus-interrupt");
    let mut agents = place.agents(2);
    let coordinator = place.load("2", "60s", &[]);
    wait_for_load(&agents);
    coordinator.signal(Signal::INT);
    let loaded = coordinator.loaded();
    assert!(loaded.code == 130 && loaded.report["interrupted"] == true, "{}", loaded.err);
    loaded.expect_sum();
    assert_eq!(
        loaded.report["agents"]["each"][1]["lost"],
        serde_json::Value::Null,
        "{}",
        loaded.report["agents"]
    );
    expect_no_rest(&mut agents);

    let mut agents = place.agents(2);
    let coordinator = place.load("2", "60s", &[]);
    wait_for_load(&agents);
    agents[0].signal(Signal::TERM);
    expect_lost(&coordinator.loaded(), "it was interrupted");
    assert_eq!(agents[0].wait_for_end().code(), Some(130));
    expect_no_rest(&mut agents);
}

#[test]
fn an_agent_that_is_cut_off_for_a_moment_is_not_lost() {
    let place = place("bus-moment");
    let cable = Cable::to(place.bus.port);
    let mut agents = place.agents(1);
    agents.push(OnBus::agent(&cable.url, &place.folder, &[]));
    let coordinator = place.load("2", "3s", &[]);
    wait_for_load(&agents);
    cable.cut();
    agents[1].wait_for("the connection to the bus is lost");
    cable.mend();
    agents[1].wait_for("connected to the bus again");
    let loaded = coordinator.loaded();
    loaded.expect_sound();
    loaded.expect_done(120);
    expect_no_rest(&mut agents);
}

#[test]
fn an_agent_that_is_cut_off_runs_to_the_end_and_keeps_its_result() {
    let place = place("bus-cut");
    let cable = Cable::to(place.bus.port);
    for (options, code) in [(&[][..], 4), (&["--allow-lost", "1"], 0)] {
        let mut agents = place.agents(1);
        agents.push(OnBus::agent(&cable.url, &place.folder, &[]));
        let coordinator = place.load("2", "6s", options);
        wait_for_load(&agents);
        cable.cut();
        let end = match code {
            // Aborted after three ticks; the agent knows nothing of it.
            4 => {
                let loaded = coordinator.loaded();
                expect_lost(&loaded, "no sign of it");
                None
            }
            _ => Some(coordinator),
        };
        wait_until("its result is kept", || (place.results().len() == 1).then_some(()));
        cable.mend();
        match end {
            // It comes in time, so the agent is not lost.
            Some(coordinator) => {
                let loaded = coordinator.loaded();
                loaded.expect_sound();
                loaded.expect_done(240);
                expect_no_rest(&mut agents);
                assert_eq!(place.results().len(), 0);
            }
            // Nobody asks for it any more.
            None => {
                agents[1].wait_for("was not acknowledged: it is in ");
                expect_no_rest(&mut agents);
                let results = place.results();
                let (code, out, err) = run(Command::new(tine()).args(["load", "merge"]).args(&results));
                assert!(code == 0 && out.contains(" 6.00 s measured"), "{out}{err}");
                results.iter().for_each(|file| std::fs::remove_file(file).expect("our file"));
            }
        }
    }
}

#[test]
fn a_bus_that_is_killed_and_started_again_costs_nothing() {
    let Place { bus, server, folder } = place("bus-again");
    let port = bus.port.to_string();
    let place = Place { bus, server, folder };
    let mut agents = place.agents(2);
    let coordinator = place.load("2", "4s", &[]);
    wait_for_load(&agents);
    let Place { bus, server, folder } = place;
    drop(bus);
    coordinator.wait_for("the connection to the bus is lost");
    // The load goes on, and its results wait.
    wait_until("the results are kept", || {
        (std::fs::read_dir(&folder.0).expect("a folder").count() == 2).then_some(())
    });
    let _bus = NatsServer::start_on(&port, &[]);
    let loaded = coordinator.loaded();
    loaded.expect_sound();
    loaded.expect_done(160);
    expect_no_rest(&mut agents);
    drop(server);
}
