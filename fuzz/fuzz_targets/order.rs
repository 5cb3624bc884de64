//! Any bytes as an order from a control process: never a panic; an order that is accepted is the
//! same when it is sent again.

#![no_main]

use std::os::fd::AsFd;

use libfuzzer_sys::fuzz_target;
use rustix::net::SendFlags;

#[allow(dead_code, unused_imports, unused_macros)]
#[path = "../../crates/tine/src/error/mod.rs"]
mod error;
#[allow(dead_code)]
#[path = "../../crates/tine/src/admission/access/prefix.rs"]
mod prefix;
#[allow(dead_code)]
#[path = "../../crates/tine/src/shared/steering.rs"]
mod steering;

mod admission {
    pub(crate) mod access {
        pub(crate) use crate::prefix;
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (sender, receiver) = steering::channel().expect("a channel");
    rustix::net::send(sender.as_fd(), bytes, SendFlags::NOSIGNAL).expect("room for a message");
    if let Ok(Some(order)) = receiver.receive() {
        assert!(sender.send(order));
        assert_eq!(receiver.receive(), Ok(Some(order)));
    }
});
