//! Programs that are started warm: each client is served by a copy that is as its own execution
//! would be.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::Signal;
use serde_json::Value;
use tine_e2e::cgroup::DelegatedCgroup;
use tine_e2e::jails::{processes_in, room_of};
use tine_e2e::names::outcome;
use tine_e2e::{Folder, Server, procfs, run, tine, wait_until};

/// One forker, so that the template of the first client is that of the second.
const WARM: &[&str] = &["--warm", "--forkers", "1"];

fn warm(options: &[&str], program: &[&str]) -> Server {
    Server::program(&[WARM, options].concat(), program)
}

/// The lines about templates that are ready: `milliseconds` and others are numbers.
fn templates(server: &Server) -> Vec<Value> {
    server.log.of("warm").into_iter().filter(|line| line["state"] == "ready").collect()
}

/// The process of the first template.
fn first_template(server: &Server) -> i64 {
    server.log.wait("a template", |_| templates(server).first()?["pid"].as_i64())
}

fn answer(server: &Server, text: &str) -> String {
    let mut client = server.connect();
    client.send(text).half_close();
    client.read_text()
}

#[test]
fn each_client_has_a_copy_with_its_own_process_and_variables() {
    let script = "read a; set -- $(cat /proc/self/stat); echo $a $TCPREMOTEPORT $TINE_CONNECTION $4 $5";
    let server = warm(&[], &["sh", "-c", script]);
    let template = first_template(&server);
    let mut pids = BTreeSet::from([template]);
    for number in 1..=4 {
        let mut client = server.connect();
        let port = client.address().rsplit_once(':').expect("a port").1.to_owned();
        client.send("hello\n").half_close();
        let answer = client.read_text();
        let pid = server.log.wait_for("accept", number)[number - 1]["pid"].as_i64().expect("a process");
        // The parent of `cat` is the copy, which leads its group.
        assert_eq!(answer, format!("hello {port} {number} {pid} {pid}\n"));
        assert!(pids.insert(pid), "{pids:?}");
        assert_eq!(outcome(&server.log.wait_for("end", number)[number - 1]), "exit 0");
    }
    assert_eq!(templates(&server).len(), 1);
}

#[test]
fn each_copy_reads_the_rest_of_a_long_script_from_its_own_offset() {
    let folder = Folder::new("warm-long");
    let mut text = String::from("read a\n");
    (0..2000).for_each(|number| _ = writeln!(text, "b={number} # a line of a long script"));
    let script = folder.write("script", &(text + "echo $a $b\n")).display().to_string();
    for shell in ["dash", "bash"] {
        let options: &[&str] = if shell == "bash" { &["--warm-allow", "variables"] } else { &[] };
        let server = warm(options, &[shell, &script]);
        for number in 0..20 {
            assert_eq!(answer(&server, &format!("{number}\n")), format!("{number} 1999\n"), "{shell}");
        }
    }
}

#[test]
fn the_descriptors_are_those_of_an_execution() {
    let list = "read a; ls /proc/$$/fd >/dev/null; for fd in /proc/self/fd/*; do echo ${fd##*/}; done";
    let [cold, warm] =
        [&["--forkers", "1"][..], WARM].map(|options| Server::program(options, &["sh", "-c", list]));
    assert_eq!(answer(&warm, "\n"), answer(&cold, "\n"));
}

#[test]
fn duplicates_of_a_file_have_one_offset_in_each_copy() {
    let folder = Folder::new("warm-duplicates");
    let (read, written) = (folder.write("read", "1\n2\n3\n"), folder.path("written"));
    let read = read.display();
    for script in [
        format!("exec 3<{read} 4<&3; read a; read b <&3; read c <&4; echo $a $b $c"),
        format!("exec 3>{written} 4>&3 2>&3; read a; echo $a >&3; echo b >&4; echo c >&2; cat {written}"),
    ] {
        let [cold, warm] = [&["--forkers", "1"][..], WARM].map(|options| {
            Server::program(&[options, &["--stderr", "log"]].concat(), &["sh", "-c", &script])
        });
        let of_an_execution = answer(&cold, "a\n");
        assert_eq!(of_an_execution.split_whitespace().count(), 3, "{of_an_execution}");
        (0..2).for_each(|_| assert_eq!(answer(&warm, "a\n"), of_an_execution, "{script}"));
        assert_eq!(templates(&warm).len(), 1);
    }
}

