//! The commands of docs/jails.md for real programs in a full jail, as they are written there, with
//! real clients.

use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::Command;

use tine_e2e::documents::blocks;
use tine_e2e::names::outcome;
use tine_e2e::programs::{git, succeeds, tree};
use tine_e2e::recipe::{SECRET, Site, recipes, start, start_words, without_jail};
use tine_e2e::{Random, Server, run};

/// The first user of connections.
const FIRST: u32 = 524_288;

fn assert_all_ended_well(server: &Server, number: usize) {
    let ends = server.log.wait_for("end", number);
    assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
}

#[test]
fn each_command_of_the_page_is_started() {
    let source = include_str!("jail_programs.rs");
    let recipes = blocks(recipes());
    let commands: Vec<_> = recipes.iter().filter(|(_, blocks)| !blocks.is_empty()).collect();
    assert_eq!(commands.len(), 8);
    for (name, blocks) in commands {
        let (_, test) = source.split_once(&format!("Site::new(\"{name}\"")).expect(name);
        let test = test.split("\n}\n").next().expect("a function");
        for (number, _) in blocks.iter().enumerate() {
            let used = ["in_each_way", "block", "write_block"].map(|call| format!("{call}({number}"));
            assert!(used.iter().any(|used| test.contains(used)), "{name}: {number}");
        }
    }
}

#[test]
fn git_daemon_is_cloned_from_and_pushed_to() {
    let site = Site::new("git daemon", "programs-git");
    let (origin, first) = (site.path("git/origin.git"), site.path("first"));
    succeeds(git("/").args(["init", "-q", "--bare", "-b", "main", &origin]));
    succeeds(git("/").args(["init", "-q", "-b", "main", &first]));
    std::fs::write(site.path("first/file"), "content\n").expect("a file");
    succeeds(git(&first).args(["add", "."]));
    succeeds(git(&first).args(["commit", "-q", "-m", "first"]));
    succeeds(git(&first).args(["push", "-q", &origin, "main"]));
    succeeds(git("/").args(["clone", "-q", "--bare", &origin, &site.path("outside.git")]));
    symlink("../outside.git", site.path("git/outside.git")).expect("a link");
    let mut clones = 0;
    site.in_each_way(0, |server, reads_outside| {
        let mut clone = |name: &str| {
            clones += 1;
            let target = site.path(&format!("clone-{clones}"));
            let url = format!("git://127.0.0.1:{}/{name}", server.port());
            let (_, _, err) = run(git("/").args(["clone", "-q", &url, &target]));
            std::fs::read_to_string(format!("{target}/file")).map_err(|_| err)
        };
        assert_eq!(clone("origin.git").as_deref(), Ok("content\n"));
        let outside = clone("outside.git");
        assert!(outside.is_ok() == reads_outside, "{outside:?}");
    });
    succeeds(Command::new("chown").args(["-R", "nobody", &origin]));
    let server = start(&site.block(1).replace("--user git", "--user nobody"));
    let url = format!("git://127.0.0.1:{}/origin.git", server.port());
    // More than the limit on files that a jail has by itself.
    std::fs::write(site.path("first/noise"), Random::new(1).bytes(17 << 20)).expect("a file");
    succeeds(git(&first).args(["add", "."]));
    succeeds(git(&first).args(["commit", "-q", "-m", "second"]));
    succeeds(git(&first).args(["push", "-q", &url, "main"]));
    assert_all_ended_well(&server, 1);
    let newest = |folder: &str| {
        succeeds(git("/").args([
            "-c",
            &format!("safe.directory={folder}"),
            "-C",
            folder,
            "rev-parse",
            "main",
        ]))
    };
    assert_eq!(newest(&first), newest(&origin));
}

#[test]
fn rsync_daemon_sends_and_receives() {
    let site = Site::new("rsync", "programs-rsync");
    site.folder.write("rsync/files/a/one", "1\n");
    std::fs::write(site.path("rsync/files/two"), vec![b'2'; 1 << 20]).expect("a file");
    site.directory("rsync/incoming", 0o1777);
    site.directory("upload", 0o755);
    // More than the limit on files that a jail has by itself.
    std::fs::write(site.path("upload/large"), vec![b'3'; 17 << 20]).expect("a file");
    site.directory("outside", 0o755);
    site.folder.write("outside/file", SECRET);
    site.write_block(1, &format!("[outside]\npath = {}\n", site.path("outside")));
    site.in_each_way(0, |server, reads_outside| {
        let copy = |from: &str, to: &str| run(Command::new("rsync").args(["-rt", from, to]));
        let module = |name: &str| format!("rsync://127.0.0.1:{}/{name}/", server.port());
        let _ = std::fs::remove_dir_all(site.path("copy"));
        let (code, _, err) = copy(&module("files"), &site.path("copy"));
        assert_eq!(code, 0, "{err}");
        assert!(tree(Path::new(&site.path("copy"))) == tree(Path::new(&site.path("rsync/files"))));
        let (code, _, err) = copy(&module("outside"), &site.path("copy"));
        assert_eq!(code == 0, reads_outside, "{err}");
        let (code, _, err) = copy(&site.path("upload/large"), &module("incoming"));
        assert_eq!(code, 0, "{err}");
        let received = site.path("rsync/incoming/large");
        assert_eq!(std::fs::metadata(&received).expect("received").len(), 17 << 20);
        std::fs::remove_file(received).expect("ours");
    });
}

