//! Accounting: each connection has one accept line and one end line in the log, and its process is
//! reaped.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::names::{outcome, pid};
use tine_e2e::{EchoClients, Server, built, kill, procfs};

#[test]
fn every_connection_ends_once_in_the_log_however_its_client_ends() {
    let server = Server::serve(&[]);
    let others = EchoClients::start(server.port(), 5);
    let port = server.port().to_string();
    for signal in [Signal::INT, Signal::KILL] {
        let ended = server.log.of("end").len();
        // Where the tests run in the background of a script, it is ignored.
        let mut chatter = Command::new("env")
            .arg("--default-signal=INT")
            .arg(built("chatter"))
            .args([&port, "10"])
            .stdout(Stdio::null())
            .spawn()
            .expect("the client starts");
        others.wait_for_exchanges(50);
        kill(i32::try_from(chatter.id()).expect("a process id"), signal);
        chatter.wait().expect("our child");
        let ends = server.log.wait_for("end", ended + 1);
        assert_eq!(ends.len(), ended + 1, "one end line");
        // A client that ends with a reply unread resets the connection.
        assert!(["exit 0", "reset"].contains(&outcome(&ends[ended])), "{}", ends[ended]);
    }
    let mut resetting = server.connect();
    resetting.echo("data : 0\n\0");
    resetting.reset();
    let ends = server.log.wait_for("end", 3);
    assert_eq!(outcome(&ends[2]), "reset");
    assert_eq!((ends[2]["in"].as_u64(), ends[2]["out"].as_u64()), (Some(10), Some(10)));
    others.wait_for_exchanges(20);
    others.finish();
    let ends = server.log.wait_for("end", 8);
    let mut ids: Vec<u64> = ends.iter().map(|end| end["id"].as_u64().expect("a number")).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=8).collect::<Vec<_>>(), "one end line for each connection");
    assert_eq!(procfs::zombies(server.pid()), 0);
}

#[test]
fn accept_and_end_lines_name_the_client_the_process_and_its_costs() {
    let server = Server::serve(&["--max-connections", "7"]);
    let mut client = server.connect();
    client.echo("hello");
    let address = client.address();
    client.finish();
    let end = server.log.wait_for("end", 1).remove(0);
    let accept = server.log.of("accept").remove(0);
    for line in [&accept, &end] {
        assert_eq!(line["id"], 1);
        assert_eq!(line["peer"], address.as_str());
        assert_eq!(line["pid"], accept["pid"]);
    }
    assert_eq!((accept["count"].as_u64(), accept["limit"].as_u64()), (Some(1), Some(7)));
    assert_eq!(outcome(&end), "exit 0");
    assert!(end["seconds"].as_f64().expect("a time") > 0.0);
    assert!(end["cpu_seconds"].as_f64().is_some() && end["peak_kib"].as_u64().expect("memory") > 100);
    assert!(procfs::process(pid(&end)).is_none(), "reaped");
}
