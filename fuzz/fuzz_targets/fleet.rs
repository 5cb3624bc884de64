//! Any messages on the bus of a fleet: never a panic, and what a link says and tells is bounded,
//! whatever it hears. A message is a line: a letter for what it is heard as, its subject, its text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tine::cli::LinkRecord;
use tine_bus::fleet::tried::{HeardAs, TriedLink};

/// Bytes of a message of a node, and messages in a tenth of a second, at most: what has changed, a
/// part of everything, and requests about the bucket.
const LONGEST: usize = 65_536;
const MESSAGES: usize = 400;

fuzz_target!(|bytes: &[u8]| {
    let mut link = TriedLink::new().expect("descriptors");
    let mut drains = 0;
    for line in bytes.split(|byte| *byte == b'\n') {
        let (head, text) = line.split_at(line.iter().position(|byte| *byte == b' ').unwrap_or(line.len()));
        let (subject, text) = (String::from_utf8_lossy(head), text.get(1..).unwrap_or_default());
        let heard = match head.first() {
            Some(b'o') => HeardAs::Order,
            Some(b'a') => HeardAs::Answer,
            Some(b'r') => HeardAs::Record,
            _ => HeardAs::Node,
        };
        link.hear(heard, &subject, Some("$JS.ACK.S.C.1.1.1.17.0"), text);
        drains += usize::from(heard == HeardAs::Order);
        link.pass(100);
        check(&mut link, &mut drains);
    }
    for _ in 0..50 {
        link.pass(1_000);
        check(&mut link, &mut drains);
    }
});

fn check(link: &mut TriedLink, drains: &mut usize) {
    let said = link.said();
    assert!(said.len() < MESSAGES, "{}", said.len());
    for (subject, text) in said {
        assert!(text.len() <= LONGEST, "{subject}: {}", text.len());
        let is_own = ["tine.fleet.f.node.me", "$JS.API.", "$JS.ACK.", "$KV.tine-bans-f."];
        assert!(is_own.iter().any(|own| subject.starts_with(own)) && !subject.contains(' '), "{subject}");
    }
    for record in link.told().expect("room") {
        match record {
            // Nobody is made to drain without an order.
            LinkRecord::Drain => *drains = drains.checked_sub(1).expect("an order"),
            LinkRecord::Nodes { present, lost } => assert!(present + lost <= 257, "{present} {lost}"),
            LinkRecord::Warning(text) => assert!(!text.contains('\n')),
            _ => {}
        }
    }
}
