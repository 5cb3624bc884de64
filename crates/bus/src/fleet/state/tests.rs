use tine::cli::BanState;

use super::super::messages::Span;
use super::*;
use crate::connect::Bus;

fn settings() -> LinkSettings {
    let (fleet, node) = (Name::of("f"), Name::of("me"));
    LinkSettings { bus: Bus::default(), fleet, node, shares_use: true, obeys: true }
}

fn clock(now: u64) -> Clock {
    Clock { now, day: 86_400_000_000 + now }
}

fn fleet() -> Fleet {
    let mut fleet = Fleet::new(&settings(), Name::of("1"), "inbox".into(), clock(0));
    fleet.on_bus(true);
    told(&mut fleet);
    fleet
}

/// What the service is told, and nothing stays.
fn told(fleet: &mut Fleet) -> Vec<LinkRecord> {
    let records = fleet.outbox.next(&mut fleet.sums, fleet.clock.now).to_vec();
    fleet.outbox.sent();
    records
}

fn heard(subject: &str, reply: Option<&str>, text: &[u8]) -> Message {
    Message {
        subject: subject.into(),
        reply: reply.map(Into::into),
        payload: text.to_vec().into(),
        headers: None,
        status: None,
        description: None,
        length: 0,
    }
}

fn node(name: &str, incarnation: &str, seq: u64) -> NodeMessage {
    NodeMessage::new(Name::of(name), Name::of(incarnation), seq)
}

/// A message on the subject of a node.
fn say(fleet: &mut Fleet, subject: &str, message: &NodeMessage) {
    fleet.on_node(&heard(&format!("tine.fleet.f.node.{subject}"), None, &write(message)));
}

/// Time passes in ticks, up to a time.
fn pass(fleet: &mut Fleet, from: u64, to: u64) {
    for now in (from..=to).step_by(25) {
        fleet.set_clock(clock(now));
        fleet.on_tick();
    }
}

#[test]
fn the_service_is_told_of_nodes_penalties_and_use() {
    let mut fleet = fleet();
    let source = Source("192.0.2.1".parse().expect("an address"));
    let mut message = node("a", "1", 1);
    (message.used, message.penalties) = (vec![(source, 3, 4)], vec![(source, 15_000)]);
    say(&mut fleet, "a", &message);
    let expected = [
        LinkRecord::Nodes { present: 2, lost: 0 },
        LinkRecord::Penalty { source: source.0, milliseconds: 15_000 },
        LinkRecord::Used { source: source.0, held: 3, taken: 4 },
    ];
    assert_eq!(told(&mut fleet), expected);
    // It is not heard any more; the bus is away; it is heard again.
    pass(&mut fleet, 25, 3_000);
    let expected =
        [LinkRecord::Nodes { present: 1, lost: 1 }, LinkRecord::Used { source: source.0, held: 0, taken: 0 }];
    assert_eq!(told(&mut fleet), expected);
    fleet.on_bus(false);
    pass(&mut fleet, 3_025, 100_000);
    assert_eq!(told(&mut fleet), [LinkRecord::Bus(false)]);
    fleet.on_bus(true);
    say(&mut fleet, "a", &node("a", "1", 2));
    let expected = [LinkRecord::Bus(true), LinkRecord::Nodes { present: 2, lost: 0 }];
    assert_eq!(told(&mut fleet), expected);
}

#[test]
fn who_has_not_heard_the_others_is_told_again_once_in_a_second() {
    let mut fleet = fleet();
    let block = "192.0.2.1".parse().expect("an address");
    let at = clock(0).day;
    fleet.on_service(ServiceRecord::Ban(BanRecord { block, state: BanState::Forever, at }));
    let bans = |fleet: &mut Fleet| {
        let deeds = fleet.take_deeds();
        let texts = deeds.iter().filter_map(|deed| match deed {
            BusDeed::Publish { subject, text, .. } if subject.contains(".node.") => Some(text),
            _ => None,
        });
        texts.filter(|text| String::from_utf8_lossy(text).contains("\"192.0.2.1\"")).count()
    };
    say(&mut fleet, "a", &node("a", "1", 1));
    pass(&mut fleet, 25, 2_000);
    assert!(bans(&mut fleet) >= 1);
    say(&mut fleet, "a", &node("a", "1", 2));
    pass(&mut fleet, 2_025, 2_200);
    assert_eq!(bans(&mut fleet), 0);
    // It was away for a moment, and has not been missed.
    for (seq, from, times) in [(3, 2_225, 1), (4, 2_425, 0), (5, 2_625, 0)] {
        let mut message = node("a", "1", seq);
        message.anew = true;
        say(&mut fleet, "a", &message);
        pass(&mut fleet, from, from + 175);
        assert_eq!(bans(&mut fleet), times, "{seq}");
    }
    pass(&mut fleet, 2_825, 4_000);
    assert_eq!(bans(&mut fleet), 1);
}

