use super::super::block::Aggregations;
use super::super::fleet::FleetTables;
use super::super::sources::SourceSecret;
use super::*;
use crate::net::peer::Peer;

const MS: u64 = 1_000_000;

fn source(last: u8) -> Block {
    let peer = Peer::Tcp(([192, 0, 2, last], 1).into());
    peer.block(Aggregations::default().source).expect("an address")
}

fn connected(present: u32, lost: u32) -> FleetNodes {
    FleetNodes { is_connected: true, present, lost }
}

fn used(max: Option<usize>, rate: Option<Rate>) -> FleetUse {
    FleetUse::new(FleetLimits { max_per_source: max, rate_per_source: rate })
}

#[test]
fn what_is_left_is_taken_in_equal_parts() {
    for (present, lost, remote, local, room, reserved) in [
        (1, 0, 0, 5, 20, 20),
        (3, 0, 0, 2, 20, 8),
        (3, 0, 12, 2, 8, 4),
        (3, 0, 19, 0, 1, 1),
        (3, 0, 20, 0, 0, 0),
        (3, 0, 50, 7, 0, 0),
        // Each lost node may use a quarter.
        (3, 1, 0, 0, 15, 5),
        (2, 2, 0, 0, 10, 5),
        (1, 3, 6, 0, 0, 0),
    ] {
        let nodes = connected(present, lost);
        let found = (nodes.room(20, remote), nodes.reserve(nodes.room(20, remote), local));
        assert_eq!(found, (room, reserved), "{present} {lost} {remote} {local}");
    }
}

#[test]
fn a_node_tells_what_has_changed_and_caps_what_it_may_have() {
    let mut fleet = used(Some(9), None);
    let nodes = connected(3, 0);
    let tick = |fleet: &mut FleetUse, held: u32, at: u64| {
        let held = if held > 0 { HashMap::from([(source(1), held)]) } else { HashMap::new() };
        let FleetTick { told, caps, .. } = fleet.on_tick(held, nodes, at * MS);
        let told = told.first().map(|(_, held, taken)| (*held, *taken));
        (told, caps.first().map(|(_, cap)| *cap))
    };
    assert_eq!(tick(&mut fleet, 2, 0), (Some((3, 2)), Some(3)), "its share at first");
    assert_eq!(tick(&mut fleet, 2, 100), (None, None));
    fleet.on_end(source(1));
    assert_eq!(tick(&mut fleet, 3, 200), (Some((3, 2)), None));
    assert_eq!(tick(&mut fleet, 3, 800), (Some((5, 0)), Some(5)), "and a part of the rest");
    fleet.on_remote(source(1), 5, 5);
    assert_eq!(tick(&mut fleet, 4, 900), (Some((4, 1)), Some(4)), "others have reserved it");
    assert_eq!(tick(&mut fleet, 4, 1600), (None, None));
    (0..4).for_each(|_| fleet.on_end(source(1)));
    assert_eq!(tick(&mut fleet, 0, 1650), (Some((0, 0)), Some(1)));
    assert_eq!(fleet.sources.len(), 1, "others have some");
    fleet.on_remote(source(1), 0, 0);
    tick(&mut fleet, 0, 1700);
    assert!(fleet.sources.is_empty());
    // The end of a connection is noted before it is gone.
    assert_eq!(tick(&mut fleet, 1, 1800).0, Some((3, 1)));
    fleet.on_end(source(1));
    assert_eq!(tick(&mut fleet, 1, 1900).0, Some((3, 1)));
    assert_eq!(tick(&mut fleet, 0, 2000).0, Some((0, 0)));
    assert_eq!(tick(&mut fleet, 0, 2100).0, None);
}

#[test]
fn limits_are_changed_between_two_ticks() {
    let mut fleet = used(Some(30), None);
    let tick = |fleet: &mut FleetUse, at: u64| {
        let tick = fleet.on_tick(HashMap::from([(source(1), 4)]), connected(3, 0), at * MS);
        let told = tick.told.first().map(|(_, held, taken)| (*held, *taken));
        (told, tick.caps.first().map(|(_, cap)| *cap), tick.tokens.len())
    };
    let set = |fleet: &mut FleetUse, max: Option<usize>| {
        fleet.set_limits(FleetLimits { max_per_source: max, rate_per_source: None });
    };
    assert_eq!(tick(&mut fleet, 0), (Some((10, 4)), Some(10), 0));
    set(&mut fleet, Some(9));
    assert_eq!(tick(&mut fleet, 10), (Some((5, 0)), Some(5), 0), "a lower one at once");
    set(&mut fleet, Some(2));
    assert_eq!(tick(&mut fleet, 20), (Some((4, 0)), Some(2), 0), "connections go on");
    set(&mut fleet, None);
    assert_eq!(tick(&mut fleet, 30), (None, None, 0));
    set(&mut fleet, Some(30));
    assert_eq!(tick(&mut fleet, 40).1, Some(4));
    assert_eq!(tick(&mut fleet, 820), (Some((12, 0)), Some(12), 0), "a higher one when it was heard");
}

