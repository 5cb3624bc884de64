//! Any bytes as what generations of a server tell each other: the state of a service, and the
//! messages of a link and of a lineage. Never a panic, and what can be read is the same after it
//! was written again.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    for is_same in tine::cli::repeat_handover(bytes).into_iter().flatten() {
        assert!(is_same);
    }
});
