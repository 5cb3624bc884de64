//! Any text as a configuration: never a panic, and an error names file, line and reason in one
//! line. An accepted configuration that is printed and parsed again is the same.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use tine_cli::config::Config;

fuzz_target!(|text: &str| {
    // A configuration that includes files would read those of this machine.
    if text.contains("include") {
        return;
    }
    let parse = |text: &str| Config::parse(text, Path::new("tine.toml"));
    match parse(text) {
        Ok(config) => {
            let printed = config.to_string();
            let again = parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
            assert_eq!(without_locations(&printed), without_locations(&again.to_string()));
        }
        Err(error) => {
            let message = error.to_string();
            assert!(
                message.starts_with("tine.toml:") && !message.contains('\n') && error.exit_code() == 100,
                "{message:?}"
            );
        }
    }
});

fn without_locations(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("# tine.toml:")).collect()
}
