//! `--temporary-file-system`: directories in memory that each connection in a full jail has of its
//! own.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tine_e2e::{Folder, Server, run, tine};

fn shell(options: &[&str], script: &str) -> Server {
    Server::program(&[&["--jail"], options].concat(), &["sh", "-c", script])
}

/// What a shell script prints.
fn printed(options: &[&str], script: &str) -> String {
    shell(options, script).connect().half_close().read_text()
}

const ANYWHERE: [&str; 2] = ["--temporary-file-system", "/own"];

#[test]
fn each_connection_begins_with_an_empty_one() {
    let script = "ls -A /own; echo x > /own/$1 && ls /own; read line";
    let server = Server::program(&["--jail", ANYWHERE[0], ANYWHERE[1]], &["sh", "-c", script, "sh", "a"]);
    // One beside the other, and one after them.
    let mut clients = [server.connect(), server.connect()];
    clients.iter_mut().for_each(|client| _ = client.expect("a\n"));
    clients.iter_mut().for_each(|client| client.half_close().expect_closed());
    server.connect().expect("a\n");
    assert!(!std::path::Path::new("/own").exists(), "the system has no such path");
    // Spares have one, too, and a user that starts the server, where the kernel lets users make
    // namespaces.
    let server = shell(&["--spares", "2", ANYWHERE[0], ANYWHERE[1]], "echo y > /own/y && ls /own");
    assert_eq!(server.connect().read_text(), "y\n");
    assert_eq!(server.connect().read_text(), "y\n");
}

#[test]
fn the_size_the_number_of_files_and_the_flags_are_limits() {
    let fill = "cd /own; (head -c 3M /dev/zero > a) 2>&1 | grep -o 'No space'; stat -c %s a
        i=0; while (: > f$i); do i=$((i + 1)); done 2>/dev/null; test $i -lt 100 && echo few
        grep ' /own ' /proc/self/mounts | cut -d' ' -f3,4; stat -f -c %b*%S /tmp";
    let text = printed(&["--temporary-file-system", "/own:1M"], fill);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[..3], ["No space", "1048576", "few"], "{text}");
    assert!(lines[3].starts_with("tmpfs rw,nosuid,nodev,"), "{text}");
    assert_eq!(lines[4], "4096*4096", "{text}");
    let text = printed(&ANYWHERE, "stat -f -c %b*%S /own");
    assert_eq!(text, "4096*4096\n");
}

#[test]
fn it_hides_what_is_there_but_not_what_is_bound_in_it() {
    let folder = Folder::new_in("/var/tmp", "jail-temporary");
    let file = folder.write("data/file", "content\n");
    std::fs::set_permissions(folder.path(""), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let data = file.parent().expect("its folder").to_str().expect("UTF-8").to_owned();
    let bind = format!("{data}:/usr/share/data");
    let script = "ls /usr/share; cat /usr/share/data/file; echo x 2>&1 > /usr/share/data/new
        echo y > /usr/share/y && cat /usr/share/y; echo z 2>&1 > /usr/z";
    let options = ["--temporary-file-system", "/usr/share", "--bind-read-only-paths", &bind];
    let text = printed(&options, script);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[..2].to_vec(), lines[3]), (vec!["data", "content"], "y"), "{text}");
    assert!(lines.len() == 5 && [2, 4].iter().all(|line| lines[*line].contains("Read-only")), "{text}");
    // In another one; at the other name of /tmp; in a directory that is bound.
    let outer = folder.path("");
    let inner = folder.path("data");
    let options = [
        &["--temporary-file-system", "/a", "--temporary-file-system", "/a/b:4K"][..],
        &["--temporary-file-system", "/var/tmp", "--temporary-file-system", "/tmp/c"],
    ]
    .concat();
    let script = "for d in /a /a/b /var/tmp /tmp /tmp/c; do echo x > $d/x && ls $d | tr '\\n' ' '; done";
    assert_eq!(printed(&options, script), "b x x x c x x ");
    let options = ["--bind-read-only-paths", &outer, "--temporary-file-system", &inner];
    assert_eq!(
        printed(&options, &format!("ls {outer}; ls {inner}; echo x > {inner}/x && echo y")),
        "data\ny\n"
    );
    assert_eq!(std::fs::read_dir(&data).expect("ours").count(), 1);
}

