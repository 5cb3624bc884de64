//! The commands of docs/operating.md and the examples of docs/control.md, as they are written
//! there.

use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::{Client, Folder, Server, ServerCommand, run, tine};

const OPERATING: &str = include_str!("../../../docs/operating.md");
const CONTROL: &str = include_str!("../../../docs/control.md");

/// The text of a section.
fn section<'a>(document: &'a str, name: &str) -> &'a str {
    let (_, text) = document.split_once(&format!("\n## {name}\n")).expect("a section of this name");
    text.split("\n## ").next().unwrap_or_default()
}

/// The commands in the second column of the table of a section.
fn commands(section: &str) -> Vec<Vec<&str>> {
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| |"));
    let cells = rows.filter_map(|row| row.split(" | ").nth(1)).filter(|cell| cell.starts_with("`tine "));
    cells.map(|cell| cell.split('`').filter(|text| text.starts_with("tine ")).collect()).collect()
}

/// The words of a command after its first, `tine`.
fn words(command: &str) -> Vec<&str> {
    command.split(' ').skip(1).collect()
}

/// A server with a command of the page, but on a port of its own and with files of its own.
fn serve(command: &str, socket: &str) -> Server {
    let words = words(command).into_iter().map(|word| if word == "8000" { "127.0.0.1:0" } else { word });
    let mut words: Vec<&str> = words.collect();
    words.splice(1..1, ["--log", "json", "-1", "--control", socket, "--state-directory", "none"]);
    ServerCommand::program(tine(), &words).start()
}

#[test]
fn the_ten_things_that_an_operator_does_most() {
    let folder = Folder::new("ten");
    let socket = folder.path("c.sock");
    folder.write("tine.toml", "[services.web]\nlisten = 8000\ndeny = ['192.0.2.0/24']\n");
    let rows = commands(section(OPERATING, "Ten things"));
    assert_eq!(rows.len(), 10, "{rows:?}");
    let mut server = serve(rows[0][0], &socket);
    let mut clients: Vec<Client> = (0..2).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| _ = client.echo("x"));
    for command in rows[1..].iter().flatten() {
        let mut words = words(command);
        let is_about_a_file = words.contains(&"tine.toml");
        if !is_about_a_file {
            words.extend(["--control", &socket]);
        }
        if *command == "tine drain" {
            clients.iter_mut().for_each(|client| _ = client.half_close());
        }
        let (code, out, err) = run(Command::new(tine()).current_dir(&folder.0).args(words));
        assert_eq!(code, 0, "{command}: {out}{err}");
        let said = match *command {
            "tine check tine.toml" => "[services.web]",
            "tine explain tine.toml 192.0.2.7" => "192.0.2.0/24",
            "tine status" => "2 now, 2 at most so far",
            "tine list" => "127.0.0.1:",
            "tine show 1" => "counted by",
            "tine kill 1" => "ended 1",
            "tine ban 192.0.2.0/24 --for 1h --kill" => "ended 0",
            "tine pause" | "tine resume" | "tine drain" => "",
            other => panic!("what does {other} print?"),
        };
        assert!(out.contains(said), "{command}: {out}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// The fenced blocks of a language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let blocks = document.split("```").skip(1).step_by(2);
    blocks.filter_map(|block| block.strip_prefix(language)?.strip_prefix('\n')).collect()
}

#[test]
fn the_examples_of_the_protocol_work() {
    let folder = Folder::new("protocol");
    let socket = folder.path("c.sock");
    let server = Server::serve(&["--control", &socket, "--state-directory", "none"]);
    let here = |text: &str| text.replace("/run/tine/8000.sock", &socket);
    let consoles = blocks(CONTROL, "console");
    assert_eq!(consoles.len(), 1);
    for example in consoles[0].split("$ ").filter(|example| !example.is_empty()) {
        let (command, expected) = example.split_once('\n').expect("a command and its output");
        let (code, out, err) = run(Command::new("sh").args(["-c", &here(command)]));
        assert_eq!((code, out.as_str()), (0, expected), "{command}: {err}");
    }
    let mut clients: Vec<Client> = (1..=12).map(|_| server.connect()).collect();
    for (client, length) in clients.iter_mut().zip(1..) {
        client.echo("x".repeat(length));
    }
    let pythons = blocks(CONTROL, "python");
    assert_eq!(pythons.len(), 1);
    let mut python = Command::new("python3");
    let python = python.args(["-c", &here(pythons[0])]).stdin(Stdio::null());
    let (code, out, err) = run(python);
    assert_eq!(code, 0, "{err}");
    let bytes: Vec<&str> = out.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(bytes, ["12", "11", "10", "9", "8", "7", "6", "5", "4", "3"]);
    server.signal(Signal::TERM);
}

/// The names in the first column of the tables of a section.
fn fields(section: &str) -> Vec<&str> {
    let cells = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    cells.flat_map(|cell| cell.split(['`', ',', ' '])).filter(|name| !name.is_empty()).collect()
}

#[test]
fn the_page_of_the_protocol_has_every_field() {
    let folder = Folder::new("fields");
    let socket = folder.path("c.sock");
    let server = Server::serve(&["--control", &socket, "--state-directory", "none"]);
    let json = |words: &[&str]| -> Vec<Value> {
        let words = [words, &["--json", "--control", &socket]].concat();
        let (code, out, err) = run(Command::new(tine()).args(words));
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).expect("an array")
    };
    server.connect().echo("x").finish();
    server.log.wait_for("end", 1);
    let mut client = server.connect();
    client.echo("x");
    let (code, _, err) = run(Command::new(tine()).args(["ban", "192.0.2.1", "--control", &socket]));
    assert_eq!(code, 0, "{err}");
    let lines = [json(&["status"]), json(&["list"]), json(&["list", "--ended"]), json(&["bans"])].concat();
    assert_eq!(lines.len(), 4);
    for line in lines {
        let kind = line["type"].as_str().expect("a type").to_owned();
        let (_, text) = CONTROL.split_once(&format!("\n### `{kind}`\n")).expect("a section of this type");
        let known = fields(text.split("\n##").next().unwrap_or_default());
        for name in line.as_object().expect("an object").keys().filter(|name| *name != "type") {
            assert!(known.contains(&name.as_str()), "{kind} has no {name}: {known:?}");
        }
    }
}
