//! The command line: help, version, manual pages and completions.

use std::process::{Command, Stdio};

use tine_e2e::{Folder, run, tine};

#[test]
fn manual_pages_and_completions_name_the_options() {
    for (words, part) in [
        (&["man"][..], "tine\\-serve"),
        (&["man", "serve"], "\\-\\-max\\-connections"),
        (&["man", "client"], "\\-\\-expect\\-echo"),
        (&["completions", "bash"], "--max-connections"),
        (&["completions", "zsh"], "--drain-timeout"),
        (&["completions", "fish"], "when-full"),
    ] {
        let (code, out, err) = run(Command::new(tine()).args(words));
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        assert!(out.contains(part), "{words:?}: {out}");
    }
    let (code, _, err) = run(Command::new(tine()).args(["man", "no-such"]));
    assert_eq!(code, 100, "{err}");
}

#[test]
fn help_and_version_go_to_standard_output_and_a_bare_command_is_an_error() {
    let (code, _, err) = run(&mut Command::new(tine()));
    assert_eq!(code, 100);
    assert!(err.contains("Usage"), "{err}");
    for words in [&["--help"][..], &["serve", "--help"], &["client", "-h"], &["--version"]] {
        let (code, out, err) = run(Command::new(tine()).args(words));
        assert_eq!((code, err.as_str()), (0, ""), "{words:?}");
        assert!(out.contains("tine"), "{out}");
    }
}

#[test]
fn output_that_cannot_be_written_has_the_next_move_of_its_cause() {
    let full = || std::fs::File::create("/dev/full").expect("a device");
    for words in [&["man"][..], &["completions", "bash"]] {
        let output = Command::new(tine()).args(words).stdout(full()).output().expect("tine");
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(111), "{words:?}: {err}");
        assert!(err.contains("no space left on device; make room"), "{words:?}: {err}");
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = Command::new(tine()).arg("man").stdout(writer).output().expect("tine");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(err.contains("broken pipe; keep its reader open"), "{err}");
}

#[test]
fn the_exit_code_does_not_depend_on_whether_the_error_can_be_written() {
    let folder = Folder::new("link");
    let tcpserver = folder.path("tcpserver");
    std::os::unix::fs::symlink(tine(), &tcpserver).expect("a link");
    let tine = tine();
    let tine = tine.to_str().expect("a path in UTF-8");
    for (words, code) in [
        (&[tine, "serve", "--no-such-option"][..], 100),
        (&[tine, "serve", "127.0.0.1"], 100),
        (&[tine, "serve", "192.0.2.1:0"], 111),
        (&[tine, "check", "/no/such/file"], 100),
        (&[tine, "import", "inetd", "/no/such/file"], 100),
        (&[tine, "client", "192.0.2.1"], 100),
        (&[tine, "load", "compare", "/no/such/file", "/no/such/file"], 100),
        (&[&tcpserver], 100),
    ] {
        let exit = |standard_error: Stdio| {
            let mut command = Command::new(words[0]);
            command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(standard_error);
            command.status().expect("tine starts").code()
        };
        let (reader, pipe) = std::io::pipe().expect("a pipe");
        drop(reader);
        let full = std::fs::File::create("/dev/full").expect("a device");
        assert_eq!([exit(full.into()), exit(pipe.into())], [Some(code); 2], "{words:?}");
    }
}

#[test]
fn a_warm_start_that_makes_no_sense_is_an_error() {
    let folder = Folder::new("banner");
    let banner = folder.write("banner", "hello\n").display().to_string();
    for (options, words) in [
        (&["--warm-until=call"][..], "not provided: --warm"),
        (&["--warm-timeout=5s"], "not provided: --warm"),
        (&["--warm-allow=pipe"], "not provided: --warm"),
        (&["--warm-renew=5"], "not provided: --warm"),
        (&["--warm=perhaps"], "[possible values: yes, try, no]"),
        (&["--warm", "--warm-renew=0"], "cannot be 0"),
        (&["--warm", "--warm-renew=5,0s"], "cannot be zero"),
        (&["--warm", "--pty"], "cannot be started warm with a terminal"),
        (&["--warm", "--pty-raw"], "cannot be started warm with a terminal"),
        (&["--warm", "--line-buffered"], "cannot be started warm with a terminal"),
        (&["--warm", "--lingering-close"], "cannot be started warm with a lingering close"),
        (&["--warm", "--reverse-dns"], "cannot be started warm with a lookup of host names"),
        (&["--warm", "--banner-file", &banner], "cannot be started warm with a banner"),
        (&["--warm", "--spares=2"], "cannot be started warm with spares"),
    ] {
        let mut serve = Command::new(tine());
        serve.arg("serve").args(options).args(["127.0.0.1:0", "--", "cat"]);
        let (code, out, err) = run(&mut serve);
        assert_eq!((code, out.as_str()), (100, ""), "{options:?}: {err}");
        assert!(err.contains(words) && err.lines().count() == 1, "{options:?}: {err}");
    }
    let (code, _, err) = run(Command::new(tine()).args(["serve", "--warm", "127.0.0.1:0"]));
    assert_eq!(code, 100, "{err}");
    assert!(err.contains("not provided: <PROGRAM>"), "{err}");
}
