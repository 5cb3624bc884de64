//! The examples of the library, as servers under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{Server, ServerCommand, built, run};

/// Builds an example that is a program, and starts it at a port of 127.0.0.1.
///
/// # Panics
/// If it is too long, cannot be built or does not start.
#[must_use]
pub fn example(name: &str, arguments: &[&str]) -> Server {
    let path = build_example(name, 120, &[]);
    ServerCommand::program(path, &[&["127.0.0.1:0"], arguments].concat()).start()
}

/// Builds an example with further options of cargo. Returns its path.
///
/// # Panics
/// If a file of it does not have fewer than `most` lines, or cargo fails.
#[must_use]
pub fn build_example(name: &str, most: usize, options: &[&str]) -> PathBuf {
    check_length(name, most);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["build", "--quiet", "-p", "tine", "--example", name]).args(options);
    let (code, _, err) = run(&mut cargo);
    assert_eq!(code, 0, "{err}");
    built(&format!("examples/{name}"))
}

/// Asserts that each file of an example has fewer lines than this.
///
/// # Panics
/// If one has not.
pub fn check_length(name: &str, most: usize) {
    for source in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/tine/examples"), name) {
        let lines = std::fs::read_to_string(&source).expect("a file").lines().count();
        assert!(lines < most, "{} has {lines} lines", source.display());
    }
}

/// The files of an example: one, or those in its folder.
fn sources(examples: &Path, name: &str) -> Vec<PathBuf> {
    let file = examples.join(format!("{name}.rs"));
    if file.exists() {
        return vec![file];
    }
    let folder = std::fs::read_dir(examples.join(name)).expect("the example exists");
    folder.map(|entry| entry.expect("an entry").path()).collect()
}