#[test]
fn copies_are_for_the_clients_of_the_first_address() {
    let folder = Folder::new("warm-unix");
    let (path, script) = (folder.path("socket"), "read a; echo $a $PROTO $UNIXREMOTEEUID $UNIXREMOTEPID");
    let server = warm(&[&format!("unix:{path}")], &["sh", "-c", script]);
    first_template(&server);
    let own = format!("x UNIX {} {}\n", rustix::process::geteuid().as_raw(), std::process::id());
    for _ in 0..2 {
        let mut client = UnixStream::connect(&path).expect("a listener");
        client.write_all(b"x\n").expect("a client");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, own);
    }
    assert_eq!(answer(&server, "y\n"), "y TCP\n");
    let starts: Vec<Value> = server.log.wait_for("end", 3).iter().map(|end| end["start"].clone()).collect();
    assert_eq!(starts, ["warm", "warm", "cold"]);
}

#[test]
fn allowed_variables_are_not_set() {
    let server =
        warm(&["--warm-allow", "variables"], &["bash", "-c", "read a; echo ${TCPREMOTEIP-unset} $a"]);
    assert_eq!(answer(&server, "x\n"), "unset x\n");
}

#[test]
fn a_program_that_cannot_be_copied_is_refused_or_executed() {
    let python = ["/usr/bin/python3", "-S", "-c", "import os; print(os.environ['TCPREMOTEPORT'], input())"];
    let refused = Command::new(tine())
        .args(["serve", "--warm", "127.0.0.1:0", "--"])
        .args(python)
        .stdin(Stdio::null())
        .output()
        .expect("tine");
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(100), "{text}");
    assert!(text.contains("variables: REMOTE_ADDR, ") && text.contains("warm-check"), "{text}");
    let server = Server::program(&["--warm=try", "--forkers", "1"], &python);
    let mut client = server.connect();
    let port = client.address().rsplit_once(':').expect("a port").1.to_owned();
    client.send("x\n").half_close();
    assert_eq!(client.read_text(), format!("{port} x\n"));
    let off = server.log.wait_for("warm", 1);
    assert_eq!((&off[0]["state"], &off[0]["why"]), (&"off".into(), &"refused".into()));
}

