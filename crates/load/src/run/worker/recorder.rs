//! The recorder of a worker: its findings, and its live numbers. No system call here; every time is
//! passed in, in nanoseconds on the monotonic clock.

use crate::findings::record::Measure;
use crate::findings::state::State;
use crate::findings::{Bytes, Findings, WrongBytes};
use crate::plan::Plan;
use crate::run::live::Numbers;
use crate::units::SECOND;

/// Connecting takes longer than this only if the kernel retried.
const SLOW: u64 = SECOND * 9 / 10;

/// Records findings and live numbers.
pub(super) struct Recorder {
    findings: Findings,
    pub(super) numbers: Numbers,
    is_open_loop: bool,
    /// Whether counts are kept for each second.
    keeps_seconds: bool,
    start: u64,
    /// The measured time.
    measured_from: u64,
    end: u64,
    /// Bytes that are already counted for a second.
    accounted: Bytes,
}

/// Planned and actual start of a connection or exchange.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Start {
    pub(super) planned: u64,
    pub(super) actual: u64,
}

impl Recorder {
    /// Creates the recorder of a run that starts at `start`. `measures`: whether durations, and
    /// counts for each second, are kept; without them its memory does not grow with time.
    pub(super) fn new(plan: &Plan, start: u64, measures: bool) -> Recorder {
        Recorder {
            findings: Findings::default(),
            numbers: Numbers::default(),
            is_open_loop: plan.is_open(),
            keeps_seconds: measures,
            start,
            measured_from: if measures { start + plan.warmup_ns } else { u64::MAX },
            end: plan.duration_ns.map_or(u64::MAX, |duration| start + plan.warmup_ns + duration),
            accounted: Bytes::default(),
        }
    }

    /// The end of the measured time.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Whether a connection has ended in an error.
    pub(super) fn has_errors(&self) -> bool {
        self.numbers.errors() > 0
    }

    /// The loop of the worker turns, at the start of the run or later. The first turn counts.
    pub(super) fn started(&mut self, now: u64) {
        self.findings.start_late_ns.get_or_insert(now - self.start);
    }

    /// An arrival starts, on a connection slot that has been free since `free_since`.
    pub(super) fn arrived(&mut self, planned: u64, free_since: u64, now: u64) {
        self.findings.waited += u64::from(free_since > planned);
        if planned >= self.measured_from {
            // A slot that became free after the planned time is late because of the server.
            let lateness = now - planned.max(free_since).min(now);
            self.findings.records.at(Measure::Lateness).add(lateness);
        }
    }

    /// A connection is planned, and begins now.
    pub(super) fn connecting(&mut self) {
        self.findings.connections.planned += 1;
    }

    /// A connection is made.
    pub(super) fn connected(&mut self, start: Start, now: u64) {
        self.numbers.open += 1;
        self.numbers.made += 1;
        self.findings.most_open = self.findings.most_open.max(self.numbers.open);
        let duration = now - start.actual;
        self.findings.slow_connects += u64::from(duration > SLOW);
        if start.planned >= self.measured_from {
            self.findings.records.at(Measure::Connect).add(duration);
        }
    }

    /// An exchange is planned, and begins now.
    pub(super) fn exchange_begun(&mut self) {
        self.findings.exchanges.planned += 1;
        self.numbers.messages += 1;
    }

    /// A further message of an exchange begins.
    pub(super) fn message_begun(&mut self) {
        self.numbers.messages += 1;
    }

    /// Bytes are sent.
    pub(super) fn sent(&mut self, bytes: u64) {
        self.numbers.sent += bytes;
    }

    /// Bytes are received.
    pub(super) fn received(&mut self, bytes: u64) {
        self.numbers.received += bytes;
    }

    /// Whether the first byte of a reply is recorded.
    pub(super) fn records_first_byte(&self, start: Start) -> bool {
        start.planned >= self.measured_from
    }

    /// The first byte of a reply is received.
    pub(super) fn first_byte(&mut self, start: Start, now: u64) {
        self.findings.records.at(Measure::FirstByte).add(now - start.actual);
    }

