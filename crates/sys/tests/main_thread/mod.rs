//! Runs tests one after the other in the main thread: a process with several threads must not fork,
//! and the threads of Rust's test harness would be others.

use std::process::ExitCode;

/// Runs all tests, or with `--exact` the one that is named; `--list` prints their names, as
/// cargo-nextest asks for them.
pub(crate) fn run(tests: &[(&str, fn())]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |option: &str| arguments.iter().any(|argument| argument == option);
    if has("--list") {
        let listed = if has("--ignored") { &[] } else { tests };
        listed.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let named = |name: &str| !has("--exact") || has(name);
    for (name, test) in tests.iter().filter(|(name, _)| named(name)) {
        println!("{name}");
        test();
    }
    ExitCode::SUCCESS
}
