//! `tine top`, in a terminal as an operator has it: what its screens contain, what its keys do, and
//! that it leaves the terminal as it was.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;
use tine_e2e::control::Controlled;
use tine_e2e::tmux::{PROMPT, Terminal};
use tine_e2e::top::{Watched, peers, top};
use tine_e2e::{Client, Folder, ServerCommand, kill, procfs, run, tine, wait_until};

#[test]
fn processes_and_connections_are_shown_as_they_come_and_go() {
    let watched = Watched::start("top-live", "");
    let server = &watched.controlled.server;
    let screen = watched.terminal.wait_for("accepted/s");
    assert!(screen.starts_with(&format!("tine {}  c  serving  up ", env!("CARGO_PKG_VERSION"))), "{screen}");
    assert!(screen.contains(&format!("supervisor {}\n", server.pid())), "{screen}");
    for (forker, number) in server.forkers().iter().zip(1..) {
        assert!(screen.contains(&format!("\\_ forker {number} {forker}")), "{screen}");
    }
    let mut one = watched.connect("127.0.0.2");
    let two = watched.connect("127.0.0.3");
    let screen = watched.terminal.wait_for("connections 1-2 of 2, by id");
    let row = screen.lines().find(|line| line.contains(&one.address())).expect("a row");
    let listed = watched.controlled.json(&["list", "--peer", "127.0.0.2"]);
    let cells: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(
        (cells[0], cells[2]),
        (&*listed[0]["id"].to_string(), &*listed[0]["pid"].to_string()),
        "{row}"
    );
    assert_eq!(cells[3], "serving", "{row}");
    // The processor time is a difference: it is there at the second look.
    watched.terminal.wait_until("processor and memory are shown", |screen| {
        let row = screen.lines().find(|line| line.contains("127.0.0.2:")).unwrap_or_default();
        let mut cells = row.split_whitespace().rev();
        let (memory, cpu) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
        memory.ends_with(['K', 'M']) && cpu.parse::<f64>().is_ok()
    });
    // A rate is there as long as bytes come.
    watched.terminal.wait_until("the connection is fast", |screen| {
        one.stream.try_clone().expect("a descriptor").write_all(&[b'x'; 4096]).expect("a reader");
        let row = screen.lines().find(|line| line.contains("127.0.0.2:")).unwrap_or_default();
        let rate = row.split_whitespace().nth(5).unwrap_or_default();
        rate.ends_with('K') || rate.ends_with('M')
    });
    drop(two);
    watched.terminal.wait_until("one is left", |screen| peers(screen) == ["127.0.0.2"]);
    one.half_close();
    drop(one);
    watched.terminal.wait_for("no connection, by id");
}

