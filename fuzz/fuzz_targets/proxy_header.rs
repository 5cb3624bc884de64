//! Any bytes as the begin of a connection of a proxy: never a panic; the same result however the
//! bytes are cut and whatever follows; and addresses that are written as a header again are the
//! same.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../crates/tine/src/net/proxy_header/mod.rs"]
mod proxy_header;

use proxy_header::{Header, Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    // A fault may be found early by another rule, but never disappears.
    let early = (0..bytes.len()).map(|length| (length, parse(&bytes[..length])));
    let decided = early.clone().find(|(_, parsed)| !matches!(parsed, Ok(Parsed::Incomplete(_))));
    for (length, parsed) in early {
        if let Ok(Parsed::Incomplete(needed)) = parsed {
            assert!(needed > length && needed <= proxy_header::MAX_HEADER);
        }
    }
    let whole = parse(bytes);
    match (decided, whole) {
        (Some((length, Ok(Parsed::Complete(header)))), whole) => {
            assert_eq!(header.length, length);
            assert_eq!(whole, Ok(Parsed::Complete(header)));
        }
        (Some((_, Err(_))), whole) => assert!(whole.is_err(), "{whole:?}"),
        (_, Ok(Parsed::Complete(header))) => assert_eq!(header.length, bytes.len()),
        (_, Ok(Parsed::Incomplete(needed))) => assert!(needed > bytes.len()),
        (_, Err(why)) => assert!(!why.to_string().is_empty()),
    }
    if let Ok(Parsed::Complete(Header { addresses: Some(addresses), .. })) = whole {
        let (source, destination) = (addresses.source, addresses.destination);
        assert_eq!(source.is_ipv4(), destination.is_ipv4());
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let line = format!(
            "PROXY {family} {} {} {} {}\r\n",
            source.ip(),
            destination.ip(),
            source.port(),
            destination.port()
        );
        let again = Header { length: line.len(), addresses: Some(addresses) };
        assert_eq!(parse(line.as_bytes()), Ok(Parsed::Complete(again)), "{line:?}");
    }
});