#[test]
fn the_program_and_the_working_directory_are_there() {
    let options = ["--temporary-file-system", "/usr/bin", "--cwd", "/usr/bin"];
    let server = Server::program(&[&["--jail"], &options[..]].concat(), &["/usr/bin/cat"]);
    assert_eq!(server.connect().send("x").half_close().read_to_end(), b"x");
    for directory in ["/own", "/tmp"] {
        let options = [&ANYWHERE[..], &["--cwd", directory]].concat();
        let text = printed(&options, "pwd; ls -A; echo x > x && cat x");
        assert_eq!(text, format!("{directory}\nx\n"));
    }
}

#[test]
fn a_root_directory_can_have_them() {
    let folder = Folder::new("jail-temporary-root");
    let script =
        "#!/bin/sh\nls /data /state; echo x > /data/x && echo y > /state/y && cat /data/x /state/y\n";
    let program = folder.write("image/app/run", script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
    folder.write("image/data/of-the-image", "");
    std::fs::set_permissions(folder.path(""), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let root = folder.path("image");
    let libraries = ["/usr/bin:/bin", "/usr/lib:/lib", "/usr/lib64:/lib64"];
    let mut options = vec!["--jail", "--root-directory", &root];
    libraries.iter().for_each(|path| options.extend(["--bind-read-only-paths", path]));
    options.extend(["--temporary-file-system", "/data", "--temporary-file-system", "/state"]);
    let server = Server::program(&options, &["/app/run"]);
    for _ in 0..2 {
        assert_eq!(server.connect().half_close().read_text(), "/data:\n\n/state:\nx\ny\n");
    }
}

#[test]
fn places_that_make_no_sense_are_refused() {
    for (options, program, part) in [
        (&["--temporary-file-system", "/"][..], "/bin/sh", "has itself"),
        (&["--temporary-file-system", "/tmp"], "/bin/sh", "private-tmp"),
        (&["--temporary-file-system", "/proc/x"], "/bin/sh", "has itself"),
        (&["--temporary-file-system", "work"], "/bin/sh", "is not at an absolute path"),
        (&["--temporary-file-system", "/own:0"], "/bin/sh", "smaller than a page"),
        (&["--temporary-file-system", "/own:much"], "/bin/sh", "no size"),
        (&["--temporary-file-system", "/usr/nowhere"], "/bin/sh", "/usr/nowhere: no such file"),
        (&["--temporary-file-system", "/etc/passwd"], "/bin/sh", "/etc/passwd: not a directory"),
        (&["--temporary-file-system", "/etc/passwd/x"], "/bin/sh", "/etc/passwd/x: not a directory"),
        (&["--temporary-file-system", "/usr/bin", "--bind-paths", "/srv:/usr/bin"], "/bin/sh", "one of them"),
        (&["--root-directory", "/", "--temporary-file-system", "/usr/bin"], "/usr/bin/env", "no such file"),
        (&["--temporary-file-system", "/own", "--cwd", "/own/x"], "/bin/sh", "no directory /own/x"),
    ] {
        let mut command = Command::new(tine());
        command.args(["serve", "--jail", "--control", "none", "127.0.0.1:0"]).args(options);
        let (code, out, err) = run(command.args(["--", program]));
        assert!(code != 0 && out.is_empty() && err.contains(part), "{options:?}: {code} {err}");
    }
    let light = ["serve", "--jail=light", "--user", "nobody", "--control", "none", "127.0.0.1:0"];
    let (code, _, err) = run(Command::new(tine()).args(light).args(ANYWHERE).args(["--", "/bin/true"]));
    assert!(code == 100 && err.contains("temporary-file-system is set"), "{code} {err}");
}
