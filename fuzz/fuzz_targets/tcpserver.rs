//! Any words as the arguments of `tcpserver`: never a panic, and options that are accepted have
//! limits of at least one, no user or group 0, and a program.

#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/cli/src/peers/tcpserver/options.rs"]
mod options;
#[allow(dead_code)]
#[path = "../../crates/cli/src/peers/ucspi.rs"]
mod ucspi;

fuzz_target!(|bytes: &[u8]| {
    // One word a line; the last line is the value of the variables UID and GID.
    let mut words: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let id = words.pop().map(|id| String::from_utf8_lossy(id).into_owned());
    let count = words.len();
    let words = words.into_iter().map(|word| OsString::from_vec(word.to_vec()));
    if let Ok(options) = options::TcpserverOptions::parse(words, |_| id.clone()) {
        assert!(options.limit >= 1 && options.backlog >= 1, "{options:?}");
        assert!(options.uid != Some(0) && options.gid != Some(0), "{options:?}");
        assert!((1..count).contains(&options.program.len()), "{options:?}");
    }
});