#[test]
fn without_the_bus_a_node_has_its_share() {
    let mut fleet = used(Some(10), Some(Rate::new(10, Duration::from_secs(1))));
    let alone = FleetNodes { is_connected: false, ..connected(3, 0) };
    fleet.on_remote(source(1), 9, 0);
    let tick = fleet.on_tick(HashMap::from([(source(1), 1)]), alone, 0);
    assert_eq!((tick.caps, tick.tokens), (vec![(source(1), 4)], vec![]));
}

/// Nodes that hear each other some ticks late, with a client that opens what each of them
/// admits, at one node after another. Returns the most connections at a time.
fn flood(nodes: u32, max: usize, lag: usize, churn: bool, begins_after: usize) -> usize {
    let count = nodes as usize;
    let mut uses: Vec<FleetUse> = (0..nodes).map(|_| used(Some(max), None)).collect();
    let mut held = vec![0u32; count];
    let mut caps = vec![FleetLimits::share(max, nodes); count];
    let mut said: Vec<Vec<u32>> = Vec::new();
    let mut most = 0;
    for tick in 0..200 + count * begins_after {
        let begun = tick.checked_div(begins_after).map_or(count, |begun| count.min(begun + 1));
        for node in 0..begun {
            if churn && held[node] > 0 && (tick + node) % 3 == 0 {
                held[node] -= 1;
                uses[node].on_end(source(1));
            }
            held[node] = held[node].max(caps[node] as u32);
        }
        most = most.max(held.iter().sum::<u32>() as usize);
        let mut told = said.last().cloned().unwrap_or(vec![0; count]);
        for node in 0..count {
            if let Some(heard) = tick.checked_sub(lag + 1).map(|at| &said[at]) {
                let others = heard.iter().sum::<u32>() - heard[node];
                uses[node].on_remote(source(1), others, 0);
            }
            let now = tick as u64 * TICK.as_nanos() as u64;
            let found =
                uses[node].on_tick(HashMap::from([(source(1), held[node])]), connected(nodes, 0), now);
            caps[node] = found.caps.first().map_or(caps[node], |(_, cap)| *cap);
            told[node] = found.told.first().map_or(told[node], |(_, reserved, _)| *reserved);
        }
        said.push(told);
    }
    most
}

#[test]
fn a_flood_over_all_nodes_stays_within_the_bound() {
    for nodes in [1, 2, 3, 5, 20] {
        for max in [1, 2, 9, 20, 100, 1000] {
            for lag in [0, 1, 2] {
                for (churn, begins_after) in [(false, 0), (true, 0), (false, 1), (true, 7), (false, 20)] {
                    let most = flood(nodes, max, lag, churn, begins_after);
                    let case = format!("{nodes} nodes, {max}, {lag} late, {churn}, {begins_after}: {most}");
                    assert!((max..max + nodes as usize).contains(&most), "{case}");
                }
            }
        }
    }
}

#[test]
fn a_rate_over_all_nodes_holds_in_the_long_run() {
    let rate = Rate::new(100, Duration::from_secs(1)).burst(50);
    let mut bucket = FleetBucket { tokens: 50.0, at: 0 };
    bucket.advance(rate, 80, 4, 100 * MS);
    assert_eq!(bucket.tokens, -30.0, "it was full, and what was too much is owed");
    bucket.advance(rate, 0, 4, 300 * MS);
    assert_eq!(bucket.tokens, -10.0);
    bucket.advance(rate, u64::MAX, 4, 300 * MS);
    assert_eq!(bucket.tokens, -180.0, "a debt is bounded");
    bucket.advance(rate, u64::MAX, 256, 300 * MS);
    assert_eq!(bucket.tokens, -592.0, "each of many nodes has taken one");
    bucket.advance(rate, 0, 4, 9000 * MS);
    assert!(bucket.is_full(rate));
    let nodes = connected(4, 0);
    for (tokens, part) in [(40.0, 10.0), (2.0, 1.0), (0.8, 0.2), (-5.0, 0.0)] {
        assert_eq!(nodes.tokens(tokens), part);
    }
    let mut fleet = used(None, Some(rate));
    let mut at = |held, at| fleet.on_tick(HashMap::from([(source(1), held)]), nodes, at * MS).tokens;
    assert_eq!(at(10, 0), [], "it has its share");
    assert_eq!(at(10, 800), [(source(1), 12.5)]);
    assert_eq!(at(10, 900), [(source(1), 12.5)], "it comes to nobody else");
}

