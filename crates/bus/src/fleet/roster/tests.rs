use super::*;
use crate::fleet::sums::Told;

fn source(number: u32) -> Prefix {
    std::net::Ipv4Addr::from_bits(number).to_string().parse().expect("an address")
}

fn message(node: &str, incarnation: &str, seq: u64, used: &[(u32, u32, u32)]) -> NodeMessage {
    let mut message = NodeMessage::new(Name::of(node), Name::of(incarnation), seq);
    message.used =
        used.iter().map(|(number, held, taken)| (Source(source(*number)), *held, *taken)).collect();
    message
}

/// A roster with its sums.
struct Heard {
    roster: Roster,
    sums: Sums,
}

impl Heard {
    fn new() -> Heard {
        Heard { roster: Roster::new(true), sums: Sums::default() }
    }

    fn hear(&mut self, message: &NodeMessage, now: u64) -> Hearing {
        self.roster.hear(message, &mut self.sums, now)
    }

    fn tick(&mut self, now: u64) -> (u32, u32) {
        self.roster.on_tick(&mut self.sums, now);
        self.roster.count()
    }

    /// What has changed: number of the source, held, taken.
    fn told(&mut self) -> Vec<(Prefix, u32, u32)> {
        let mut told: Vec<_> = self
            .sums
            .take(usize::MAX)
            .into_iter()
            .map(|Told { source, held, taken }| (source, held, taken))
            .collect();
        told.sort_unstable();
        told
    }
}

#[test]
fn a_silent_node_is_lost_and_its_use_with_it() {
    let mut heard = Heard::new();
    assert_eq!(heard.hear(&message("a", "1", 1, &[(1, 3, 4)]), 0), Hearing::Appeared);
    assert_eq!(heard.hear(&message("b", "1", 1, &[(1, 2, 0)]), 0), Hearing::Appeared);
    assert_eq!(heard.told(), [(source(1), 5, 4)]);
    assert_eq!(heard.hear(&message("b", "1", 2, &[]), 1_000), Hearing::Heard);
    assert_eq!((heard.tick(2_000), heard.tick(2_001)), ((2, 0), (1, 1)));
    assert_eq!(heard.told(), [(source(1), 2, 0)]);
    // It is heard again: it says everything again, too.
    assert_eq!(heard.hear(&message("a", "1", 2, &[(1, 1, 1)]), 2_500), Hearing::Appeared);
    assert_eq!((heard.tick(2_500), heard.told()), ((2, 0), vec![(source(1), 3, 1)]));
    assert_eq!((heard.tick(60_000), heard.tick(64_501)), ((0, 2), (0, 0)));
    assert_eq!(heard.told(), [(source(1), 0, 0)]);
}

#[test]
fn nobody_is_lost_while_nothing_can_be_heard() {
    let mut heard = Heard::new();
    heard.hear(&message("a", "1", 1, &[]), 0);
    heard.roster.excuse(100_000);
    assert_eq!((heard.tick(102_000), heard.tick(102_001)), ((1, 0), (0, 1)));
}

#[test]
fn one_that_says_goodbye_is_not_lost() {
    let mut heard = Heard::new();
    heard.hear(&message("a", "1", 1, &[(1, 3, 3)]), 0);
    heard.told();
    let mut bye = message("a", "0", 9, &[]);
    bye.bye = true;
    // That of an earlier start.
    heard.hear(&bye, 0);
    assert_eq!((heard.roster.count(), heard.told()), ((1, 0), vec![]));
    bye.incarnation = Name::of("1");
    heard.hear(&bye, 0);
    assert_eq!((heard.roster.count(), heard.told()), ((0, 0), vec![(source(1), 0, 0)]));
    heard.hear(&bye, 0);
    assert_eq!(heard.roster.count(), (0, 0));
}

