//! `--log-target`: syslog and the journal, by sockets of the test in their places;
//! `JOURNAL_STREAM`.

use std::cell::Cell;
use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use tine_e2e::names::LOG_WRITER;
use tine_e2e::targets::{Daemon, journal_fields, with_own_mounts};
use tine_e2e::{Client, Folder, Server, kill, run, tine, wait_until};

fn has(words: &'static str) -> impl Fn(&[u8]) -> bool {
    move |message| String::from_utf8_lossy(message).contains(words)
}

fn stop(server: &mut Server) {
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    server.wait_until_gone();
}

#[test]
fn the_journal_gets_every_key_as_a_field() {
    let folder = Folder::new("log-journal");
    let journal = Daemon::bind(&folder.path("socket"));
    let options = ["--log-target", "journal", "--log", "text", "--verbose"];
    let mut server = with_own_mounts(&folder, &options).start();
    server.connect().echo("two\nlines").finish();
    journal.take_until("line about the end", has("TINE_EVENT=end\n"));
    stop(&mut server);
    let entries = journal.take_until("last line", has("TINE_EVENT=stop\n"));
    let entries: Vec<_> = entries.iter().map(|entry| journal_fields(entry)).collect();
    let of = |event: &str| {
        let entry = entries.iter().find(|fields| fields["TINE_EVENT"] == event.as_bytes());
        let text = |value: &Vec<u8>| String::from_utf8(value.clone()).expect("UTF-8");
        let fields = entry.unwrap_or_else(|| panic!("{event} in {entries:?}"));
        move |key: &str| fields.get(key).map(text).unwrap_or_default()
    };
    for (event, key, value) in [
        ("listen", "PRIORITY", "5"),
        ("accept", "PRIORITY", "6"),
        ("accept", "TINE_ID", "1"),
        ("accept", "SYSLOG_IDENTIFIER", "tine"),
        ("accept", "SYSLOG_FACILITY", "3"),
        ("receive", "PRIORITY", "7"),
        ("receive", "TINE_DATA", "two\nlines"),
        ("receive", "MESSAGE", "receive id=1 bytes=9 data=\"two\\nlines\""),
        ("end", "TINE_OUTCOME", "exit 0"),
        ("stop", "MESSAGE", "stop connections=1"),
    ] {
        assert_eq!(of(event)(key), value, "{event} {key}");
    }
    assert_eq!(of("accept")("SYSLOG_PID"), server.pid().to_string());
    assert_eq!(server.log.lines(), Vec::<String>::new());
}

/// Checks the grammar of RFC 5424, 6, and returns MSGID and MSG.
fn parse_syslog(message: &[u8]) -> (String, String) {
    let text = std::str::from_utf8(message).expect("UTF-8");
    let (priority, rest) = text.strip_prefix('<').and_then(|rest| rest.split_once('>')).expect("PRI");
    let priority: u8 = priority.parse().expect("a number");
    assert_eq!(priority / 8, 3, "daemon");
    let parts: Vec<&str> = rest.splitn(8, ' ').collect();
    let [version, time, host, app, pid, name, data, message] = parts.as_slice() else { panic!("{text}") };
    assert_eq!((*version, *app, *data), ("1", "tine", "-"), "{text}");
    let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "9999-99-99T99:99:99.999Z");
    assert!(
        !host.is_empty() && host.len() <= 255 && host.bytes().all(|byte| byte.is_ascii_graphic()),
        "{host}"
    );
    assert!(pid.parse::<u32>().is_ok() && name.len() <= 32, "{text}");
    assert!(!message.ends_with('\n'), "{text}");
    ((*name).to_owned(), (*message).to_owned())
}

#[test]
fn syslog_gets_messages_of_rfc_5424() {
    for (format, start) in [("text", "stop connections=1"), ("json", "{\"time\":\"")] {
        let folder = Folder::new("log-syslog");
        let syslog = Daemon::bind(&folder.path("log"));
        let mut server = with_own_mounts(&folder, &["--log-target", "syslog", "--log", format]).start();
        server.connect().echo("x").finish();
        syslog.take_until("line about the end", has(" end - "));
        stop(&mut server);
        let messages = syslog.take_until("last line", has(" stop - "));
        let messages: Vec<_> = messages.iter().map(|message| parse_syslog(message)).collect();
        let names: Vec<&str> = messages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["listen", "accept", "end", "drain", "stop"]);
        let (_, last) = messages.last().expect("messages");
        assert!(last.starts_with(start), "{last}");
    }
}