#[test]
fn where_others_admit_a_source_or_may_each_takes_its_part_once() {
    let rate = Rate::new(10, Duration::from_secs(1)).burst(50);
    for (lost, heard, set) in [(0, 0, true), (1, 0, false), (0, 1, false)] {
        let mut fleet = used(None, Some(rate));
        let mut at = |at: u64| {
            let nodes = connected(4 - lost, lost);
            fleet.on_end(source(1));
            if at == 500 {
                fleet.on_remote(source(1), 0, heard);
            }
            fleet.on_tick(HashMap::new(), nodes, at * MS).tokens.len() == 1
        };
        assert_eq!([0, 500, 800, 1_500].map(&mut at), [false, false, true, set], "{lost} {heard}");
        // A debt of 2 × 50 + 8 is paid in 10.8 s.
        let later = (1_600..12_200).step_by(100).filter(|now| at(*now)).count();
        assert_eq!(later > 20, set, "{lost} {heard}: {later}");
        assert_eq!((12_300..12_600).step_by(100).filter(|now| at(*now)).count() == 3, lost == 0);
    }
}

/// Nodes that hear each other some ticks late, with a client that comes to one after another after
/// some time, and that each of them admits as often as it may, in connections that end at once.
/// Returns those that are admitted in the last 20 seconds of 40, and the most that were admitted
/// beyond the burst and the rate.
fn rate_flood(nodes: u32, rate: Rate, lag: usize, begins_after: u64) -> (u64, f64) {
    const STEP: u64 = 10 * MS;
    let limits = FleetLimits { max_per_source: None, rate_per_source: Some(rate) };
    let tables: Vec<FleetTables> =
        (0..nodes).map(|_| FleetTables::new(limits, SourceSecret::random()).expect("memory")).collect();
    let mut uses: Vec<FleetUse> = (0..nodes).map(|_| used(None, Some(rate))).collect();
    let mut said: Vec<Vec<u32>> = Vec::new();
    let mut one_server = FleetBucket { tokens: rate.burst_tokens(), at: 0 };
    let (mut late, mut beyond) = (0, 0.0_f64);
    for step in 0..4_000 {
        // The clock of buckets begins after 0.
        let now = 1_000 * MS + step * STEP;
        let mut admitted = 0;
        let begun = tables.iter().zip(&mut uses).zip(0..).filter(|(_, at)| at * begins_after <= step);
        for ((table, used), _) in begun {
            while table.take_token(&source(1), rate, nodes, now) {
                used.on_end(source(1));
                admitted += 1;
            }
        }
        late += if step < 2_000 { 0 } else { admitted };
        one_server.advance(rate, admitted, u32::MAX, now);
        beyond = beyond.max(-one_server.tokens);
        if step % 10 == 0 {
            let heard = said.len().checked_sub(lag).map(|at| said[at].clone());
            said.push(tick_all(&tables, &mut uses, heard.as_deref(), rate, now));
        }
    }
    (late, beyond)
}

/// A tick of all nodes. Returns what each tells.
fn tick_all(
    tables: &[FleetTables],
    uses: &mut [FleetUse],
    heard: Option<&[u32]>,
    rate: Rate,
    now: u64,
) -> Vec<u32> {
    let nodes = tables.len() as u32;
    let each = tables.iter().zip(uses).enumerate().map(|(node, (table, used))| {
        if let Some(heard) = heard {
            used.on_remote(source(1), 0, heard.iter().sum::<u32>() - heard[node]);
        }
        let tick = used.on_tick(HashMap::new(), connected(nodes, 0), now);
        for (source, tokens) in tick.tokens {
            table.set_tokens(&source, tokens, rate, nodes, now);
        }
        tick.told.first().map_or(0, |(.., taken)| *taken)
    });
    each.collect()
}

#[test]
fn a_node_that_a_source_comes_to_alone_has_the_rate_in_ten_shares_of_the_burst() {
    for (nodes, rate, burst, admitted) in [
        (1, 100, 20, 2_000),
        (3, 100, 100, 2_000),
        // Ten times in a second 6, and what fills until then.
        (3, 100, 20, 1_400),
        (20, 100, 100, 1_000),
        (20, 100, 20, 200),
        (20, 10, 3, 200),
    ] {
        let limit = Rate::new(rate, Duration::from_secs(1)).burst(burst);
        let (late, beyond) = rate_flood(nodes, limit, 3, u64::MAX / 32);
        assert_eq!((late, beyond), (admitted, 0.0), "{nodes} nodes, {rate}/s:{burst}");
    }
}

#[test]
fn a_flood_over_all_nodes_is_admitted_at_the_rate() {
    for nodes in [1, 3, 10, 20] {
        for (rate, burst) in [(100, 100), (100, 20), (10, 10), (10, 3)] {
            let limit = Rate::new(rate, Duration::from_secs(1)).burst(burst);
            for (lag, begins_after) in [(1, 0), (2, 0), (3, 0), (3, 7), (3, 150)] {
                let (late, beyond) = rate_flood(nodes, limit, lag, begins_after);
                let case =
                    format!("{nodes} nodes, {rate}/s:{burst}, {lag} late, {begins_after}: {late}, {beyond}");
                assert!(late <= u64::from(20 * rate + burst.max(nodes)), "{case}");
                assert!(beyond <= f64::from(burst.max(2 * nodes)), "{case}");
            }
        }
    }
}
