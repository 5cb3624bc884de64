//! The connections of workers (`--reuse`) on the board: how many there are, and their ends.

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::fence;

pub(crate) use super::ended_table::{LostEnds, WorkerEnd};
use super::{Board, SERVED_MOST, SERVED_NOW, SlotPhase};
use crate::watch::history::EndedConnection;

impl Board {
    /// Whether workers leave the ends of their connections here.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// Counts a connection that a worker is about to serve, before it is entered.
    pub(crate) fn count_served(&self) {
        self.word(SERVED_NOW).fetch_add(1, Relaxed);
    }

    /// Notes the most connections at a time, after one is entered. The last of some workers that
    /// enter theirs together sees them all.
    pub(crate) fn note_served_most(&self) {
        // Before it looks at the slots of others, they can see this one.
        fence(SeqCst);
        let now = self.word(SERVED_NOW).load(Relaxed).cast_signed();
        let most = self.word(SERVED_MOST).load(Relaxed).cast_signed();
        if now > most {
            // A worker that is killed can leave the count too high by one: the slots are exact.
            let exact = self.count(SlotPhase::Serving, None) as u64;
            self.word(SERVED_MOST).fetch_max(exact.min(now as u64), Relaxed);
        }
    }

    /// Counts the end of a connection of a worker, or of a worker that has exited while it served
    /// one.
    pub(crate) fn count_unserved(&self) {
        self.word(SERVED_NOW).fetch_sub(1, Relaxed);
    }

    /// The most connections that workers have served at a time.
    pub(crate) fn served_most(&self) -> usize {
        self.word(SERVED_MOST).load(Relaxed) as usize
    }

    /// Leaves the end of a connection for the supervisor. Runs in the worker in this slot. True if
    /// the supervisor should take the ends soon.
    pub(crate) fn leave_end(&self, slot: usize, end: &WorkerEnd) -> bool {
        let Some(table) = &self.ended else { return false };
        let is_soon = table.leave(slot, end);
        self.mark_changed(slot);
        is_soon
    }

    /// Takes the ends that were left in a slot, the oldest first. Runs in the supervisor.
    pub(crate) fn take_ends(&self, slot: usize, taken: &mut Vec<EndedConnection>) -> LostEnds {
        self.ended.as_ref().map_or(LostEnds::default(), |table| table.take(slot, taken))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tine_sys::process::How;

    use super::super::ended_table::{MAX_TEXT, ROOM, SOON};
    use super::super::tests::board;
    use super::*;
    use crate::lifecycle::outcome::{ExitReport, Outcome};
    use crate::log::{ByteCounts, Times, Usage, Waited};
    use crate::net::peer::Peer;

    fn usage() -> Usage {
        let second = Duration::from_secs(1);
        let times = Times {
            first_byte: Some(Duration::from_micros(5)),
            waited: Some(Waited { time: second / 2, limit: "rate" }),
        };
        Usage {
            duration: second,
            bytes: Some(ByteCounts::of_process((3, 4))),
            cpu: second / 8,
            peak_kib: 900,
            times,
            start_kind: None,
        }
    }

    fn leave(board: &Board, id: u64, exit_code: i32, report: &ExitReport, usage: Usage) -> bool {
        let peer = Peer::Tcp("192.0.2.1:5".parse().expect("an address"));
        let start = 1000 + id;
        board.leave_end(1, &WorkerEnd { id, peer, start, proxied: None, pid: 77, exit_code, report, usage })
    }

    #[test]
    fn ends_arrive_as_they_were_left() {
        let board = board(2).with_ended().expect("memory");
        let unknown = Usage { bytes: None, times: Times::default(), ..usage() };
        for (exit_code, report, usage) in [
            (0, ExitReport::Done, usage()),
            (0, ExitReport::Reset, unknown),
            (1, ExitReport::Error("größe".into()), usage()),
            (101, ExitReport::Panic(String::new()), unknown),
        ] {
            leave(&board, 9, exit_code, &report, usage);
            let mut taken = Vec::new();
            assert_eq!(board.take_ends(1, &mut taken), LostEnds::default());
            let [end] = &taken[..] else { panic!("{taken:?}") };
            assert_eq!(
                (end.id, end.peer.to_string().as_str(), end.pid, end.start),
                (9, "192.0.2.1:5", 77, 1009)
            );
            assert_eq!(end.outcome, Outcome::new(How::Exited(exit_code), Some(report)));
            assert_eq!((end.usage, end.proxied), (usage, None));
        }
    }

    #[test]
    fn ends_without_room_are_counted() {
        let board = board(2).with_ended().expect("memory");
        let asked: Vec<bool> =
            (0..ROOM as u64).map(|id| leave(&board, id, 0, &ExitReport::Done, usage())).collect();
        assert_eq!(asked.iter().position(|asked| *asked), Some(SOON as usize));
        for id in 0..4 {
            leave(&board, 1000 + id, 1, &ExitReport::Error("a".repeat(500)), usage());
        }
        let mut taken = Vec::new();
        assert_eq!(board.take_ends(1, &mut taken), LostEnds { ends: 4, failures: 4 });
        assert!(taken.iter().map(|end| end.id).eq(0..ROOM as u64), "{taken:?}");
        taken.clear();
        assert_eq!(board.take_ends(1, &mut taken), LostEnds::default());
        leave(&board, 7, 1, &ExitReport::Error("a".repeat(500)), usage());
        board.take_ends(1, &mut taken);
        assert_eq!((taken.len(), taken[0].outcome.to_string().len()), (1, "error ".len() + MAX_TEXT));
        let mut changed = Vec::new();
        board.take_changed(&mut changed);
        assert_eq!(changed, [1]);
    }

    #[test]
    fn a_hostile_record_is_clamped() {
        let board = board(1).with_ended().expect("memory");
        board.ended.as_ref().expect("a table").spoil(0);
        let mut taken = Vec::new();
        board.take_ends(0, &mut taken);
        assert_eq!(taken.len(), ROOM);
        assert_eq!(board.take_ends(0, &mut taken), LostEnds::default());
        assert_eq!(taken.len(), ROOM);
    }

    #[test]
    fn the_most_at_a_time_are_counted() {
        let board = board(8);
        let begin = || {
            board.count_served();
            let slot = board.claim(0).expect("free");
            board.begin(slot, Peer::Unix(None));
            board.note_served_most();
            slot
        };
        let slots = [begin(), begin(), begin()];
        for slot in slots {
            board.mark_idle(slot);
            board.count_unserved();
        }
        begin();
        assert_eq!(board.served_most(), 3);
        // Two killed workers were not counted out: the slots tell.
        board.count_served();
        board.count_served();
        begin();
        assert_eq!(board.served_most(), 3);
    }

    #[test]
    fn workers_that_are_counted_before_any_is_entered_are_all_seen() {
        let board = board(8);
        (0..3).for_each(|_| board.count_served());
        for _ in 0..3 {
            let slot = board.claim(0).expect("free");
            board.begin(slot, Peer::Unix(None));
            board.note_served_most();
        }
        assert_eq!(board.served_most(), 3);
    }
}
