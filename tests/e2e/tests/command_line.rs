//! The command line: help, version, manual pages and completions.

use std::process::Command;

use tine_e2e::{run, tine};

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
