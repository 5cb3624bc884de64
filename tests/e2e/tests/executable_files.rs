//! The check of the program at the start agrees with execve(2): what the kernel would refuse at
//! each connection is refused before the server is ready, and nothing else is.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tine_e2e::{Folder, Server, run, tine};

/// Executes a file as the kernel does, without the shell that execvp(3) tries. True if it runs.
fn executes(path: &str, directory: &Path) -> bool {
    let script = "import os, sys\ntry: os.execv(sys.argv[1], sys.argv[1:])\nexcept OSError: os._exit(99)";
    run(Command::new("python3").args(["-c", script, path]).current_dir(directory)).0 == 0
}

/// Starts a server with a program, in its directory. The error if it does not start.
fn start(path: &str, directory: &Path) -> Result<(), String> {
    let config = format!(
        "[services.it]\nlisten = '127.0.0.1:0'\nprogram = ['{path}']\ncwd = '{}'\n",
        directory.display()
    );
    let file = directory.join("tine.toml");
    std::fs::write(&file, config).expect("a file");
    let (code, _, err) = run(Command::new(tine()).arg("check").arg(&file));
    if code == 0 { Ok(()) } else { Err(err) }
}

fn executable(folder: &Folder, name: &str, text: &str) -> String {
    let path = folder.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
    path.display().to_string()
}

#[test]
fn scripts_start_where_the_kernel_executes_them() {
    let folder = Folder::new("executable-scripts");
    let here = folder.0.display().to_string();
    executable(&folder, "chain0", "#!/bin/sh\n");
    for depth in 1..8 {
        executable(&folder, &format!("chain{depth}"), &format!("#!{here}/chain{}\n", depth - 1));
    }
    executable(&folder, "text", "exit 0\n");
    folder.write("no-x", "#!/bin/sh\n");
    let long = "y".repeat(300);
    for (text, good) in [
        ("#!/bin/sh\n", true),
        ("#! \t/bin/sh\t-e \n", true),
        ("#!/bin/sh", true),
        ("#!/bin/sh\r\nexit\r\n", false),
        ("#!/bin/sh\x0b\n", false),
        ("#!/no/such/sh\n", false),
        ("#!\n", false),
        ("#! \t\n", false),
        ("#!", false),
        ("exit 0\n", false),
        ("", false),
        ("\n#!/bin/sh\n", false),
        ("#!sh\n", false),
        ("#!./chain0\n", true),
        (&format!("#!{here}\n"), false),
        (&format!("#!{here}/no-x\n"), false),
        (&format!("#!{here}/text\n"), false),
        (&format!("#!/{long}\n"), false),
        (&format!("#!/bin/sh -{}", "e".repeat(300)), true),
        (&format!("#!{here}/chain3\n"), true),
        (&format!("#!{here}/chain4\n"), false),
        (&format!("#!{here}/chain7\n"), false),
    ] {
        let path = executable(&folder, "it", text);
        assert_eq!(executes(&path, &folder.0), good, "the kernel: {text:?}");
        let started = start(&path, &folder.0);
        assert_eq!(started.is_ok(), good, "{text:?}: {started:?}");
    }
}

#[test]
fn a_carriage_return_after_the_interpreter_is_named() {
    let folder = Folder::new("executable-cr");
    let path = executable(&folder, "dos", "#!/bin/sh\r\necho hello\r\n");
    let (code, out, err) = run(Command::new(tine()).args(["serve", "-1", "127.0.0.1:0", "--", &path]));
    assert_eq!((code, out.as_str()), (100, ""), "{err}");
    assert!(err.contains("its interpreter /bin/sh\\r (no such file)"), "{err}");
    assert!(err.contains("Unix line ends"), "{err}");
}

#[test]
fn binaries_folders_and_file_systems_start_where_the_kernel_executes_them() {
    let folder = Folder::new("executable-binaries");
    let cat = std::fs::read("/bin/cat").expect("a binary");
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.write(name, "");
        std::fs::write(&path, bytes).expect("ours");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        path.display().to_string()
    };
    let good = write("cat", &cat);
    assert!(executes(&good, &folder.0) && start(&good, &folder.0).is_ok());
    // The same binary with a dynamic loader that does not exist, as one for another C library.
    let loader = cat.windows(6).position(|bytes| bytes == b"/lib64" || bytes == b"/lib/l");
    if let Some(at) = loader {
        let mut other = cat.clone();
        other[at + 1..at + 4].copy_from_slice(b"LIB");
        let path = write("other", &other);
        assert!(!executes(&path, &folder.0));
        let error = start(&path, &folder.0).expect_err("no such loader");
        assert!(error.contains("/LIB"), "{error}");
    }
    let error = start(&folder.0.display().to_string(), &folder.0).expect_err("a folder");
    assert!(error.contains("not a regular file"), "{error}");
}

#[test]
fn a_program_on_a_file_system_without_execution_is_refused() {
    let folder = Folder::new("executable-noexec");
    let script = format!(
        "mount -t tmpfs -o noexec none {0} && printf '#!/bin/sh\\n' >{0}/it && chmod 755 {0}/it || exit 77
        exec {1} serve -1 127.0.0.1:0 -- {0}/it",
        folder.0.display(),
        tine().display()
    );
    let (code, _, err) = run(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    assert_eq!(code, 100, "{err}");
    assert!(err.contains("its file system is mounted with noexec"), "{err}");
}

#[test]
fn a_script_with_an_argument_for_its_interpreter_is_served() {
    let folder = Folder::new("executable-argument");
    let path = executable(&folder, "it", "#!/usr/bin/env -S sh -e\necho served\n");
    assert_eq!(Server::program(&[], &[&path]).connect().finish(), b"served\n");
}
