//! What files a full jail has: another root, paths at other places, the size of its `/tmp`.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tine_e2e::{Folder, Server, run, tine};

/// What a program needs that is not in the root.
const LIBRARIES: [&str; 6] = [
    "--bind-read-only-paths",
    "/usr/bin:/bin",
    "--bind-read-only-paths",
    "/usr/lib:/lib",
    "--bind-read-only-paths",
    "/usr/lib64:/lib64",
];

/// A root with a script at `/app/run`.
fn image(name: &str, script: &str) -> (Folder, String) {
    let folder = Folder::new(name);
    let program = folder.write("image/app/run", &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("ours");
    folder.write("image/etc/motd", "of the image\n");
    folder.write("image/tmp/of-the-image", "");
    symlink("/app/run", folder.path("image/link")).expect("a link");
    std::fs::set_permissions(folder.path(""), std::fs::Permissions::from_mode(0o755)).expect("ours");
    let root = folder.path("image");
    (folder, root)
}

#[test]
fn a_root_directory_replaces_the_system() {
    let script = "cd /; ls -d *; cat /etc/motd; ls /tmp; pwd; echo x 2>&1 >/etc/new; echo x 2>&1 >/new";
    let (_folder, root) = image("jail-image", script);
    let options = [&["--jail", "--root-directory", &root][..], &LIBRARIES].concat();
    for program in [&["/app/run"][..], &["/link"], &["/app/../app/run"]] {
        let text = Server::program(&options, program).connect().half_close().read_text();
        let (names, rest) = text.split_once("of the image\n").expect("the file of the image");
        let expected = ["app", "bin", "dev", "etc", "lib", "lib64", "link", "proc", "run", "tmp", "var"];
        assert_eq!(names.lines().collect::<Vec<_>>(), expected, "{program:?}");
        let lines: Vec<&str> = rest.lines().collect();
        assert_eq!(lines[0], "/", "{rest}");
        let refused = |line: &&str| line.contains("Read-only file system");
        assert!(lines.len() == 3 && lines[1..].iter().all(refused), "{rest}");
    }
    // The working directory and relative names are those of the root, too.
    let options = [&options[..], &["--cwd", "/app"]].concat();
    Server::program(&options, &["./run"]).connect().half_close().expect("app\n");
}

#[test]
fn a_path_can_be_at_another_place() {
    let (folder, root) = image("jail-place", "cat /data/here/file; echo y > /out/new && cat /out/new");
    let file = folder.write("content/file", "content\n");
    std::fs::create_dir_all(folder.path("image/data/here")).expect("a directory");
    let out = folder.write("out/file", "").parent().expect("its folder").to_owned();
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o777)).expect("ours");
    let content = format!("{}:/data/here", file.parent().expect("its folder").display());
    let writable = format!("{}:/out", out.display());
    let binds = ["--bind-read-only-paths", &content, "--bind-paths", &writable];
    let options = [&["--jail", "--root-directory", &root][..], &LIBRARIES, &binds].concat();
    let server = Server::program(&options, &["/app/run"]);
    assert_eq!(server.connect().half_close().read_text(), "content\ny\n");
    assert_eq!(std::fs::read_to_string(out.join("new")).expect("written"), "y\n");
    // Also without another root: the program is found where the jail has it.
    let app = format!("{root}/app:/opt/app");
    let program = ["sh", "-c", "test -x /opt/app/run && echo there"];
    let server = Server::program(&["--jail", "--bind-read-only-paths", &app], &program);
    assert_eq!(server.connect().half_close().read_text(), "there\n");
    let server = Server::program(&["--jail", "--bind-read-only-paths", &app], &["/opt/app/run"]);
    let text = server.connect().half_close().read_to_end();
    assert!(text.is_empty(), "what the script reads is not there: {text:?}");
    assert!(Path::new("/opt/app").symlink_metadata().is_err(), "the system has no such path");
}

#[test]
fn the_size_of_tmp_can_be_set() {
    let script = "head -c 3M /dev/zero > /tmp/a 2>/dev/null; stat -c %s /tmp/a";
    for (size, expected) in [("1M", 1 << 20), ("4M", 3 << 20)] {
        let server = Server::program(&["--jail", "--private-tmp", size], &["sh", "-c", script]);
        let text = server.connect().half_close().read_text();
        assert_eq!(text.trim().parse::<u64>().expect("a size"), expected, "{size}");
    }
}

#[test]
fn what_is_missing_in_the_root_is_named_at_the_start() {
    let (_folder, root) = image("jail-missing", "true");
    for (options, program, part) in [
        (&["--root-directory", &root][..], "/app/run", "its interpreter /bin/sh (no such file)"),
        (&["--root-directory", &root], "/bin/sh", "no such file"),
        (&["--root-directory", "/nowhere"], "/app/run", "no such file"),
        (&["--root-directory", &root, "--cwd", "/usr"], "/app/run", "there is no directory /usr"),
        (&["--bind-paths", "/nowhere:/x"], "/bin/sh", "/nowhere"),
        (&["--bind-read-only-paths", "/usr:relative"], "/bin/sh", "is not absolute"),
        (&["--bind-read-only-paths", "/usr:/srv/../x"], "/bin/sh", "is not absolute"),
        (&["--private-tmp", "0"], "/bin/sh", "private-tmp"),
        (&["--bind-read-only-paths", "/"], "/bin/sh", "its own /;"),
        (&["--bind-paths", "/dev/shm"], "/bin/sh", "its own /dev/shm"),
        (&["--read-write-paths", "/proc/sys"], "/bin/sh", "its own /proc/sys"),
    ] {
        let mut command = Command::new(tine());
        command.args(["serve", "--jail", "--control", "none", "127.0.0.1:0"]).args(options);
        let (code, out, err) = run(command.args(["--", program]));
        assert!(code != 0 && out.is_empty() && err.contains(part), "{options:?}: {code} {err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn only_a_full_jail_has_other_files() {
    let (_folder, root) = image("jail-light", "true");
    for mode in ["--jail=light", "--jail=none"] {
        for (option, value) in
            [("--root-directory", root.as_str()), ("--bind-paths", "/srv:/x"), ("--private-tmp", "1M")]
        {
            let mut command = Command::new(tine());
            command.args(["serve", mode, "--user", "nobody", "--control", "none", "127.0.0.1:0"]);
            let (code, _, err) = run(command.args([option, value, "--", "/bin/true"]));
            let name = option.trim_start_matches('-');
            assert!(code == 100 && err.contains(&format!("{name} is set")), "{mode}: {code} {err}");
        }
    }
}