#[test]
fn the_bus_is_told_to_be_back_when_the_use_of_the_others_is_known() {
    let source = |number: u8| Source(format!("192.0.2.{number}").parse().expect("an address"));
    let part = |seq, used: &[(Source, u32, u32)], after: Option<Source>, to: Option<Source>| {
        let mut message = node("a", "1", seq);
        (message.used, message.whole) = (used.to_vec(), Some(Span { after, to }));
        message
    };
    let away = |at: u64| {
        let mut fleet = fleet();
        say(&mut fleet, "a", &part(1, &[(source(1), 3, 0)], None, None));
        fleet.on_bus(false);
        fleet.set_clock(clock(at));
        fleet.on_bus(true);
        pass(&mut fleet, at, at + 500);
        let told = told(&mut fleet);
        assert!(told.contains(&LinkRecord::Bus(false)) && !told.contains(&LinkRecord::Bus(true)), "{told:?}");
        fleet
    };
    // A service without limits does not wait for it.
    let mut fleet = Fleet::new(
        &LinkSettings { shares_use: false, ..settings() },
        Name::of("1"),
        "inbox".into(),
        clock(0),
    );
    say(&mut fleet, "a", &node("a", "1", 1));
    fleet.on_bus(true);
    assert!(told(&mut fleet).contains(&LinkRecord::Bus(true)));
    // In parts: what is told first is what it uses.
    let mut fleet = away(900);
    let late = part(2, &[(source(9), 4, 0)], Some(source(5)), None);
    let first = part(3, &[(source(1), 5, 0)], None, Some(source(5)));
    let last = part(4, &[(source(9), 4, 0)], Some(source(5)), None);
    for message in [late, first] {
        say(&mut fleet, "a", &message);
        pass(&mut fleet, 1_425, 1_450);
        assert!(!told(&mut fleet).contains(&LinkRecord::Bus(true)));
    }
    say(&mut fleet, "a", &last);
    pass(&mut fleet, 1_475, 1_475);
    assert_eq!(told(&mut fleet), [LinkRecord::Bus(true)]);
    // One that says nothing of its use, and one that is lost.
    for (is_heard, back_at) in [(true, 3_400), (false, 2_925)] {
        let mut fleet = away(900);
        let back = (1_425..5_000).step_by(25).find(|now| {
            if is_heard {
                say(&mut fleet, "a", &node("a", "1", *now));
            }
            pass(&mut fleet, *now, *now);
            told(&mut fleet).contains(&LinkRecord::Bus(true))
        });
        assert_eq!(back, Some(back_at), "{is_heard}");
    }
}

#[test]
fn nobody_is_lost_when_this_process_has_slept() {
    let mut fleet = fleet();
    say(&mut fleet, "a", &node("a", "1", 1));
    told(&mut fleet);
    pass(&mut fleet, 60_000, 61_900);
    assert_eq!(told(&mut fleet), []);
    pass(&mut fleet, 61_925, 62_100);
    assert_eq!(told(&mut fleet), [LinkRecord::Nodes { present: 1, lost: 1 }]);
}

#[test]
fn forged_messages_and_junk_are_left_out() {
    let mut fleet = fleet();
    told(&mut fleet);
    // What it says is of another node than its subject; it is none; it is too long.
    say(&mut fleet, "b", &node("a", "1", 1));
    for text in [&b""[..], b"{}", b"\xff", &[b' '; 100_000], b"[[[[[[[[[["] {
        fleet.on_node(&heard("tine.fleet.f.node.a", None, text));
        fleet.on_reply(&heard("inbox.1", None, text));
        fleet.on_watched(1, &heard("x", None, text));
        fleet.on_order(&heard("tine.fleet.f.order.me", Some("reply"), text));
    }
    fleet.on_node(&heard("tine.fleet.f.node.a b", None, b"{}"));
    assert_eq!(fleet.roster.count(), (0, 0));
    assert!(!told(&mut fleet).contains(&LinkRecord::Drain));
    // One of its own messages, and one of another server with the same name.
    say(&mut fleet, "me", &node("me", "1", 1));
    assert_eq!(told(&mut fleet), []);
    (0..1_000).for_each(|seq| say(&mut fleet, "me", &node("me", "2", seq)));
    let told = told(&mut fleet);
    let [LinkRecord::Warning(text)] = &told[..] else { panic!("one warning: {told:?}") };
    assert!(text.contains("the name me, too") && text.contains("--name"), "{text}");
}