    /// An exchange is complete.
    pub(super) fn exchange_done(&mut self, start: Start, now: u64) {
        self.findings.exchanges.done += 1;
        self.timed(start, now);
    }

    /// An exchange (or connection) that began at `start` is done, and its duration counts.
    pub(super) fn timed(&mut self, start: Start, now: u64) {
        let latency = now.saturating_sub(start.planned);
        if start.planned >= self.measured_from && now < self.end {
            self.findings.records.at(Measure::Exchange).add(latency);
            if self.is_open_loop {
                self.findings.records.at(Measure::Uncorrected).add(now - start.actual);
            }
        }
        self.numbers.count_duration(latency);
        self.done(now, latency);
    }

    /// An exchange (or a connection, where those count) is done.
    pub(super) fn done(&mut self, now: u64, latency: u64) {
        self.numbers.done += 1;
        self.findings.measured += u64::from(now >= self.measured_from && now < self.end);
        let since_start = now - self.start;
        if self.keeps_seconds {
            let second = self.findings.second(since_start);
            second.done += 1;
            second.longest_ns = second.longest_ns.max(latency);
        }
        self.findings.last_done_ns = since_start;
    }

    /// An exchange is cut off.
    pub(super) fn exchange_cut(&mut self) {
        self.findings.exchanges.cut += 1;
    }

    /// An exchange fails.
    pub(super) fn exchange_failed(&mut self) {
        self.findings.exchanges.failed += 1;
    }

    /// A connection ends.
    pub(super) fn ended(&mut self, state: State, was_open: bool, now: u64) {
        self.numbers.open -= u64::from(was_open);
        self.numbers.count_end(state);
        self.findings.connections.count(state, 1);
        if state.is_error() && self.keeps_seconds {
            self.findings.second(now - self.start).errors += 1;
        }
    }

    /// The system reports an error.
    pub(super) fn system_error(&mut self, state: State, text: &str) {
        self.findings.count_error(state, text);
    }

    /// Wrong bytes are diagnosed.
    pub(super) fn wrong_bytes(&mut self, wrong: WrongBytes) {
        self.findings.keep(wrong);
    }

    /// Counts the bytes since the last call for the present second. Counting each as it moves would
    /// cost more than it is worth.
    pub(super) fn account_for_bytes(&mut self, now: u64) {
        let all = Bytes { sent: self.numbers.sent, received: self.numbers.received };
        let (sent, received) = (all.sent - self.accounted.sent, all.received - self.accounted.received);
        self.accounted = all;
        if now >= self.measured_from {
            self.findings.measured_bytes.merge(Bytes { sent, received });
        }
        if self.keeps_seconds && sent + received > 0 {
            let second = self.findings.second(now.saturating_sub(self.start));
            second.sent += sent;
            second.received += received;
        }
    }

    /// A connection is left at the stop. `age_from`: its planned start, if it counts as in flight.
    pub(super) fn left(&mut self, state: State, age_from: Option<u64>, now: u64) {
        self.findings.connections.count(state, 1);
        if let Some(planned) = age_from {
            self.findings.ages.add(now.saturating_sub(planned));
        }
    }

    /// An exchange is left at the stop.
    pub(super) fn exchange_left(&mut self) {
        self.findings.exchanges.in_flight += 1;
    }

    /// Exchanges (or connections, if `are_connections`) are planned, and not begun at the stop.
    pub(super) fn unstarted(&mut self, number: u64, are_connections: bool) {
        if are_connections {
            self.findings.connections.planned += number;
            self.findings.connections.count(State::Unstarted, number);
        } else {
            self.findings.exchanges.planned += number;
            self.findings.exchanges.unstarted += number;
        }
    }

