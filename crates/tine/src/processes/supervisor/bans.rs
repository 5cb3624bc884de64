//! The bans of a service: kept here, put on the board for those who admit, in a file for the next
//! start, and told to the link for other nodes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::admission::access::bans::MAX_BANS;
use crate::admission::access::prefix::Prefix;
use crate::error::{Error, next_move};
use crate::ipc::board::Board;
use crate::ipc::linking::{BanRecord, BanState};
use crate::processes::control::view::BanView;
use crate::system::state_file;

/// The end of the calendar in which dates are written (RFC 3339): the year 9999. Seconds since
/// 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// The time for which a lifted ban is known: an older record of it, from a node that was away, has
/// no effect until then.
const LIFTED_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Bans of other nodes are put in force together: after this many times what the last time took, so
/// that very many of them keep the supervisor busy for a part of its time only. They are saved in
/// the same way, after a second at least.
const PUBLISH_PART: u32 = 10;
const SAVE_PART: u32 = 20;
const SAVE_AFTER: Duration = Duration::from_secs(1);

/// What is known of the ban of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KnownBan {
    /// Wall clock: a ban outlives a restart of the machine.
    state: BanState,
    /// When it was ordered: [`BanRecord::at`].
    at: u64,
}

/// All bans of a service.
#[derive(Debug, Default)]
pub(super) struct Bans {
    /// Those that hold, and those that were lifted a while ago.
    known: HashMap<Prefix, KnownBan>,
    /// The number of those that hold.
    number: usize,
    /// A time at which the next one may end, or may be forgotten; seconds since 1970.
    next_end: Option<u64>,
    /// Where they are kept for the next start; `None` where nothing is.
    file: Option<PathBuf>,
    /// When changes are put on the board, and into the file.
    pub(super) publish: Deferred,
    pub(super) save: Deferred,
}

/// Work that is done once for several changes.
#[derive(Debug, Default)]
pub(super) struct Deferred {
    due: Option<Instant>,
    /// Not before.
    earliest: Option<Instant>,
}

impl Deferred {
    /// There is a change: the work is due now, unless it was done a moment ago.
    fn request(&mut self, now: Instant) {
        self.due.get_or_insert_with(|| self.earliest.map_or(now, |earliest| earliest.max(now)));
    }

    fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether the work is to be done now. It counts as done.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// The work was done, and is not done again for a time.
    pub(super) fn done(&mut self, now: Instant, rest: Duration) {
        (self.due, self.earliest) = (None, now.checked_add(rest));
    }
}