#[test]
fn a_program_in_python_serves() {
    let site = Site::new("Python", "programs-python");
    site.folder.write("app/app.py", include_str!("programs/app.py"));
    site.in_each_way(0, |server, reads_outside| {
        let answer = server.connect().send(site.secret() + "\n").half_close().read_text();
        let outside = if reads_outside { "outside\\n" } else { "FileNotFoundError" };
        let expected = format!("[45, [0, 1, 4, 9], [\"words\"], [true], \"{outside}\"]\n");
        assert_eq!(answer, expected);
        assert_all_ended_well(server, 1);
    });
}

#[test]
fn a_program_in_perl_serves() {
    let site = Site::new("Perl", "programs-perl");
    site.folder.write("app/app.pl", include_str!("programs/app.pl"));
    site.in_each_way(0, |server, reads_outside| {
        let answer = server.connect().send(site.secret() + "\n").half_close().read_text();
        let outside = if reads_outside { SECRET } else { "No such file or directory\n" };
        assert_eq!(answer, format!("127.0.0.1 2 7 {outside}"));
        assert_all_ended_well(server, 1);
    });
}

#[test]
fn a_program_in_node_serves() {
    let site = Site::new("Node", "programs-node");
    site.folder.write("app/app.js", include_str!("programs/app.js"));
    let get = |server: &Server| {
        let request = format!("GET {} HTTP/1.0\r\n\r\n", site.secret());
        let answer = server.connect().send(request).read_text();
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    };
    site.in_each_way(0, |server, reads_outside| {
        let outside = if reads_outside { "cpus true outside\n" } else { "no cpus true ENOENT" };
        assert_eq!(get(server), format!("42 worker stored {outside}"));
        assert_all_ended_well(server, 1);
    });
    let denied = site.block(0).replacen("--jail", "--jail --memory-deny-write-execute yes", 1);
    let server = start(&denied);
    server.connect().expect_closed();
    let end = server.log.wait_for("end", 1);
    assert!(outcome(&end[0]).starts_with("signal "), "{end:?}");
    let server = start(&denied.replace("/usr/bin/node", "/usr/bin/node --jitless"));
    assert_eq!(get(&server), "interpreted worker stored no cpus true ENOENT");
    let few = site.block(0).replacen("--jail", "--jail --limit-as 256M", 1);
    let server = start(&few);
    server.connect().expect_closed();
    let end = server.log.wait_for("end", 1);
    assert!(outcome(&end[0]).starts_with("signal "), "{end:?}");
}

#[test]
fn gcc_compiles_what_is_judged() {
    let site = Site::new("A judge of programs in C", "programs-judge");
    // Without the jail, it can be read.
    let mut reader = Command::new("setpriv");
    reader.args(["--reuid=65534", "--regid=65534", "--clear-groups", "cat", &site.secret()]);
    assert_eq!(succeeds(&mut reader), SECRET);
    let server = start(&site.block(0));
    let judged = include_str!("programs/judged.c").replace("OUTSIDE", &site.secret());
    let found = "network: Permission denied\nfile: No such file or directory\n\
        memory: Cannot allocate memory\nchildren: few\n";
    for (source, answer, end) in [
        ("#include <stdio.h>\nint main(void) { return puts(\"judged\") < 0; }\n", "judged\n", "exit 0"),
        (&judged, found, "exit 3"),
        ("int main(void) { for (;;) {} }\n", "", "signal KILL"),
        (
            "#include <stdio.h>\nint main(void) { FILE *f = fopen(\"f\", \"w\"); for (;;) putc(0, f); }\n",
            "",
            "signal XFSZ",
        ),
    ] {
        let number = server.log.of("end").len() + 1;
        assert_eq!(server.connect().send(source).half_close().read_text(), answer, "{source}");
        assert_eq!(outcome(&server.log.wait_for("end", number)[number - 1]), end, "{source}");
    }
    let answer = server.connect().send("int main(void) { return x; }\n").half_close().read_text();
    assert!(answer.contains("'x' undeclared") || answer.contains("‘x’ undeclared"), "{answer}");
}

