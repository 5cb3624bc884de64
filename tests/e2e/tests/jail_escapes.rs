//! Attempts to get out of the jail (`tests/security/`), each of which succeeds without it.

use std::path::Path;
use std::process::Command;

use tine_e2e::{run, tine};

/// Runs all attempts without a jail and in this one. Returns how many the jail had to refuse.
fn refused_in(mode: &str, options: &[&str]) -> usize {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../security/run");
    let mut command = Command::new(script);
    command.arg(format!("--jail={mode}")).arg(format!("--tine={}", tine().display())).args(options);
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "{out}{err}");
    let line = out.lines().find(|line| line.ends_with(&format!("in jail {mode}"))).expect("a summary");
    assert!(!line.contains("got"), "{line}");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn nothing_gets_out_of_a_light_jail() {
    let refused = refused_in("light", &[]);
    assert!(refused >= 150, "{refused}");
}

#[test]
fn nothing_gets_out_of_a_full_jail() {
    let refused = refused_in("full", &[]);
    assert!(refused >= 180, "{refused}");
}

#[test]
fn nothing_gets_out_of_a_full_jail_without_an_init() {
    let refused = refused_in("full", &["--jail-init", "no"]);
    assert!(refused >= 180, "{refused}");
}