#[test]
fn keys_sort_filter_and_show_details() {
    let watched = Watched::start("top-keys", "");
    let mut clients: Vec<Client> =
        ["127.0.0.4", "127.0.0.3", "127.0.0.2"].map(|address| watched.connect(address)).into();
    watched.wait_for_peers("connections 1-3 of 3, by id\n", &["127.0.0.4", "127.0.0.3", "127.0.0.2"]);
    for (key, title, expected) in [
        ("s", "by age\n", ["127.0.0.4", "127.0.0.3", "127.0.0.2"]),
        ("r", "by age, reversed\n", ["127.0.0.2", "127.0.0.3", "127.0.0.4"]),
        ("s", "by peer\n", ["127.0.0.2", "127.0.0.3", "127.0.0.4"]),
        ("S", "by peer, reversed\n", ["127.0.0.4", "127.0.0.3", "127.0.0.2"]),
        ("r", "by peer\n", ["127.0.0.2", "127.0.0.3", "127.0.0.4"]),
    ] {
        watched.terminal.press(key);
        watched.wait_for_peers(title, &expected);
    }
    watched.press("/", "filter: _");
    watched.terminal.type_text("0.0.3");
    watched.wait_for_peers("connections 1-1 of 1 with \"0.0.3\", 3 in all", &["127.0.0.3"]);
    watched.press("Enter", "q quit");
    clients[1].echo("abc");
    watched.press("Enter", "bytes_in        4\n");
    let screen = watched.terminal.screen();
    assert!(screen.contains(&format!("peer            {}\n", clients[1].address())), "{screen}");
    watched.press("q", "q quit");
    watched.terminal.press("Escape");
    watched.wait_for_peers("connections 1-3 of 3, by peer", &["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    watched.press("?", "select a connection; it stays selected");
    watched.press("?", "connections 1-3 of 3");
    watched.press("t", "processes\n");
    watched.press("t", "connections 1-3 of 3");
    watched.press("p", "HELD");
}

#[test]
fn a_spoilt_screen_is_drawn_again() {
    let watched = Watched::start("top-again", "");
    let device = watched.terminal.device();
    std::fs::write(device, "\x1b[10;10Hwrite: a message to all").expect("a terminal");
    watched.terminal.wait_for("write: a message to all");
    watched.terminal.press("C-l");
    watched.terminal.wait_until("the screen is drawn again", |screen| {
        !screen.contains("write:") && screen.contains("no connection") && screen.contains("q quit")
    });
    watched.press("s", "by age");
}

#[test]
fn a_connection_ends_after_a_yes_only() {
    let watched = Watched::start("top-kill", "");
    let mut other = watched.connect("127.0.0.2");
    let mut killed = watched.connect("127.0.0.3");
    watched.terminal.press("End");
    let id = watched.controlled.json(&["list", "--peer", "127.0.0.3"])[0]["id"].to_string();
    let question = format!("end connection {id} of {}? y/n", killed.address());
    watched.press("K", &question);
    watched.press("n", "q quit");
    killed.echo("still there");
    watched.press("x", &question);
    watched.press("y", &format!("connection {id} has ended"));
    killed.expect_closed();
    watched.terminal.wait_until("its row is gone", |screen| peers(screen) == ["127.0.0.2"]);
    other.echo("x");
    let end = &watched.controlled.server.log.wait_for("end", 1)[0];
    assert_eq!((&end["outcome"], end["id"].to_string()), (&json!("killed"), id));
}

#[test]
fn every_size_has_a_screen() {
    let watched = Watched::start("top-size", "");
    let _client = watched.connect("127.0.0.2");
    for (columns, lines, has_tcp_state) in [(120, 40, true), (60, 15, false), (80, 24, false)] {
        watched.terminal.resize(columns, lines);
        let screen = watched.terminal.wait_until("the screen has the new size", |screen| {
            let last = screen.lines().nth(usize::from(lines) - 1).unwrap_or_default();
            let is_whole = screen.starts_with("tine ") && peers(screen) == ["127.0.0.2"];
            is_whole && last.starts_with("q quit") && screen.contains("ESTAB") == has_tcp_state
        });
        assert_eq!(screen.lines().count(), usize::from(lines), "{screen}");
        assert_eq!(screen.lines().filter(|line| line.starts_with("q quit")).count(), 1, "{screen}");
        assert!(screen.contains("serving"), "{screen}");
    }
}

/// Runs `tine top`, ends it in this way, and compares the terminal with what it was. Returns what
/// is on the screen afterwards.
fn leaves_the_terminal_as_it_was(watched: &Watched, end: impl Fn(&Watched)) -> String {
    let Watched { terminal, controlled } = watched;
    let settings = |name: &str| {
        let file = terminal.path(name);
        terminal.type_line(&format!("stty -a > {file}; echo settings of {name}"));
        terminal.wait_for(&format!("\nsettings of {name}"));
        std::fs::read_to_string(file).expect("settings")
    };
    let before = settings("before");
    terminal.type_line(&format!("{}; echo \"code $?\"", top(&controlled.folder.path("c.sock"))));
    let screen = terminal.wait_for("q quit");
    assert!(!screen.contains(PROMPT) && !screen.contains("settings of before"), "{screen}");
    end(watched);
    let screen = terminal.wait_for("\ncode ");
    assert!(screen.contains("\nsettings of before"), "{screen}");
    assert!(!screen.contains("q quit"), "{screen}");
    assert_eq!(settings("after"), before);
    screen
}

#[test]
fn the_terminal_is_left_as_it_was() {
    let watched = Watched::start("top-quit", "");
    watched.terminal.press("q");
    watched.terminal.wait_for_prompt();
    let key: fn(&Watched, &str) = |watched, key| watched.terminal.press(key);
    let signal: fn(&Watched, &str) = |watched, name| {
        let signal = if name == "TERM" { Signal::TERM } else { Signal::HUP };
        kill(watched.terminal.foreground(), signal);
    };
    for (code, end, with) in [
        ("code 0", key, "q"),
        ("code 0", key, "C-c"),
        ("code 143", signal, "TERM"),
        ("code 129", signal, "HUP"),
    ] {
        let end = |watched: &Watched| end(watched, with);
        let screen = leaves_the_terminal_as_it_was(&watched, end);
        assert!(screen.contains(&format!("\n{code}\n")), "{code}: {screen}");
        watched.terminal.type_line("clear");
        watched.terminal.wait_until("the screen is clear", |screen| screen.trim() == PROMPT.trim());
    }
}

#[test]
fn a_command_whose_terminal_is_gone_ends() {
    let Watched { controlled, terminal } = Watched::start("top-gone", "");
    terminal.press("q");
    terminal.wait_for_prompt();
    let file = controlled.folder.path("code");
    // A shell that a HUP does not end tells how the command has ended.
    let socket = controlled.folder.path("c.sock");
    let script = format!("trap '' HUP; {}; echo code $? > {file}\n", top(&socket));
    let script = controlled.folder.write("script", &script);
    terminal.type_line(&format!("sh {}", script.display()));
    terminal.wait_for("q quit");
    drop(terminal);
    let code = wait_until("the command has ended", || {
        std::fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n'))
    });
    // The HUP has come first, or the terminal could not be drawn on or read.
    assert!(["code 0\n", "code 111\n"].contains(&code.as_str()), "{code}");
}

#[test]
fn a_server_that_does_not_answer_holds_up_no_key() {
    let watched = Watched::start("top-stopped", "");
    let _client = watched.connect("127.0.0.2");
    watched.controlled.server.signal(Signal::STOP);
    watched.press("s", "by age");
    watched.press("Enter", "peer            127.0.0.2:");
    watched.press("q", "q quit");
    watched.press("x", "y/n");
    watched.press("y", "ending connection");
    watched.terminal.press("q");
    watched.terminal.wait_for_prompt();
}

#[test]
fn a_connection_of_one_of_several_services_is_ended() {
    let folder = Folder::new("top-services");
    let socket = folder.path("c.sock");
    let services = "[services.git]\nlisten = '127.0.0.1:0'\n[services.web]\nlisten = '127.0.0.1:0'\n";
    let file = folder.write("t.toml", services).display().to_string();
    let options = ["serve", "--config", &file, "--log", "json", "--print-ports", "--control", &socket];
    let options = [&options[..], &["--state-directory", "none"]].concat();
    let server = ServerCommand::program(tine(), &options).start();
    let mut clients = ["git", "web"].map(|service| Client::connect(server.log.port_of(service)));
    clients.iter_mut().for_each(|client| _ = client.echo("x"));
    let terminal = Terminal::new("top-services", 80, 24);
    terminal.type_line(&top(&socket));
    let screen = terminal.wait_for("\nweb:1 127.0.0.1:");
    for part in ["2 of ", "git: supervisor ", "web: supervisor ", "1-2 of 2, by id", "\ngit:1 127.0.0.1:"] {
        assert!(screen.contains(part), "{part:?}: {screen}");
    }
    terminal.press("/");
    terminal.type_text("web:");
    terminal.press("Enter");
    terminal.wait_for("connections 1-1 of 1 with \"web:\"");
    terminal.press("x");
    terminal.wait_for("end connection web:1 of");
    terminal.press("y");
    terminal.wait_for("connection web:1 has ended");
    let end = &server.log.wait_for("end", 1)[0];
    assert_eq!((&end["outcome"], &end["service"]), (&json!("killed"), &json!("web")));
    terminal.press("Escape");
    terminal.wait_for("\ngit:1 127.0.0.1:");
    terminal.press("q");
    terminal.wait_for_prompt();
    terminal.type_line(&format!("clear; {} --service web", top(&socket)));
    let screen = terminal.wait_for("no connection");
    assert!(screen.contains("web: supervisor ") && !screen.contains("git: supervisor "), "{screen}");
}

#[test]
fn a_server_that_ends_is_said_and_one_that_starts_again_is_shown() {
    let mut watched = Watched::start("top-lost", "");
    watched.controlled.server.signal(Signal::KILL);
    watched.terminal.wait_for("c: the server has ended");
    watched.controlled.server.wait_until_gone();
    let (socket, state) = (watched.controlled.folder.path("c.sock"), watched.controlled.folder.path("state"));
    let again = ServerCommand::serve(["--control", &socket, "--state-directory", &state]).start();
    watched.terminal.wait_for(&format!("supervisor {}\n", again.pid()));
    watched.controlled.server = again;
    let _client = watched.connect("127.0.0.2");
    watched.controlled.server.signal(Signal::KILL);
    watched.terminal.wait_for("c: the server has ended");
    let pid = watched.terminal.foreground();
    watched.terminal.press("q");
    watched.terminal.wait_for_prompt();
    wait_until("it has ended", || (!procfs::is_running(pid)).then_some(()));
}

/// The parameters of the escape sequences for colours and attributes (ECMA-48, 8.3.117).
fn renditions(screen: &str) -> Vec<u32> {
    let sequences = screen.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m'));
    sequences.flat_map(|(parameters, _)| parameters.split(';').map(|one| one.parse().unwrap_or(0))).collect()
}

#[test]
fn colours_are_left_out_if_the_environment_says_so() {
    for (name, variables, has_colours) in
        [("top-colour", "", true), ("top-plain", "NO_COLOR=1", false), ("top-empty", "NO_COLOR=", true)]
    {
        let watched = Watched::start(name, variables);
        let _client = watched.connect("127.0.0.2");
        watched.press("x", "y/n");
        let renditions = renditions(&watched.terminal.styled_screen());
        let is_colour = |number: &u32| matches!(number, 30..=38 | 40..=48 | 90..=107);
        assert_eq!(renditions.iter().any(is_colour), has_colours, "{variables}: {renditions:?}");
        // The selected row is reversed, headings and the question are bold.
        assert!(renditions.contains(&7) && renditions.contains(&1), "{variables}: {renditions:?}");
    }
}

#[test]
fn without_a_terminal_or_a_server_it_says_so() {
    let controlled = Controlled::serve("top-none", &[], &[]);
    let (code, out, err) = controlled.tine(&["top"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (100, "", 1), "{err}");
    assert!(err.contains("terminal") && err.contains("tine list"), "{err}");
    let (code, _, err) = run(Command::new(tine()).args(["top", "--interval", "0s"]));
    assert!(code == 100 && err.contains("--interval"), "{err}");
    let terminal = Terminal::new("top-none", 80, 24);
    terminal.type_line(&format!("{}; echo \"code $?\"", top(&terminal.path("no.sock"))));
    let screen = terminal.wait_for("\ncode ");
    assert!(screen.contains("no server runs") && screen.contains("\ncode 3\n"), "{screen}");
}

/// Answers `status` and `list` as a server with these connections would, until the test ends.
fn answer(listener: UnixListener, connections: &str) {
    let rows = connections.to_owned();
    let status =
        json!({ "type": "status", "version": "9", "phase": "serving", "pid": 1, "connections": 5000 });
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a controller");
            let mut request = String::new();
            let _ = BufReader::new(&stream).read_line(&mut request);
            let lines = if request.contains("\"list\"") { rows.clone() } else { format!("{status}\n") };
            // The controller may have ended.
            let _ = stream.write_all(format!("{lines}{{\"count\":1,\"done\":true}}\n").as_bytes());
        }
    });
}