/// A program that shows its stack canary (x86-64), or crashes.
fn canary_program(folder: &Folder) -> PathBuf {
    let source = folder.write(
        "canary.c",
        r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
__attribute__((noinline)) static int serve(void) {
    char line[64];
    if (!fgets(line, sizeof line, stdin)) return 1;
    unsigned long canary;
    __asm__("mov %%fs:0x28, %0" : "=r"(canary));
    printf("%016lx\n", canary);
    fflush(stdout);
    if (line[0] == 'c') abort();
    return 0;
}
int main(void) { char deeper[100]; memset(deeper, 1, sizeof deeper); return serve() + deeper[3] - 1; }
"#,
    );
    let program = folder.path("canary");
    let compiled =
        run(Command::new("gcc").args(["-O1", "-fstack-protector-all", "-o", &program]).arg(source));
    assert_eq!(compiled.0, 0, "{compiled:?}");
    program.into()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn each_copy_has_a_stack_canary_of_its_own() {
    let folder = Folder::new("warm-canary");
    let program = canary_program(&folder);
    let server = warm(&[], &[&program.display().to_string()]);
    let mut seen = BTreeSet::new();
    for number in 1..=100 {
        let canary = answer(&server, "x\n");
        assert!(canary.ends_with("00\n") && seen.insert(canary.clone()), "{canary}");
        // Its frames, which were there before, return.
        assert_eq!(outcome(&server.log.wait_for("end", number)[number - 1]), "exit 0");
    }
    assert_eq!(templates(&server).len(), 1);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn a_crash_renews_the_template_and_three_end_the_copies() {
    let folder = Folder::new("warm-crash");
    let program = canary_program(&folder).display().to_string();
    let server = warm(&[], &[&program]);
    for crash in 1..=2 {
        answer(&server, "c\n");
        server.log.wait("a new template", |_| (templates(&server).len() == crash + 1).then_some(()));
    }
    answer(&server, "c\n");
    let off = |lines: Vec<Value>| lines.into_iter().any(|line| line["why"] == "crashes");
    server.log.wait("no more copies", |log| off(log.of("warm")).then_some(()));
    // By execution.
    assert!(answer(&server, "x\n").ends_with("00\n"));
    assert_eq!(templates(&server).len(), 3);
    // An operator has looked.
    server.signal(Signal::HUP);
    server.log.wait("a template", |_| (templates(&server).len() == 4).then_some(()));
    assert!(answer(&server, "x\n").ends_with("00\n"));
}

#[test]
fn a_template_is_renewed_after_connections_and_when_its_files_change() {
    let folder = Folder::new("warm-renew");
    let script = folder.write("script", "read a\necho one $a\n");
    let path = script.display().to_string();
    let server = warm(&["--warm-renew", "3"], &["sh", &path]);
    (0..3).for_each(|_| assert_eq!(answer(&server, "x\n"), "one x\n"));
    // The fourth client finds that it is due.
    assert_eq!(answer(&server, "x\n"), "one x\n");
    server.log.wait("a second template", |_| (templates(&server).len() == 2).then_some(()));
    let replacement = folder.write("replacement", "read a\necho two $a\n");
    fs::rename(replacement, &script).expect("replaced");
    server.log.wait("a third template", |_| (templates(&server).len() == 3).then_some(()));
    assert_eq!(answer(&server, "x\n"), "two x\n");
    let stale = server.log.of("warm").into_iter().find(|line| line["state"] == "stale").expect("a line");
    assert_eq!(stale["file"], path.as_str());
}

#[test]
fn a_program_that_cannot_be_copied_any_more_is_executed() {
    let folder = Folder::new("warm-refused-later");
    let script = folder.write("script", "read a; echo one $a\n");
    let fifo = folder.path("fifo");
    assert_eq!(run(Command::new("mkfifo").arg(&fifo)).0, 0);
    let server = warm(&[], &["sh", &script.display().to_string()]);
    assert_eq!(answer(&server, "x\n"), "one x\n");
    let replace = |text: &str| {
        fs::rename(folder.write("replacement", text), &script).expect("replaced");
    };
    replace(&format!("exec 9<>{fifo}; read a; echo two $a\n"));
    let refused = |lines: Vec<Value>| lines.into_iter().any(|line| line["why"] == "refused");
    server.log.wait("no more copies", |log| refused(log.of("warm")).then_some(()));
    assert_eq!(answer(&server, "x\n"), "two x\n");
    replace("read a; echo three $a\n");
    assert_eq!(answer(&server, "x\n"), "three x\n");
    assert_eq!(templates(&server).len(), 1);
    // At once, not after the time of a renewal.
    server.signal(Signal::HUP);
    server.log.wait("a template", |_| (templates(&server).len() == 2).then_some(()));
    assert_eq!(answer(&server, "x\n"), "three x\n");
}

#[test]
fn warm_programs_have_a_user_a_jail_a_cgroup_and_a_standard_error() {
    let script = "read a; echo $(id -u) $a; echo noise >&2";
    for options in [&["--user", "nobody"][..], &["--user", "nobody", "--jail=light"]] {
        let server = warm(&[&["--stderr", "log"], options].concat(), &["sh", "-c", script]);
        for number in 1..=2 {
            assert_eq!(answer(&server, "x\n"), "65534 x\n", "{options:?}");
            let line = &server.log.wait_for("stderr", number)[number - 1];
            assert_eq!((&line["id"], &line["text"]), (&number.into(), &"noise".into()));
        }
    }
    let cgroups = DelegatedCgroup::new("warm");
    let server =
        cgroups.program(WARM, &["sh", "-c", "read a; grep -o tine[^/]*/.*$ /proc/self/cgroup; read b"]);
    let mut client = server.connect();
    client.send("x\n");
    assert!(client.read_line().contains('/'));
    // Its template is not in it.
    wait_until("the copy is alone", || (cgroups.members().len() == 1).then_some(()));
    client.send("x\n");
    assert_eq!(client.read_to_end(), b"");
}

#[test]
fn a_room_of_a_full_jail_lasts_as_long_as_the_copies_in_it() {
    let options = ["--user", "nobody", "--jail=full", "--warm-renew", "1"];
    let server = warm(&options, &["sh", "-c", "read a; echo $a $(id -u); read b; echo $b"]);
    let template = first_template(&server) as i32;
    let room = room_of(template);
    let mut first = server.connect();
    first.send("one\n").expect("one 65534\n");
    let copy = server.log.wait_for("accept", 1)[0]["pid"].as_i64().expect("a process") as i32;
    assert_eq!(room_of(copy), room);
    // The second client finds that the template is due.
    assert_eq!(answer(&server, "two\nthree\n"), "two 65534\nthree\n");
    server.log.wait("a second template", |_| (templates(&server).len() == 2).then_some(()));
    wait_until("the first one has ended", || (!procfs::is_running(template)).then_some(()));
    first.send("four\n").expect("four\n");
    assert_eq!(first.read_to_end(), b"");
    wait_until("the room has ended", || processes_in(&room).is_empty().then_some(()));
    assert_eq!(outcome(&server.log.wait_for("end", 2)[1]), "exit 0");
}

#[test]
fn a_stop_lets_copies_finish_and_leaves_nothing() {
    let mut server = warm(&["--drain-timeout", "20s"], &["cat"]);
    let mut client = server.connect();
    client.echo("before\n");
    let template = first_template(&server);
    server.signal(Signal::TERM);
    server.log.wait_for("drain", 1);
    client.echo("during\n");
    client.half_close();
    assert_eq!(client.read_to_end(), b"");
    assert_eq!(server.wait().code(), Some(0));
    let gone = || (!fs::exists(format!("/proc/{template}")).expect("/proc")).then_some(());
    wait_until("the template has ended", gone);
}