#[test]
fn lines_wait_for_a_daemon_that_is_restarted() {
    let folder = Folder::new("log-restarted");
    let path = folder.path("socket");
    let journal = Daemon::bind(&path);
    let mut server = with_own_mounts(&folder, &["--log-target", "journal"]).start();
    journal.take_until("first line", has("TINE_EVENT=listen\n"));
    let mut daemon = journal;
    for (number, id) in [(1, "TINE_ID=1\n"), (2, "TINE_ID=2\n"), (3, "TINE_ID=3\n")] {
        drop(daemon);
        std::fs::remove_file(&path).expect("ours");
        if number == 3 {
            // The log writer is restarted while it has no daemon, too.
            let writer = wait_until("it runs", || server.named(LOG_WRITER).into_iter().next());
            kill(writer.pid, Signal::KILL);
        }
        server.connect().echo("served meanwhile").finish();
        daemon = Daemon::bind(&path);
        // The supervisor may log the end before the restart.
        let (has_end, has_restart) = (Cell::new(false), Cell::new(number != 3));
        let entries = daemon.take_until("lines about the end and the restart", |entry| {
            has_end.set(has_end.get() || has("TINE_EVENT=end\n")(entry) && has(id)(entry));
            has_restart.set(has_restart.get() || has("TINE_EVENT=restart\n")(entry));
            has_end.get() && has_restart.get()
        });
        let entries = entries.iter().map(|entry| journal_fields(entry));
        let mut ids: Vec<Vec<u8>> = entries.filter_map(|fields| fields.get("TINE_ID").cloned()).collect();
        if number == 3 && ids.len() == 3 {
            // The killed log writer may have sent this line, and not yet taken it from the channel.
            assert_eq!(ids.remove(0), b"2");
        }
        let id = number.to_string().into_bytes();
        assert_eq!(ids, [id.clone(), id]);
    }
    drop(daemon);
    std::fs::remove_file(&path).expect("ours");
    // Without a daemon, the server stops, and says that lines are lost.
    stop(&mut server);
    let error = server.log.wait_for("error", 1).remove(0);
    assert!(error["text"].as_str().is_some_and(|text| text.contains("ends without 2 lines")), "{error}");
}

#[test]
fn a_daemon_that_takes_nothing_holds_up_no_client() {
    let folder = Folder::new("log-stalled-journal");
    let journal = Daemon::bind(&folder.path("socket"));
    let mut server = with_own_mounts(&folder, &["--log-target", "journal"]).start();
    for _ in 0..300 {
        server.connect().echo("served").finish();
    }
    let is_last = |entry: &[u8]| has("TINE_EVENT=end\n")(entry) && has("TINE_ID=300\n")(entry);
    let entries = journal.take_until("last end", is_last);
    assert_eq!(entries.iter().filter(|entry| has("TINE_EVENT=accept\n")(entry)).count(), 300);
    stop(&mut server);
}

#[test]
fn a_missing_daemon_ends_the_start() {
    let folder = Folder::new("log-missing");
    for (target, path) in [("journal", "/run/systemd/journal/socket"), ("syslog", "/dev/log")] {
        let mut command = with_own_mounts(&folder, &["--log-target", target]);
        let (code, _, err) = run(command.command());
        assert!(code == 111 && err.contains(&format!("cannot log to {path}: no such file")), "{code} {err}");
    }
}

/// Starts a server whose standard error is a socket, as systemd connects it to the journal, with
/// this value of `JOURNAL_STREAM` for its device and inode. Returns its first lines up to one that
/// ends a connection.
fn lines_on_a_stream(format: &str, variable: impl Fn(u64, u64) -> String) -> Vec<String> {
    let (ours, theirs) = UnixStream::pair().expect("a pair");
    let stat = rustix::fs::fstat(theirs.as_fd()).expect("a socket");
    let mut process = Command::new(tine())
        .args(["serve", "--log", format, "-1", "--control", "none", "--verbose", "127.0.0.1:0"])
        .env("JOURNAL_STREAM", variable(stat.st_dev, stat.st_ino))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .expect("tine starts");
    let mut port = String::new();
    BufReader::new(process.stdout.take().expect("piped")).read_line(&mut port).expect("a port");
    Client::connect(port.trim().parse().expect("a port")).echo("x").finish();
    let mut lines = Vec::new();
    for line in BufReader::new(ours).lines().map_while(Result::ok) {
        let is_end = line.contains("end");
        lines.push(line);
        if is_end {
            break;
        }
    }
    kill(i32::try_from(process.id()).expect("a process id"), Signal::TERM);
    assert!(process.wait().expect("our child").success());
    lines
}

#[test]
fn lines_on_a_stream_of_the_journal_have_priorities() {
    let exact = |device, inode| format!("{device}:{inode}");
    for (format, first, accept, receive) in
        [("text", "<5>2", "<6>2", "<7>2"), ("json", "<5>{", "<6>{", "<7>{")]
    {
        let lines = lines_on_a_stream(format, exact);
        for (event, start) in [("listen", first), ("accept", accept), ("receive", receive), ("end", accept)] {
            let line = lines.iter().find(|line| line.contains(event)).expect(event);
            assert!(line.starts_with(start), "{line}");
        }
    }
    // That of another process, inherited by mistake.
    let lines = lines_on_a_stream("text", |device, inode| format!("{device}:{}", inode + 1));
    assert!(lines.iter().all(|line| line.starts_with('2')), "{lines:?}");
}
