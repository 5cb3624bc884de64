//! The recipes of docs/operating.md, with the real programs and clients.

use std::process::Command;

use tine_e2e::names::outcome;
use tine_e2e::programs::{git, succeeds, tree};
use tine_e2e::{Folder, Server};

#[test]
fn git_daemon_serves_twenty_parallel_clones_and_pushes() {
    let folder = Folder::new("git");
    let (origin, first) = (folder.path("origin.git"), folder.path("first"));
    succeeds(git("/").args(["init", "-q", "--bare", &origin]));
    succeeds(git("/").args(["init", "-q", "-b", "main", &first]));
    // Half a megabyte that does not compress.
    let noise: Vec<u8> = (0..500_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(format!("{first}/noise"), &noise).expect("a file");
    succeeds(git(&first).args(["add", "noise"]));
    succeeds(git(&first).args(["commit", "-q", "-m", "noise"]));
    let base = format!("--base-path={}", folder.0.display());
    let server = Server::program(
        &["--env", "GIT_CONFIG_GLOBAL=/dev/null"],
        &["git", "daemon", "--inetd", "--export-all", "--enable=receive-pack", &base],
    );
    let url = format!("git://127.0.0.1:{}/origin.git", server.port());
    succeeds(git(&first).args(["push", "-q", &url, "main"]));
    let workers: Vec<_> = (0..20)
        .map(|number| {
            let (url, clone) = (url.clone(), folder.path(&format!("clone-{number}")));
            let noise = noise.clone();
            std::thread::spawn(move || {
                succeeds(git("/").args(["clone", "-q", "-b", "main", &url, &clone]));
                assert!(std::fs::read(format!("{clone}/noise")).expect("cloned") == noise);
                std::fs::write(format!("{clone}/{number}"), "mine").expect("a file");
                succeeds(git(&clone).args(["add", "."]));
                succeeds(git(&clone).args(["commit", "-q", "-m", "mine"]));
                succeeds(git(&clone).args(["push", "-q", "origin", &format!("main:branch-{number}")]));
            })
        })
        .collect();
    workers.into_iter().for_each(|worker| worker.join().expect("cloned and pushed"));
    let branches = succeeds(git(&origin).args(["branch", "--list", "branch-*"]));
    assert_eq!(branches.lines().count(), 20);
    succeeds(git(&origin).args(["fsck", "--full"]));
    let ends = server.log.wait_for("end", 41);
    assert!(ends.iter().all(|end| outcome(end) == "exit 0"), "{ends:?}");
}

#[test]
fn rsync_daemon_serves_five_parallel_copies() {
    let folder = Folder::new("rsync");
    let source = folder.0.join("source");
    for number in 0..40usize {
        let inner = source.join(format!("folder-{}", number % 7));
        std::fs::create_dir_all(&inner).expect("a folder");
        std::fs::write(inner.join(format!("{number}")), vec![number as u8; number * 10_007]).expect("a file");
    }
    let config = folder.path("rsyncd.conf");
    let text = format!("uid = 0\ngid = 0\nuse chroot = no\n[tree]\npath = {}\n", source.display());
    std::fs::write(&config, text).expect("a file");
    let server = Server::program(&[], &["rsync", "--daemon", &format!("--config={config}")]);
    let url = format!("rsync://127.0.0.1:{}/tree/", server.port());
    let copies: Vec<_> = (0..5)
        .map(|number| {
            let (url, target) = (url.clone(), folder.0.join(format!("copy-{number}")));
            std::thread::spawn(move || {
                succeeds(Command::new("rsync").args([
                    "-a",
                    "--checksum",
                    &url,
                    &target.display().to_string(),
                ]));
                tree(&target)
            })
        })
        .collect();
    let expected = tree(&source);
    assert_eq!(expected.len(), 40);
    for copy in copies {
        assert!(copy.join().expect("copied") == expected);
    }
    assert!(server.log.wait_for("end", 5).iter().all(|end| outcome(end) == "exit 0"));
}

#[test]
fn line_programs_in_python_perl_bc_and_shell_reply() {
    let python = "import sys\nfor line in sys.stdin:\n    print(line.strip().upper(), flush=True)";
    for (program, question, answer) in [
        (&["python3", "-c", python][..], "one\ntwo\n", "ONE\nTWO\n"),
        (&["perl", "-ne", "$| = 1; print scalar reverse($_), qq(\\n) if chomp"], "abc\nxyz\n", "cba\nzyx\n"),
        (&["bc", "-q"], "6*7\n2^100\n", "42\n1267650600228229401496703205376\n"),
        (&["sh", "-c", "while read -r a b; do echo \"$b $a\"; done"], "x y\n1 2\n", "y x\n2 1\n"),
    ] {
        let server = Server::program(&[], program);
        let mut clients: Vec<_> = (0..5).map(|_| server.connect()).collect();
        for client in &mut clients {
            client.send(question).half_close();
        }
        for client in &mut clients {
            assert_eq!(String::from_utf8_lossy(&client.read_to_end()), answer, "{program:?}");
        }
        assert!(server.log.wait_for("end", 5).iter().all(|end| outcome(end) == "exit 0"));
    }
}