    /// Ends recording, and returns the findings.
    pub(super) fn finish(mut self, now: u64) -> Findings {
        // The last byte counts for the second before the end, which begins a new one.
        self.account_for_bytes(now.min(self.end).max(self.start + 1) - 1);
        self.findings.bytes = Bytes { sent: self.numbers.sent, received: self.numbers.received };
        self.findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 100 * SECOND;

    fn recorder(plan: Plan, measures: bool) -> Recorder {
        Recorder::new(&plan, START, measures)
    }

    fn at(planned: u64) -> Start {
        Start { planned: START + planned, actual: START + planned }
    }

    #[test]
    fn only_what_begins_after_the_warm_up_and_ends_in_time_is_measured() {
        let plan = Plan {
            warmup_ns: SECOND,
            duration_ns: Some(2 * SECOND),
            rate: Some(1.0),
            ..crate::plan::tests::plan()
        };
        for (planned, done, measured, recorded) in [
            (0, SECOND / 2, 0, 0),
            // Counted, as it is done in the measured time, but its duration is not recorded.
            (SECOND - 1, SECOND + 1, 1, 0),
            (SECOND, 2 * SECOND, 1, 1),
            (SECOND, 3 * SECOND, 0, 0),
        ] {
            let mut recorder = recorder(plan.clone(), true);
            recorder.connected(at(planned), START + planned + 10);
            recorder.exchange_begun();
            recorder.exchange_done(at(planned), START + done);
            let findings = recorder.finish(START + done);
            let count = |measure| findings.records.of(measure).count();
            assert_eq!((findings.measured, count(Measure::Exchange)), (measured, recorded), "{planned}");
            assert_eq!(count(Measure::Exchange), count(Measure::Uncorrected));
            assert_eq!(count(Measure::Connect), u64::from(planned >= SECOND));
            let done = findings.seconds.iter().map(|second| second.done).sum::<u64>();
            assert_eq!((done, findings.exchanges.done, findings.exchanges.planned), (1, 1, 1));
        }
    }

    #[test]
    fn an_arrival_that_waited_for_the_server_is_not_late() {
        let open = Plan { rate: Some(1.0), ..crate::plan::tests::plan() };
        for (free_since, now, waited, lateness) in [(0, 5, 0, 5), (3, 5, 1, 2), (5, 5, 1, 0), (0, 0, 0, 0)] {
            let mut recorder = recorder(open.clone(), true);
            let planned = START;
            // The slot is free at the planned time, or later.
            recorder.arrived(planned, planned + free_since, planned + now);
            let findings = recorder.finish(START + now);
            assert_eq!((findings.waited, findings.records.of(Measure::Lateness).max()), (waited, lateness));
        }
    }

    #[test]
    fn bytes_count_for_the_second_in_which_they_move() {
        let mut recorder = recorder(Plan { warmup_ns: SECOND, ..crate::plan::tests::plan() }, true);
        recorder.sent(3);
        recorder.account_for_bytes(START + SECOND / 2);
        recorder.sent(4);
        recorder.received(5);
        let findings = recorder.finish(START + 2 * SECOND);
        let seconds: Vec<_> = findings.seconds.iter().map(|one| (one.sent, one.received)).collect();
        assert_eq!(seconds, [(3, 0), (4, 5)]);
        assert_eq!(findings.measured_bytes, Bytes { sent: 4, received: 5 });
        assert_eq!(findings.bytes, Bytes { sent: 7, received: 5 });
    }

    #[test]
    fn without_measuring_numbers_are_counted_and_nothing_grows_with_time() {
        let mut recorder = recorder(crate::plan::tests::plan(), false);
        recorder.connected(at(0), START + 1);
        recorder.exchange_begun();
        recorder.message_begun();
        recorder.sent(9);
        recorder.exchange_done(at(0), START + 1000 * SECOND);
        recorder.ended(State::Reset, true, START + 2000 * SECOND);
        recorder.account_for_bytes(START + 2000 * SECOND);
        let numbers = recorder.numbers;
        assert_eq!((numbers.open, numbers.made, numbers.messages, numbers.sent), (0, 1, 2, 9));
        assert!(recorder.has_errors());
        let findings = recorder.finish(START + 2000 * SECOND);
        assert!(findings.seconds.is_empty());
        assert_eq!((findings.measured, findings.records.of(Measure::Exchange).count()), (0, 0));
    }
}
