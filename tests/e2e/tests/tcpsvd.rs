//! Under the name `tcpsvd`: the options, variables, log lines and exit codes of ipsvd's, whose own
//! binary goes through the same scenarios, and the variables of busybox'.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tine_e2e::{Client, Folder, Server, ServerCommand, network, run, tine};

/// The port of each scenario, in a network namespace of its own.
const PORT: u16 = 8001;

/// ipsvd's own server.
const ORIGINAL: &str = "/usr/bin/tcpsvd";

/// A copy of `tine` with the name.
fn copy(folder: &Folder) -> PathBuf {
    let path = folder.0.join("tcpsvd");
    std::fs::copy(tine(), &path).expect("a copy");
    path
}

/// Starts a server, in the folder, and waits until it listens. Its standard output is in the log.
fn start(program: &Path, folder: &Folder, options: &[&str], words: &[&str]) -> Server {
    let script = format!("echo {PORT}; cd {} && exec \"$@\" 1>&2", folder.0.display());
    let port = PORT.to_string();
    let program = program.display().to_string();
    let all = [&["-c", &script, "sh", &program, "-v"], options, &["127.0.0.1", &port], words].concat();
    let server = ServerCommand::program("sh", &all).start();
    server.log.wait_for_line("the start", |line| line.contains("listening on"));
    server
}

/// What a client from this address gets, once its connection is over.
fn visit(server: &Server, source: &str) -> String {
    let ends = |log: &tine_e2e::Log| log.lines().iter().filter(|line| line.contains(" status 0/")).count();
    let before = ends(&server.log);
    let text = Client::from_source(source, PORT).read_text();
    server.log.wait("the end of a connection", |log| (ends(log) > before).then_some(()));
    text
}

/// The lines without what differs between two runs: process ids and ports of clients.
fn comparable(text: &str) -> String {
    let mut shown = String::new();
    for line in text.lines() {
        let is_only_tine = line.starts_with("TCPLOCALADDR=") || line.starts_with("TCPREMOTEADDR=");
        // ipsvd's warnings begin with the path of the program.
        if is_only_tine || line.contains(": warning: ") {
            continue;
        }
        let number = |word: &str| {
            let (start, end) = word.rsplit_once(':').unwrap_or(("", word));
            let is_number = end.len() > 2 && end != "100" && end.bytes().all(|byte| byte.is_ascii_digit());
            if is_number && end != PORT.to_string() { format!("{start}:N") } else { word.to_owned() }
        };
        let line = line.replace("TCPREMOTEPORT=", "TCPREMOTEPORT= ");
        let words: Vec<String> = line.split(' ').map(number).collect();
        shown += &(words.join(" ") + "\n");
    }
    shown
}

/// A transcript of a scenario with ipsvd's server, and one with tine.
fn both(test: &str, scenario: impl Fn(&Path, &Folder) -> String) -> [String; 2] {
    network::own();
    let folder = Folder::new(&format!("tcpsvd-{test}"));
    std::fs::set_permissions(&folder.0, PermissionsExt::from_mode(0o755)).expect("our directory");
    assert!(Path::new(ORIGINAL).exists(), "ipsvd is not installed");
    [PathBuf::from(ORIGINAL), copy(&folder)].map(|program| comparable(&scenario(&program, &folder)))
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("our file");
}

const PRINT_ENVIRONMENT: &str = "env | grep -E '^(PROTO|TCP|TRUST|LOGNAME|MEMORY)' | sort";

#[test]
fn instructions_of_the_documentation_have_the_same_effect() {
    let [original, ours] = both("instruct", |program, folder| {
        folder.write("peers/127.0.0.2", "+TRUST=true\n# a comment\n+LOGNAME\n\n+MEMORY=20000\nC16\n");
        mode(&folder.write("peers/127.0.0.3", "echo instead\n"), 0o744);
        mode(&folder.write("peers/127.0.0.4", ""), 0);
        folder.write("peers/127.0.5", "+TRUST=net\n");
        folder.write("peers/127.6", "=no-such-host.invalid\n");
        folder.write("peers/127.7", "=0:127.0.0.3\n");
        folder.write("peers/127.8", "=localhost:127.0.0.4\n");
        folder.write("peers/127.9", "nonsense\n+TRUST=9\n");
        mode(&folder.write("peers/0", ""), 0);
        let (code, _, err) =
            run(Command::new("ipsvd-cdb").current_dir(&folder.0).args(["cdb", "cdb.tmp", "peers"]));
        assert_eq!(code, 0, "{err}");
        let mut transcript = String::new();
        for instructions in [["-i", "peers"], ["-x", "cdb"]] {
            let options = [&["-v", "-l", "here", "-C", "20"], &instructions[..]].concat();
            let server = start(program, folder, &options, &["sh", "-c", PRINT_ENVIRONMENT]);
            for source in ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.5.1", "127.6.0.1", "127.7.0.1"] {
                transcript += &visit(&server, source);
            }
            for source in ["127.9.0.1", "127.10.0.1"] {
                transcript += &visit(&server, source);
            }
            transcript += &server.log.lines().join("\n");
        }
        transcript
    });
    assert!(original.contains("TRUST=true") && original.contains("instead"), "{original}");
    // tine names the entry that a line has forwarded to.
    assert_eq!(lines_without(&ours, "127.7.0.1"), lines_without(&original, "127.7.0.1"));
}