#[test]
fn a_new_start_replaces_what_was_known_and_old_messages_do_not() {
    let mut heard = Heard::new();
    heard.hear(&message("a", "1", 5, &[(1, 3, 0), (2, 1, 0)]), 0);
    heard.told();
    assert_eq!(heard.hear(&message("a", "1", 5, &[(1, 9, 0)]), 1), Hearing::Stale);
    assert_eq!(heard.told(), []);
    assert_eq!(heard.hear(&message("a", "2", 1, &[(1, 1, 0)]), 2), Hearing::Appeared);
    assert_eq!(heard.told(), [(source(1), 1, 0), (source(2), 0, 0)]);
}

#[test]
fn what_a_span_does_not_name_has_no_connections() {
    let mut heard = Heard::new();
    let used: Vec<_> = (1..=9).map(|number| (number, 1, 0)).collect();
    heard.hear(&message("a", "1", 1, &used), 0);
    heard.told();
    for (seq, after, to, named, gone) in [
        (2, Some(2), Some(5), 3, vec![4, 5]),
        (3, None, Some(1), 1, vec![]),
        (4, Some(8), None, 8, vec![9]),
        (5, None, None, 7, vec![1, 2, 3, 6, 8]),
    ] {
        let mut whole = message("a", "1", seq, &[(named, 1, 0)]);
        let at = |number: Option<u32>| number.map(|number| Source(source(number)));
        whole.whole = Some(Span { after: at(after), to: at(to) });
        assert_eq!(heard.hear(&whole, 0), Hearing::Heard);
        let expected: Vec<_> = gone.into_iter().map(|number| (source(number), 0, 0)).collect();
        assert_eq!(heard.told(), expected, "{seq}");
    }
}

#[test]
fn a_node_is_read_as_much_as_nodes_send() {
    let mut heard = Heard::new();
    let name = Name::of("a");
    assert_eq!(heard.roster.admit(&name, 64 * 1024, 0), Admission::Read);
    heard.hear(&message("a", "1", 1, &[]), 0);
    let read = (0..100).filter(|_| heard.roster.admit(&name, 100, 10) == Admission::Read).count();
    assert_eq!(read as u64, MESSAGES);
    assert_eq!(heard.roster.admit(&name, 100, 999), Admission::TooMuch);
    let read = (0..100).filter(|_| heard.roster.admit(&name, 64 * 1024, 1_010) == Admission::Read).count();
    assert_eq!(read as u64, BYTES / (64 * 1024));
    // One does not take from another.
    assert_eq!(heard.roster.admit(&Name::of("b"), 64 * 1024, 1_010), Admission::Read);
}

#[test]
fn nodes_and_their_sources_are_bounded() {
    let mut heard = Heard::new();
    for number in 0..NODES {
        assert_eq!(heard.hear(&message(&format!("n{number}"), "1", 1, &[]), 0), Hearing::Appeared);
    }
    assert_eq!(heard.roster.admit(&Name::of("more"), 10, 0), Admission::TooMany);
    // A lost one gives its place away.
    heard.tick(2_001);
    assert_eq!(heard.roster.admit(&Name::of("more"), 10, 2_001), Admission::Read);
    assert_eq!(heard.hear(&message("more", "1", 1, &[]), 2_001), Hearing::Appeared);
    assert_eq!(heard.roster.count(), (1, NODES as u32 - 1));
    for part in 0..20 {
        let used: Vec<_> = (0..1_000).map(|number| (part * 1_000 + number, 1, 0)).collect();
        assert_eq!(heard.hear(&message("more", "1", u64::from(part) + 2, &used), 2_001), Hearing::Heard);
    }
    assert_eq!(heard.hear(&message("more", "1", 30, &[(u32::MAX, 1, 0)]), 2_001), Hearing::NoRoom);
    assert_eq!(heard.hear(&message("more", "1", 31, &[(0, 0, 0), (1, 2, 0)]), 2_001), Hearing::Heard);
    assert_eq!(heard.hear(&message("more", "1", 32, &[(u32::MAX, 1, 0)]), 2_001), Hearing::Heard);
}

#[test]
fn use_is_not_kept_where_no_limit_counts_it() {
    let mut heard = Heard { roster: Roster::new(false), sums: Sums::default() };
    heard.hear(&message("a", "1", 1, &[(1, 3, 3)]), 0);
    assert_eq!((heard.told(), heard.roster.count()), (vec![], (1, 0)));
}