#[test]
fn busybox_serves_files_and_a_shell() {
    let site = Site::new("busybox", "programs-busybox");
    site.folder.write("www/index.html", "<p>page\n");
    symlink("../secret", site.path("www/outside")).expect("a link");
    site.in_each_way(0, |server, reads_outside| {
        let get = |path: &str| server.connect().send(format!("GET {path} HTTP/1.0\r\n\r\n")).read_text();
        let page = get("/");
        assert!(page.contains(" 200 OK\r\n") && page.ends_with("\r\n\r\n<p>page\n"), "{page}");
        let outside = get("/outside");
        let expected = if reads_outside { " 200 OK\r\n" } else { " 404 Not Found\r\n" };
        assert!(outside.contains(expected) && outside.ends_with(SECRET) == reads_outside, "{outside}");
    });
    site.in_each_way(1, |server, reads_outside| {
        let script = format!("exec 2>&1\nseq 3 | busybox tac\nbusybox cat {} || :\n", site.secret());
        let answer = server.connect().send(script).half_close().read_text();
        let missing = format!("cat: can't open '{}': No such file or directory\n", site.secret());
        let outside = if reads_outside { SECRET } else { &missing };
        assert_eq!(answer, format!("3\n2\n1\n{outside}"));
        assert_all_ended_well(server, 1);
    });
}

/// Makes the keys of the server and the client of sshd, and what the client knows of the server.
fn make_keys(site: &Site) {
    site.directory("ssh", 0o755);
    for key in ["ssh/host_key", "key"] {
        succeeds(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &site.path(key)]));
    }
    std::fs::copy(site.path("key.pub"), site.path("ssh/authorized_keys")).expect("a copy");
    let host_key = std::fs::read_to_string(site.path("ssh/host_key.pub")).expect("a key");
    site.folder.write("known_hosts", &format!("tine {host_key}"));
}

/// Executes commands of sftp(1) at a server. Returns its exit code and what it printed.
fn sftp(site: &Site, server: &Server, commands: &str) -> (i32, String) {
    let batch = site.folder.write("batch", commands);
    let mut sftp = Command::new("sftp");
    sftp.args(["-q", "-F", "/dev/null", "-i", &site.path("key"), "-P", &server.port().to_string()]);
    let known = format!("UserKnownHostsFile={}", site.path("known_hosts"));
    for option in [&known, "HostKeyAlias=tine", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"] {
        sftp.args(["-o", option]);
    }
    let (code, out, err) = run(sftp.arg("-b").arg(batch).arg("www-data@127.0.0.1"));
    (code, out + &err)
}

#[test]
fn sshd_serves_the_user_of_the_server() {
    const WWW_DATA: u32 = 33;
    let site = Site::new("sshd", "programs-sshd");
    make_keys(&site);
    site.write_block(1, "");
    let owned = |name: &str, uid: u32| chown(site.path(name), Some(uid), None).expect("root");
    owned("ssh/host_key", WWW_DATA);
    site.directory("www", 0o755);
    owned("www", WWW_DATA);
    site.folder.write("page.html", "<p>page\n");
    let (page, uploaded, back) = (site.path("page.html"), site.path("www/page.html"), site.path("back"));
    let transfer = format!("put {page} {uploaded}\nget {uploaded} {back}\nrm {uploaded}\n");
    let outside = format!("get {} {back}\n", site.secret());
    let command = site.block(0);
    let light = without_jail(&command).replacen("tine serve", "tine serve --jail=light", 1);
    let light = light.replacen("--user", &format!("--read-write-paths {} --user", site.path("www")), 1);
    for (server, reads_outside) in [(start(&command), false), (start_words(&light), true)] {
        let (code, said) = sftp(&site, &server, &transfer);
        assert_eq!((code, std::fs::read_to_string(&back).ok().as_deref()), (0, Some("<p>page\n")), "{said}");
        std::fs::remove_file(&back).expect("received");
        let (code, said) = sftp(&site, &server, &outside);
        assert_eq!(code == 0, reads_outside, "{said}");
        assert!(reads_outside || said.contains("not found"), "{said}");
    }
    // The key is accepted, and nothing can be served as that user. One forker: the client has the
    // first slot, and its user.
    let server = start(&command.replacen(" --user www-data", " --forkers 1", 1));
    owned("ssh/host_key", FIRST);
    let (code, said) = sftp(&site, &server, &transfer);
    assert_eq!(code, 255, "{said}");
    assert_eq!(outcome(&server.log.wait_for("end", 1)[0]), "exit 255");
    // The logger of standard error may be behind.
    for text in ["Accepted publickey for www-data", "Failed to set uids"] {
        server.log.wait_for_line(text, |line| line.contains(text));
    }
}
