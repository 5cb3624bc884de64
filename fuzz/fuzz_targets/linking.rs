//! Any bytes as a message between a service and its link: never a panic, and what is understood is
//! the same when it is sent again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rustix::net::{SendFlags, send};
use tine::cli::{LinkChannel, LinkSaid, Linked};

fuzz_target!(|bytes: &[u8]| {
    let (service, theirs) = LinkChannel::pair().expect("descriptors");
    let linked = Linked::from(theirs);
    send(&linked, bytes, SendFlags::DONTWAIT).expect("room");
    // Without a byte, there is no message.
    if let Some(LinkSaid::Records(records)) = service.receive() {
        assert_eq!(linked.send(&records).expect("room"), records.len());
        match service.receive() {
            Some(LinkSaid::Records(again)) => assert_eq!(again, records),
            other => assert!(other.is_none() && records.is_empty(), "{other:?}"),
        }
    }
    send(&service, bytes, SendFlags::DONTWAIT).expect("room");
    if let Ok(records) = linked.receive() {
        assert_eq!(service.send(&records), records.len());
        let again = linked.receive().unwrap_or_default();
        assert_eq!(again, records);
    }
});
