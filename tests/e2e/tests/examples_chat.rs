//! The example `chat`, with nc(1) as its clients.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::Signal;
use tine_e2e::examples::example;
use tine_e2e::names::CONNECTION;
use tine_e2e::{Server, kill};

/// A guest: nc, which is killed at the end.
struct Guest {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Guest {
    /// Connects, says its name, and is in the lobby.
    fn enter(server: &Server, name: &str) -> Guest {
        let mut nc = Command::new("nc");
        nc.args(["-N", "127.0.0.1", &server.port().to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = nc.spawn().expect("nc starts");
        let (input, output) = (process.stdin.take(), process.stdout.take().expect("piped"));
        let mut guest = Guest { process, input, output: BufReader::new(output) };
        guest.expect(&["Your name?"]).say(name).expect(&[&format!("* {name} enters lobby")]);
        guest
    }

    fn say(&mut self, lines: &str) -> &mut Guest {
        let input = self.input.as_mut().expect("an open stream");
        input.write_all(format!("{lines}\n").as_bytes()).expect("nc reads");
        self
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim_end().to_owned()
    }

    fn expect(&mut self, lines: &[&str]) -> &mut Guest {
        for line in lines {
            assert_eq!(self.line(), *line);
        }
        self
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_room_receives_what_is_said_in_it() {
    let server = example("chat", &[]);
    let mut ada = Guest::enter(&server, "Ada");
    let mut grace = Guest::enter(&server, "Grace");
    let mut alan = Guest::enter(&server, "Alan");
    ada.expect(&["* Grace enters lobby", "* Alan enters lobby"]);
    grace.expect(&["* Alan enters lobby"]);
    // Lines of one packet are all heard, and a change of the room between them counts.
    ada.say("one\ntwo\n/join attic\nthree").expect(&["* Ada enters attic", "Ada: three"]);
    for guest in [&mut grace, &mut alan] {
        guest.expect(&["Ada: one", "Ada: two", "* Ada leaves"]);
    }
    grace.say("/join attic").expect(&["* Grace enters attic"]).say("hello").expect(&["Grace: hello"]);
    ada.expect(&["* Grace enters attic", "Grace: hello"]);
    alan.expect(&["* Grace leaves"]).say("alone?").expect(&["Alan: alone?"]);
    // The end of a client's stream is that of its stay.
    grace.input = None;
    ada.expect(&["* Grace leaves"]);
    assert!(grace.process.wait().expect("nc ends").success());
}

#[test]
fn a_guest_that_reads_too_slowly_is_told_what_is_lost() {
    let server = example("chat", &[]);
    let mut slow = Guest::enter(&server, "Slow");
    let [process] = &server.named(CONNECTION)[..] else { panic!("one connection") };
    kill(process.pid, Signal::STOP);
    let mut fast = Guest::enter(&server, "Fast");
    let lines: Vec<String> = (1..1500).map(|number| number.to_string()).collect();
    fast.say(&lines.join("\n"));
    while fast.line() != "Fast: 1499" {}
    kill(process.pid, Signal::CONT);
    // Those and the arrival are 1500.
    let told = slow.line();
    let lost: usize =
        told.strip_prefix("* ").and_then(|told| told.split(' ').next()?.parse().ok()).expect(&told);
    assert_eq!(told, format!("* {lost} messages are lost"));
    assert!((1..=500).contains(&lost), "{lost}");
    for number in lost..1500 {
        slow.expect(&[&format!("Fast: {number}")]);
    }
}
