//! Any bytes as what a client sends to the observer: never a panic, and what is answered are
//! answers of HTTP. No server replies here, so nothing is told but that.

#![no_main]

use libfuzzer_sys::fuzz_target;

/// The statuses that are possible. 200 is that of what needs no server.
const POSSIBLE: [&str; 10] = ["200", "400", "403", "404", "405", "413", "414", "415", "431", "503"];

fuzz_target!(|bytes: &[u8]| {
    let answers = tine_observe::fuzz_connection(bytes);
    let answers = String::from_utf8_lossy(&answers);
    if !answers.is_empty() {
        let status = answers.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5));
        assert!(status.is_some_and(|status| POSSIBLE.contains(&status)), "{answers}");
    }
});