/// The lines of a transcript in which this text is not.
fn lines_without<'a>(transcript: &'a str, text: &str) -> Vec<&'a str> {
    transcript.lines().filter(|line| !line.contains(text)).collect()
}

#[test]
fn the_limit_of_an_address_has_a_message() {
    let [original, ours] = both("limit", |program, folder| {
        let options = ["-c", "4", "-C", r"1:421 per host concurrency limit reached\r\n", "-l", "0"];
        let server = start(program, folder, &options, &["cat"]);
        let mut first = Client::from_source("127.0.0.2", PORT);
        first.echo("served");
        let refused = Client::from_source("127.0.0.2", PORT).read_text();
        let mut other = Client::from_source("127.0.0.3", PORT);
        other.echo("another address");
        let count =
            |log: &tine_e2e::Log, text: &str| log.lines().iter().filter(|line| line.contains(text)).count();
        server.log.wait("the end of the refused", |log| (count(log, " exit 100") == 1).then_some(()));
        other.finish();
        first.finish();
        server.log.wait("the end of all", |log| (count(log, " exit ") == 3).then_some(()));
        let denied =
            server.log.lines().into_iter().filter(|line| line.contains("deny") || line.contains("2/1"));
        refused + &denied.collect::<Vec<_>>().join("\n")
    });
    assert!(original.contains(" per host concurrency limit reached"), "{original}");
    assert_eq!(ours, original);
}

#[test]
fn start_and_end_are_those_of_tcpsvd() {
    let [original, ours] = both("start", |program, folder| {
        let mut transcript = String::new();
        for words in [
            &[][..],
            &["0"],
            &["-c", "0", "0", "1", "cat"],
            &["-i", "a", "-x", "b", "0", "1", "cat"],
            &["0", "no-such-port", "cat"],
            &["-u", "no-such-user", "0", "1", "cat"],
            &["192.0.2.1", "8002", "cat"],
        ] {
            let (code, out, err) = run(Command::new(program).args(words));
            // argv[0] is in the usage message.
            let err = err.replace(&program.display().to_string(), "tcpsvd");
            transcript += &format!("{words:?} {code} {out}{err}\n");
        }
        let mut server = start(program, folder, &["-l", "0", "-E"], &["sh", "-c", PRINT_ENVIRONMENT]);
        transcript += &visit(&server, "127.0.0.1");
        server.signal(Signal::TERM);
        transcript += &format!("{:?}\n", server.wait_for_exit().code());
        server.log.wait_for_line("the end", |line| line.contains("sigterm"));
        transcript + &server.log.lines().join("\n")
    });
    assert_eq!(ours, original);
}

#[test]
fn users_and_groups_are_dropped_as_tcpsvd_does() {
    let [original, ours] = both("user", |program, folder| {
        let mut transcript = String::new();
        for user in ["nobody", "nobody:daemon:bin", ":7:8"] {
            let server = start(program, folder, &["-l0", "-u", user], &["sh", "-c", "id -u; id -g; id -G"]);
            transcript += &visit(&server, "127.0.0.1");
        }
        transcript
    });
    assert_eq!(original.lines().count(), 9, "{original}");
    assert_eq!(ours, original);
}

#[test]
fn files_that_were_not_read_for_long_are_deleted() {
    let [original, ours] = both("timeout", |program, folder| {
        let old = folder.write("peers/127.0.0.2", "+TRUST=old\n");
        let kept = folder.write("peers/127.0.0.3", "+TRUST=kept\n");
        folder.write("peers/127.0.0.4", "+TRUST=new\n");
        mode(&kept, 0o444);
        for path in [&old, &kept] {
            let (code, ..) = run(Command::new("touch").args(["-a", "-d", "1 hour ago"]).arg(path));
            assert_eq!(code, 0);
        }
        let options = ["-l0", "-t", "60", "-i", "peers"];
        let server = start(program, folder, &options, &["sh", "-c", "echo $TRUST."]);
        let text: String =
            ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(|source| visit(&server, source)).concat();
        format!("{text}{} {}", old.exists(), kept.exists())
    });
    assert_eq!(original, ".\nkept.\nnew.\nfalse true\n");
    assert_eq!(ours, original);
}

#[test]
fn variables_of_busybox_are_set_too() {
    network::own();
    let folder = Folder::new("tcpsvd-busybox");
    let program = copy(&folder);
    let script = "echo $TCPLOCALADDR $TCPREMOTEADDR $TCPREMOTEIP:$TCPREMOTEPORT";
    let server = start(&program, &folder, &["-h"], &["sh", "-c", script]);
    let reply = visit(&server, "127.0.0.2");
    let words: Vec<&str> = reply.split_whitespace().collect();
    assert!(words[0] == format!("127.0.0.1:{PORT}") && words[1] == words[2], "{reply}");
}
