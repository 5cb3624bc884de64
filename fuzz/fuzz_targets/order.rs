//! Any bytes as an order from a control process: never a panic; an order that is accepted is the
//! same when it is sent again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tine::cli::repeat_order;

fuzz_target!(|bytes: &[u8]| {
    assert_ne!(repeat_order(bytes), Some(false), "{bytes:?}");
});
