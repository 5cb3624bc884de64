//! Any bytes as a database of rules that tcprules(1) compiles: never a panic, never a search
//! without end, and a rule has variables with a name and a value only.

#![no_main]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use rustix::fs::{MemfdFlags, memfd_create};

#[allow(dead_code)]
#[path = "../../crates/cli/src/peers/cdb.rs"]
mod cdb;
#[allow(dead_code)]
#[path = "../../crates/cli/src/peers/tcpserver/rules.rs"]
mod rules;

/// A file in memory, since the reader opens a path.
static DATABASE: LazyLock<File> =
    LazyLock::new(|| memfd_create("database", MemfdFlags::CLOEXEC).expect("a file in memory").into());

fuzz_target!(|bytes: &[u8]| {
    DATABASE.set_len(0).and_then(|()| DATABASE.write_all_at(bytes, 0)).expect("room in memory");
    let path = PathBuf::from(format!("/proc/self/fd/{}", DATABASE.as_raw_fd()));
    for (ip, host, info) in [
        ("127.0.0.1", None, None),
        ("192.0.2.7", Some("host.example.com"), None),
        ("2001:db8::7", Some("localhost"), Some(&b"joe"[..])),
    ] {
        if let Ok(rule) = rules::look_up(&path, ip, host, info) {
            let variables = &rule.variables;
            assert!(variables.iter().all(|one| one.contains(&b'=') && !one.contains(&0)), "{rule:?}");
        }
    }
});