#[test]
fn a_node_that_floods_does_not_keep_others_from_being_heard() {
    let mut fleet = fleet();
    for seq in 1..10_000 {
        say(&mut fleet, "a", &node("a", "1", seq));
    }
    say(&mut fleet, "b", &node("b", "1", 1));
    let told = told(&mut fleet);
    assert!(told.contains(&LinkRecord::Nodes { present: 3, lost: 0 }), "{told:?}");
    let warnings: Vec<_> = told.iter().filter(|one| matches!(one, LinkRecord::Warning(_))).collect();
    assert!(warnings.len() == 1 && warnings[0].to_string().contains("node a sends more"), "{told:?}");
}

#[test]
fn orders_are_passed_on_by_those_who_obey() {
    for (obeys, text, is_passed) in [
        (true, &br#"{"order":"drain"}"#[..], true),
        (true, br#"{"order":"dance"}"#, false),
        (false, br#"{"order":"drain"}"#, false),
    ] {
        let settings = LinkSettings { obeys, ..settings() };
        let mut fleet = Fleet::new(&settings, Name::of("1"), "inbox".into(), clock(0));
        fleet.on_order(&heard("tine.fleet.f.order.me", Some("reply"), text));
        let [BusDeed::Publish { subject, text, .. }] = &fleet.take_deeds()[..] else { panic!("a receipt") };
        let receipt: Receipt = serde_json::from_slice(text).expect("a receipt");
        assert_eq!((subject.as_str(), receipt.error.is_none()), ("reply", is_passed));
        assert_eq!(told(&mut fleet).contains(&LinkRecord::Drain), is_passed);
    }
}

#[test]
fn what_the_service_says_is_said_to_the_others() {
    let mut fleet = fleet();
    fleet.take_deeds();
    let source = "192.0.2.1".parse().expect("an address");
    fleet.on_service(ServiceRecord::Used { source, held: 2, taken: 2 });
    fleet.on_service(ServiceRecord::Penalty { source, milliseconds: 1_000 });
    let ban = BanRecord { block: source, state: BanState::Forever, at: fleet.clock.day };
    fleet.on_service(ServiceRecord::Ban(ban));
    pass(&mut fleet, 25, 25);
    let said: Vec<NodeMessage> = fleet
        .take_deeds()
        .iter()
        .filter_map(|deed| match deed {
            BusDeed::Publish { text, .. } => NodeMessage::read(text, &Name::of("me")),
            BusDeed::Watch { .. } => None,
        })
        .collect();
    assert_eq!(said[0].used, [(Source(source), 2, 2)]);
    assert_eq!(said[0].penalties, [(Source(source), 975)]);
    assert_eq!(fleet.answer().bans, 1);
    fleet.on_end();
    let [BusDeed::Publish { text, .. }] = &fleet.take_deeds()[..] else { panic!("goodbye") };
    assert!(NodeMessage::read(text, &Name::of("me")).expect("a message").bye);
}

#[test]
fn complaints_and_questions_are_bounded() {
    let mut fleet = fleet();
    (0..1_000).for_each(|_| fleet.on_bus_error("Permissions Violation"));
    assert_eq!((told(&mut fleet).len(), (0..100).filter(|_| fleet.may_ask()).count()), (1, 5));
    let ban = |number: u32| {
        let block = std::net::Ipv4Addr::from_bits(number).to_string().parse().expect("an address");
        ServiceRecord::Ban(BanRecord { block, state: BanState::Forever, at: 1 })
    };
    (0..140_000).for_each(|number| fleet.on_service(ban(number)));
    let told = told(&mut fleet);
    assert!(told.len() == 1 && matches!(&told[0], LinkRecord::Warning(text) if text.contains("more bans")));
}