impl Bans {
    /// The bans in a file, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or is no file of bans: to start without them would admit clients
    /// that an operator has banned.
    pub(super) fn load(file: Option<PathBuf>) -> Result<Bans, Error> {
        let Some(path) = &file else { return Ok(Bans::default()) };
        let text = match std::fs::read_to_string(path) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Bans { file, ..Bans::default() });
            }
            Err(why) => {
                let what = format_args!("cannot read the bans in {}", path.display()).to_string();
                return Err(Error::system(what, &why, next_move::of_file(&why)));
            }
            Ok(text) => text,
        };
        let bans = Bans::from_text(&text, file.clone()).ok_or_else(|| {
            let what = format_args!("{} is not a file of bans", path.display()).to_string();
            Error::usage(what, "remove it, and ban again what is to be banned (`tine ban`)")
        })?;
        Ok(bans)
    }

    /// The bans as a text, for the next generation of the server.
    pub(super) fn to_text(&self) -> String {
        let bans: Vec<Value> = self.sorted().iter().filter_map(ban_to_json).collect();
        let lifted: Vec<Value> = self.sorted().iter().filter_map(lifted_to_json).collect();
        format!("{:#}\n", json!({ "version": 1, "bans": bans, "lifted": lifted }))
    }

    /// The bans in a text of an older generation; `None` if it is none.
    pub(super) fn from_text(text: &str, file: Option<PathBuf>) -> Option<Bans> {
        let mut bans = Bans { known: parse(text)?, file, ..Bans::default() };
        bans.expire(SystemTime::now());
        Some(bans)
    }

    /// Bans a block, or lifts its ban, by order of an operator here. Returns the record for other
    /// nodes; `None` if there are too many bans, or there is none to lift.
    pub(super) fn order(&mut self, block: Prefix, state: BanState, now: SystemTime) -> Option<BanRecord> {
        let before = self.known.get(&block);
        if state == BanState::Lifted && !before.is_some_and(|known| known.state != BanState::Lifted) {
            return None;
        }
        let at = before.map_or(0, |known| known.at + 1).max(milliseconds(now));
        let record = BanRecord { block, state, at };
        self.put(record).then_some(record)
    }

    /// Takes over what another node knows, if it is later. False if it changes nothing, or there
    /// are too many bans.
    pub(super) fn merge(&mut self, record: BanRecord) -> bool {
        let BanRecord { block, at, .. } = record;
        let is_known = self.known.get(&block).is_some_and(|known| known.at > at);
        !is_known && self.put(record)
    }

    fn put(&mut self, BanRecord { block, state, at }: BanRecord) -> bool {
        let before = self.known.get(&block).copied();
        if before.is_none() && self.known.len() >= MAX_BANS {
            self.forget_lifted();
        }
        if before == Some(KnownBan { state, at }) || before.is_none() && self.known.len() >= MAX_BANS {
            return false;
        }
        let is_ban = |state: BanState| state != BanState::Lifted;
        self.number -= usize::from(before.is_some_and(|known| is_ban(known.state)));
        self.number += usize::from(is_ban(state));
        let known = KnownBan { state, at };
        self.next_end = self.next_end.into_iter().chain(known.end()).min();
        self.known.insert(block, known);
        true
    }

    /// Makes room: only a node that was away for long could tell of these.
    fn forget_lifted(&mut self) {
        self.known.retain(|_, known| known.state != BanState::Lifted);
    }

    /// Removes the bans that have ended, and forgets lifted ones in time. True if a ban has ended.
    pub(super) fn expire(&mut self, now: SystemTime) -> bool {
        let now = seconds(now);
        let before = self.number;
        self.known.retain(|_, known| known.end().is_none_or(|end| end > now));
        self.number = self.known.values().filter(|known| known.state != BanState::Lifted).count();
        self.next_end = self.known.values().filter_map(|known| known.end()).min();
        self.number < before
    }

    /// Whether [`Bans::expire`] is due.
    pub(super) fn has_ended(&self, now: SystemTime) -> bool {
        self.next_end.is_some_and(|end| end <= seconds(now))
    }

    /// When there is something to do without an event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let end = self.next_end(SystemTime::now()).and_then(|time| Instant::now().checked_add(time));
        [end, self.publish.deadline(), self.save.deadline()].into_iter().flatten().min()
    }

    /// The time until [`Bans::expire`] is due.
    fn next_end(&self, now: SystemTime) -> Option<Duration> {
        let next = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.next_end?))?;
        Some(next.duration_since(now).unwrap_or_default())
    }

    /// Whether any block is banned.
    pub(super) fn are_any(&self) -> bool {
        self.number > 0
    }

    /// All that is known, for the link.
    pub(super) fn records(&self) -> impl Iterator<Item = BanRecord> + '_ {
        let record = |(block, known): (&Prefix, &KnownBan)| BanRecord {
            block: *block,
            state: known.state,
            at: known.at,
        };
        self.known.iter().map(record)
    }

    fn blocks(&self) -> Vec<Prefix> {
        let banned = self.records().filter(|record| record.state != BanState::Lifted);
        banned.map(|record| record.block).collect()
    }

    fn sorted(&self) -> Vec<BanRecord> {
        let mut records: Vec<BanRecord> = self.records().collect();
        records.sort_by_key(|record| record.block);
        records
    }

    /// As operators see them.
    pub(super) fn views(&self, now: SystemTime) -> Vec<BanView> {
        let view = |record: BanRecord| {
            let until = match record.state {
                BanState::Lifted => return None,
                BanState::Forever => None,
                BanState::Until(end) => Some(end),
            };
            let left = until.map(|end| Duration::from_secs(end).saturating_sub(since_1970(now)));
            Some(BanView { block: record.block, left })
        };
        self.sorted().into_iter().filter_map(view).collect()
    }

    /// Puts the bans on the board, at once.
    pub(super) fn put_on(&mut self, board: &Board) {
        let begin = Instant::now();
        // Their number was checked.
        let _ = board.set_bans(&self.blocks());
        let now = Instant::now();
        self.publish.done(now, PUBLISH_PART * (now - begin));
    }

    /// Something has changed that another node has ordered.
    pub(super) fn note_change(&mut self) {
        let now = Instant::now();
        self.publish.request(now);
        self.save.request(now);
    }

    /// Whether the file has not all of them yet.
    pub(super) fn is_unsaved(&self) -> bool {
        self.save.deadline().is_some()
    }

    /// Keeps the bans for the next start.
    ///
    /// # Errors
    /// The file cannot be written whole.
    pub(super) fn save(&mut self) -> std::io::Result<()> {
        let begin = Instant::now();
        let saved = match &self.file {
            Some(file) => state_file::write(file, &self.to_text()),
            None => Ok(()),
        };
        let now = Instant::now();
        self.save.done(now, SAVE_AFTER.max(SAVE_PART * (now - begin)));
        saved
    }
}

