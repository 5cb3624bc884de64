//! Any bytes as the request of a controller: never a panic; a request that is accepted is an object
//! of JSON with a command, which it matches, and is the same with white space around it; an error
//! says something.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../../crates/tine/src/error/mod.rs"]
mod error;
#[allow(dead_code)]
#[path = "../../crates/tine/src/admission/access/prefix.rs"]
mod prefix;
#[allow(dead_code)]
#[path = "../../crates/tine/src/processes/control/request.rs"]
mod request;

mod admission {
    pub(crate) mod access {
        pub(crate) use crate::prefix;
    }
}

use request::Request;

/// The commands that change nothing.
const READING: [&str; 4] = ["status", "list", "show", "bans"];

fuzz_target!(|line: &[u8]| {
    match Request::parse(line) {
        Ok((request, service)) => {
            let value: Value = serde_json::from_slice(line).expect("JSON");
            let command = value["command"].as_str().expect("a command");
            assert_eq!(request.steers(), !READING.contains(&command), "{request:?}");
            assert_eq!(service.as_deref(), value["service"].as_str());
            let wider = [b" \t", line, b"\r"].concat();
            assert_eq!(Request::parse(&wider), Ok((request, service)));
        }
        Err(why) => assert!(!why.is_empty()),
    }
});
