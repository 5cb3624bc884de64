use tine::cli::BanState;

use super::*;

fn source(number: u32) -> Prefix {
    std::net::Ipv4Addr::from_bits(number).to_string().parse().expect("an address")
}

fn own() -> Own {
    Own::new(Name::of("a"), Name::of("1"), true)
}

/// One that has said everything at the time 0.
fn settled() -> Own {
    let mut own = own();
    own.say(1);
    own
}

fn changes(messages: &[NodeMessage]) -> Vec<(Source, u32, u32)> {
    messages
        .iter()
        .filter(|message| message.whole.is_none())
        .flat_map(|message| message.used.clone())
        .collect()
}

#[test]
fn changes_are_said_at_once_and_signs_of_life_otherwise() {
    let mut own = settled();
    assert_eq!(own.say(100), []);
    assert!(own.on_used(source(1), 3, 3) && own.on_used(source(1), 2, 1) && own.on_used(source(2), 0, 7));
    let expected = [(Source(source(1)), 2, 4), (Source(source(2)), 0, 7)];
    assert_eq!(changes(&own.say(200)), expected);
    assert_eq!((own.say(300), own.say(600)), (vec![], vec![]));
    let sign = own.say(700);
    assert!(sign.len() == 1 && sign[0].used.is_empty() && sign[0].whole.is_none());
    // What has no connections any more is said once.
    assert!(own.on_used(source(1), 0, 0));
    assert_eq!(changes(&own.say(800)), [(Source(source(1)), 0, 0)]);
    assert_eq!(own.used.len(), 0);
    let numbers: Vec<u64> = [own.say(1_300), vec![own.bye()]].concat().iter().map(|one| one.seq).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "{numbers:?}");
}

#[test]
fn everything_is_said_again_in_parts() {
    let mut own = settled();
    let all = 2 * ENTRIES as u32 + 10;
    assert!((0..all).all(|number| own.on_used(source(number), 1, 1)));
    let mut now = 0;
    let mut heard = Vec::new();
    let mut wholes = Vec::new();
    while now < 6_000 {
        now += 100;
        let messages = own.say(now);
        assert!(messages.len() <= 3);
        assert!(messages.iter().all(|message| crate::messages::write(message).len() <= LONGEST));
        heard.extend(changes(&messages));
        wholes.extend(messages.into_iter().filter(|one| one.whole.is_some()).map(|one| (now, one)));
    }
    assert_eq!(heard.len(), all as usize);
    // Each whole is of three spans that meet.
    let begins: Vec<u64> = wholes
        .iter()
        .filter(|(_, one)| one.whole.is_some_and(|span| span.after.is_none()))
        .map(|one| one.0)
        .collect();
    assert_eq!(begins, [2_100, 4_100]);
    for whole in wholes.chunks(3) {
        let spans: Vec<Span> = whole.iter().filter_map(|(_, one)| one.whole).collect();
        assert_eq!((spans[0].after, spans[2].to), (None, None));
        assert!(spans[0].to == spans[1].after && spans[1].to == spans[2].after && spans[1].to.is_some());
        assert_eq!(whole.iter().map(|(_, one)| one.used.len()).sum::<usize>(), all as usize);
    }
}

#[test]
fn who_appears_gets_everything_soon_but_not_without_end() {
    let mut own = settled();
    assert!(own.on_penalty(source(1), 10_000, 0) && own.on_penalty(source(2), 100, 0));
    let said = own.say(50);
    assert_eq!(said[0].penalties, [(Source(source(1)), 9_950), (Source(source(2)), 50)]);
    let mut wholes = 0;
    for now in (100..3_100).step_by(100) {
        own.say_again(|_| true);
        let said = own.say(now);
        // The other one has ended.
        let penalties: Vec<_> = said.iter().flat_map(|one| one.penalties.clone()).collect();
        assert_eq!(penalties, [(Source(source(1)), 10_000 - now)], "{now}");
        wholes += said.iter().filter(|one| one.whole.is_some()).count();
    }
    // At 600, and then each 500 ms.
    assert_eq!(wholes, 5);
}

#[test]
fn orders_that_hold_are_said_again_and_the_oldest_are_left_out() {
    let ban = |number: u32, at: u64| BanRecord { block: source(number), state: BanState::Forever, at };
    let clock = |now: u64| Clock { now, day: 1_000_000 + now };
    let mut own = own();
    let bans = |own: &mut Own, now: u64| -> Vec<u64> {
        own.say(now).iter().flat_map(|said| said.bans.iter().map(|(.., at)| *at)).collect()
    };
    // One of before the start: the bucket has it.
    own.on_ban(ban(1, 900_000), clock(0));
    own.on_ban(ban(2, 1_000_000), clock(0));
    own.on_ban(ban(3, 1_000_001), clock(0));
    assert_eq!(bans(&mut own, 0), [1_000_000, 1_000_001]);
    own.say_again(|_| true);
    assert_eq!(bans(&mut own, 100), [1_000_000, 1_000_001]);
    // Another node has ordered something else since.
    own.say_again(|order| order.block != source(2));
    assert_eq!(bans(&mut own, 200), [1_000_001]);
    own.say_again(|_| true);
    assert_eq!(bans(&mut own, 300), [1_000_001]);
    for number in 0..ORDERS as u32 {
        own.on_ban(ban(number, 1_000_400 + u64::from(number)), clock(400));
    }
    own.say_again(|_| true);
    let said: Vec<u64> = (400..1_000).step_by(100).flat_map(|now| bans(&mut own, now)).collect();
    assert_eq!((said.len(), said[0]), (ORDERS, 1_000_400));
}

#[test]
fn sources_and_penalties_are_bounded() {
    let mut own = own();
    assert!((0..SOURCES as u32).all(|number| own.on_used(source(number), 1, 0)));
    assert!(!own.on_used(source(u32::MAX), 1, 0) && own.on_used(source(1), 2, 0));
    assert!((0..super::super::penalties::MOST as u32).all(|number| own.on_penalty(source(number), 1_000, 0)));
    assert!(!own.on_penalty(source(u32::MAX), 1_000, 999) && own.on_penalty(source(1), 1_000, 0));
    assert!(own.on_penalty(source(u32::MAX), u64::MAX, 2_000));
    assert_eq!(own.penalties.until(&source(u32::MAX)), Some(2_000 + LONGEST_PENALTY));
}

#[test]
fn without_use_there_are_no_wholes() {
    let mut own = Own::new(Name::of("a"), Name::of("1"), false);
    let said: Vec<NodeMessage> = (1..100).flat_map(|tick| own.say(tick * 100)).collect();
    assert_eq!((said.len(), said.iter().filter(|one| one.whole.is_some()).count()), (19, 0));
}