impl KnownBan {
    /// When it ends, or may be forgotten; seconds since 1970.
    fn end(&self) -> Option<u64> {
        match self.state {
            BanState::Forever => None,
            BanState::Until(end) => Some(end),
            BanState::Lifted => Some((self.at / 1000).saturating_add(LIFTED_FOR.as_secs())),
        }
    }
}

/// When a ban of this many seconds ends. A time beyond the calendar is for ever.
pub(super) fn end_of(now: SystemTime, time: u64) -> BanState {
    match seconds(now).checked_add(time).filter(|end| *end <= LAST_SECOND) {
        Some(end) => BanState::Until(end),
        None => BanState::Forever,
    }
}

fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn seconds(now: SystemTime) -> u64 {
    since_1970(now).as_secs()
}

fn milliseconds(now: SystemTime) -> u64 {
    u64::try_from(since_1970(now).as_millis()).unwrap_or(u64::MAX)
}

/// A ban that holds, as in the file.
fn ban_to_json(record: &BanRecord) -> Option<Value> {
    let until = match record.state {
        BanState::Lifted => return None,
        BanState::Forever => None,
        BanState::Until(end) => {
            let until = SystemTime::UNIX_EPOCH + Duration::from_secs(end.min(LAST_SECOND));
            Some(humantime::format_rfc3339_seconds(until).to_string())
        }
    };
    Some(json!({ "block": record.block.to_string(), "until": until, "at": record.at }))
}

/// A ban that was lifted. Versions without fleets would take it for a ban in one list with them.
fn lifted_to_json(record: &BanRecord) -> Option<Value> {
    let is_lifted = record.state == BanState::Lifted;
    is_lifted.then(|| json!({ "block": record.block.to_string(), "at": record.at }))
}