#[test]
fn thousands_of_connections_and_hostile_names_are_shown() {
    let folder = Folder::new("top-many");
    let socket = folder.path("c.sock");
    let mut rows: String = (1..5000)
        .map(|id| {
            let peer = format!("10.0.{}.{}:4000", id / 250, id % 250);
            let row = json!({ "type": "connection", "id": id, "peer": peer, "pid": id, "state": "serving" });
            format!("{row}\n")
        })
        .collect();
    let hostile = json!({ "type": "connection", "id": 5000, "peer": "\u{1b}]0;x\u{7}\u{1b}[2J\u{9b}1m" });
    rows.push_str(&format!("{hostile}\n"));
    answer(UnixListener::bind(&socket).expect("a socket"), &rows);
    let terminal = Terminal::new("top-many", 80, 24);
    terminal.type_line(&top(&socket));
    terminal.wait_for("connections 1-17 of 5000, by id");
    terminal.press("End");
    terminal.wait_for("connections 4984-5000 of 5000, by id");
    terminal.wait_for("\n5000 \\u{1b}]0;x\\u{7}\\u{1b}");
    terminal.press("s");
    terminal.press("s");
    terminal.wait_for("by peer");
    terminal.press("/");
    terminal.type_text("10.0.19.");
    terminal.wait_for("connections 1-17 of 250 with \"10.0.19.\", 5000 in all, by peer");
}
