//! Any bytes as the request of a controller: never a panic; a request that is accepted is an object
//! of JSON with a command, which it matches, and is the same with white space around it; an error
//! says something.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use tine::cli::read_request;

/// The commands that change nothing.
const READING: [&str; 7] = ["status", "metrics", "list", "show", "bans", "settings", "logs"];

fuzz_target!(|line: &[u8]| {
    match read_request(line) {
        Ok((request, steers, service)) => {
            let value: Value = serde_json::from_slice(line).expect("JSON");
            let command = value["command"].as_str().expect("a command");
            assert_eq!(steers, !READING.contains(&command), "{request}");
            assert_eq!(service.as_deref(), value["service"].as_str());
            let wider = [b" \t", line, b"\r"].concat();
            assert_eq!(read_request(&wider), Ok((request, steers, service)));
        }
        Err(why) => assert!(!why.is_empty()),
    }
});
