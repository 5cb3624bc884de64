//! The variables of a program that options set, replace and remove.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use tine_e2e::{Folder, ServerCommand, run, tine};

/// The environment of a program of a server that is started with HOME, USER, LOGNAME and SHELL of
/// its own.
fn environment(options: &[&str]) -> BTreeMap<String, String> {
    let mut start = ServerCommand::serve(options);
    let own =
        [("HOME", "/of/the/server"), ("USER", "server"), ("LOGNAME", "server"), ("SHELL", "/bin/server")];
    start.command().envs(own).args(["--", "/usr/bin/env"]);
    let text = start.start().connect().half_close().read_text();
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// HOME, USER, LOGNAME and SHELL; empty where they are not set.
fn login(options: &[&str]) -> [String; 4] {
    let variables = environment(options);
    ["HOME", "USER", "LOGNAME", "SHELL"].map(|name| variables.get(name).cloned().unwrap_or_default())
}

#[test]
fn a_program_with_a_user_gets_the_variables_of_the_user() {
    let server = ["/of/the/server", "server", "server", "/bin/server"];
    let (_, root, _) = run(Command::new("getent").args(["passwd", "root"]));
    let shell = root.trim().rsplit(':').next().expect("a shell");
    let root = ["/root", "root", "root", shell];
    let nobody = ["/nonexistent", "nobody", "nobody", ""];
    for (options, variables) in [
        (&[][..], server),
        (&["--user", "root"], root),
        (&["--user", "nobody"], nobody),
        (&["--user", "65534", "--spares", "2"], nobody),
        (&["--user", "nobody", "--pty"], nobody),
        (&["--user", "nobody", "--clear-env"], nobody),
        (&["--group", "nogroup"], server),
        (&["--user", "61008"], ["", "", "", ""]),
        (&["--user", "nobody", "--set-login-environment", "no"], server),
        (&["--set-login-environment", "yes"], root),
        (&["--user", "nobody", "--env", "HOME=/srv"], ["/srv", "nobody", "nobody", ""]),
        (
            &["--user", "nobody", "--env", "SHELL", "--unset-env", "USER"],
            ["/nonexistent", "", "nobody", "/bin/server"],
        ),
    ] {
        let found = login(options).map(|value| value.trim_end_matches('\r').to_owned());
        assert_eq!(found, variables.map(str::to_owned), "{options:?}");
    }
}

#[test]
fn a_variable_can_be_removed() {
    let variables = environment(&["--unset-env", "HOME", "--env", "A=1", "--env", "B=2", "--unset-env", "B"]);
    assert_eq!((variables.get("HOME"), variables.get("B")), (None, None));
    assert_eq!(variables.get("A").map(String::as_str), Some("1"));
    let (code, _, err) =
        run(Command::new(tine()).args(["serve", "--unset-env", "A=1", "127.0.0.1:0", "--", "cat"]));
    assert!(code == 100 && err.contains("--unset-env") && err.contains("NAME alone"), "{err}");
}

#[test]
fn a_program_is_found_in_the_path_that_is_set_for_it() {
    let folder = Folder::new("path");
    let path = folder.write("only-here", "#!/bin/sh\necho found\n");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("our file");
    let variable = format!("PATH={}:/usr/bin:/bin", folder.0.display());
    for clear in [&[][..], &["--clear-env"]] {
        let mut start = ServerCommand::serve(["--env", &variable]);
        start.command().args(clear).args(["--", "only-here"]);
        assert_eq!(start.start().connect().read_to_end(), b"found\n");
    }
    let words = ["serve", "--env", "PATH=/nowhere", "127.0.0.1:0", "--", "cat"];
    let (code, _, err) = run(Command::new(tine()).args(words));
    assert!(code == 100 && err.contains("no program 'cat' in PATH"), "{err}");
}

#[test]
fn a_configuration_has_the_same_keys() {
    let folder = Folder::new("environment-keys");
    let text = "pid-file = 'x.pid'\n[services.a]\nlisten = '127.0.0.1:0'\nprogram = ['env']\nuser = 'nobody'\n\
                unset-env = ['LANG', 'TERM']\nset-login-environment = 'no'\n";
    let file = folder.write("tine.toml", text);
    let (code, out, err) = run(Command::new(tine()).arg("check").arg(file));
    assert_eq!(code, 0, "{err}");
    for line in ["pid-file = \"x.pid\"", "unset-env = [\"LANG\", \"TERM\"]", "set-login-environment = \"no\""]
    {
        assert!(out.lines().any(|other| other == line), "'{line}' is not in:\n{out}");
    }
}
