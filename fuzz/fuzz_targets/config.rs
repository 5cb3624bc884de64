//! Any text as a configuration: never a panic, and a fault says file, line and reason in one line.
//! What is understood, printed, means the same.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tine_cli::config::Config;

fuzz_target!(|text: &str| {
    // Only text that includes nothing: the files of the machine are no input.
    if text.contains("include") {
        return;
    }
    let parse = |text: &str| Config::parse(text, Path::new("tine.toml"));
    match parse(text) {
        Ok(config) => {
            let printed = config.to_string();
            let again = parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
            assert_eq!(without_places(&printed), without_places(&again.to_string()));
        }
        Err(error) => {
            let said = error.to_string();
            assert!(
                said.starts_with("tine.toml:") && !said.contains('\n') && error.exit_code() == 100,
                "{said:?}"
            );
        }
    }
});

fn without_places(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("# tine.toml:")).collect()
}