/// Reads the text of a file, bans that have ended included.
fn parse(text: &str) -> Option<HashMap<Prefix, KnownBan>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let bans = value["bans"].as_array().filter(|_| value["version"] == 1)?;
    let none = Vec::new();
    let lifted = value["lifted"].as_array().unwrap_or(&none);
    // Without a time: of a version without fleets. What any other node knows is later.
    let known = |ban: &Value, state: BanState| {
        Some((ban["block"].as_str()?.parse().ok()?, KnownBan { state, at: ban["at"].as_u64().unwrap_or(0) }))
    };
    let ban = |ban: &Value| match &ban["until"] {
        Value::Null => known(ban, BanState::Forever),
        Value::String(date) => known(ban, BanState::Until(seconds(humantime::parse_rfc3339(date).ok()?))),
        _ => None,
    };
    let lifted = lifted.iter().map(|ban| known(ban, BanState::Lifted));
    let all: HashMap<Prefix, KnownBan> = lifted.chain(bans.iter().map(ban)).collect::<Option<_>>()?;
    (all.len() <= MAX_BANS).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn shown(bans: &Bans) -> Vec<String> {
        bans.sorted().iter().map(BanRecord::to_string).collect()
    }

    #[test]
    fn bans_are_given_changed_and_lifted() {
        let mut bans = Bans::default();
        let (net, one) = (block("192.0.2.0/24"), block("::1"));
        assert!(bans.order(net, BanState::Forever, at(1)).is_some());
        // The clock stands still, or was set back: a later order is later nevertheless.
        let record = bans.order(net, BanState::Until(10), at(0)).expect("changed");
        assert_eq!(record, BanRecord { block: net, state: BanState::Until(10), at: 1001 });
        assert!(bans.order(one, BanState::Until(20), at(1)).is_some());
        assert_eq!((bans.blocks().len(), bans.next_end(at(4))), (2, Some(Duration::from_secs(6))));
        assert!(!bans.has_ended(at(9)) && bans.has_ended(at(10)) && bans.expire(at(10)));
        assert!(bans.order(net, BanState::Lifted, at(10)).is_none(), "it has ended");
        assert!(bans.order(one, BanState::Lifted, at(11)).is_some());
        assert!(bans.order(one, BanState::Lifted, at(11)).is_none(), "it was lifted");
        assert_eq!((shown(&bans), bans.are_any()), (vec!["ban ::1 lifted 11000".to_owned()], false));
        assert!(!bans.expire(at(20)), "it was lifted before");
        let forgotten = 11 + LIFTED_FOR.as_secs();
        assert!(!bans.has_ended(at(forgotten - 1)) && bans.has_ended(at(forgotten)));
        assert!(!bans.expire(at(forgotten)), "no ban has ended");
        assert!(bans.known.is_empty() && bans.next_end.is_none());
    }

    #[test]
    fn the_later_of_two_orders_counts_at_each_node() {
        let record = |state, at| BanRecord { block: block("192.0.2.1"), state, at };
        let all =
            [record(BanState::Forever, 1), record(BanState::Lifted, 2), record(BanState::Until(u64::MAX), 3)];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut bans = Bans::default();
            let changes = order.map(|at| bans.merge(all[at]));
            assert_eq!(shown(&bans), [all[2].to_string()], "{order:?}");
            assert!(changes[0] && !bans.merge(all[2]), "{order:?}");
        }
    }

    #[test]
    fn there_are_so_many_bans_and_no_more() {
        let mut bans = Bans::default();
        let address = |number: u32| Prefix::of(std::net::IpAddr::V4(number.into()));
        for number in 0..MAX_BANS as u32 {
            assert!(bans.order(address(number), BanState::Forever, at(1)).is_some());
        }
        assert!(bans.order(block("::1"), BanState::Forever, at(1)).is_none());
        assert!(bans.order(address(7), BanState::Until(9), at(1)).is_some(), "a change needs no room");
        assert!(bans.order(address(7), BanState::Lifted, at(1)).is_some());
        assert!(bans.order(block("::1"), BanState::Forever, at(1)).is_some(), "lifted ones make room");
        assert_eq!((bans.known.len(), bans.blocks().len()), (MAX_BANS, MAX_BANS));
    }

    #[test]
    fn a_ban_beyond_the_calendar_is_for_ever() {
        let now = at(1_000_000);
        for (seconds, is_for_ever) in [
            (0, false),
            (LAST_SECOND - 1_000_000, false),
            (LAST_SECOND - 999_999, true),
            (i64::MAX as u64, true),
            (u64::MAX, true),
        ] {
            let state = end_of(now, seconds);
            assert_eq!(state == BanState::Forever, is_for_ever, "{seconds}");
            let mut bans = Bans::default();
            let record = bans.order(block("::1"), state, now).expect("room");
            assert_eq!(
                parse(&bans.to_text()),
                Some(HashMap::from([(record.block, bans.known[&record.block])]))
            );
        }
    }

    #[test]
    fn bans_survive_a_file() {
        let mut bans = Bans::default();
        let now = SystemTime::now();
        let later = BanState::Until(seconds(now) + 100);
        for (text, state) in [("192.0.2.0/24", BanState::Forever), ("2001:db8::/32", later), ("::1", later)] {
            bans.order(block(text), state, now).expect("room");
        }
        bans.order(block("::1"), BanState::Lifted, now).expect("banned");
        bans.put(BanRecord { block: block("::2"), state: BanState::Until(seconds(now) - 1), at: 1 });
        let read = Bans::from_text(&bans.to_text(), None).expect("a text of bans");
        assert!(bans.expire(now));
        assert_eq!((shown(&read), read.blocks().len()), (shown(&bans), 2));
        let older = r#"{"version":1,"bans":[{"block":"::1","until":null}]}"#;
        assert_eq!(shown(&Bans::from_text(older, None).expect("of an older version")), ["ban ::1 forever 0"]);
        for wrong in
            ["", "{}", r#"{"version":2,"bans":[]}"#, r#"{"version":1,"bans":[{"block":"x","until":null}]}"#]
        {
            assert!(parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn work_is_done_once_for_several_changes() {
        let start = Instant::now();
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut work = Deferred::default();
        work.request(start);
        assert!(work.take(start) && !work.take(start));
        work.done(after(10), Duration::from_millis(100));
        work.request(after(20));
        work.request(after(60));
        assert_eq!(work.deadline(), Some(after(110)));
        assert!(!work.take(after(109)) && work.take(after(110)));
    }
}
