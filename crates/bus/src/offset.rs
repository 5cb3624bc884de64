//! How far the clocks of an agent are from those of the coordinator: by the shortest of several
//! round trips, as in NTP (RFC 5905).

/// What is known about the clocks of an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// Its monotonic clock minus that of the coordinator, in nanoseconds.
    pub offset_ns: i64,
    /// Its time of day minus that of the coordinator, in nanoseconds.
    pub day_offset_ns: i64,
    /// Amount by which both may be wrong, in nanoseconds: half of the round trip.
    pub uncertainty_ns: u64,
    /// Number of round trips so far.
    pub round_trips: u32,
}

/// Times of one round trip, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct RoundTrip {
    /// The coordinator's monotonic clock when the ping was sent.
    pub sent: u64,
    /// The same when the answer came.
    pub received: u64,
    /// The coordinator's time of day when the answer came.
    pub day: u64,
    /// The agent's monotonic clock in between.
    pub agent_clock: u64,
    /// The agent's time of day in between.
    pub agent_day: u64,
}

impl ClockOffset {
    /// Takes a round trip into account, if it is the shortest. One that is impossible, since it
    /// ends before it begins, is left out.
    pub fn learn(&mut self, trip: &RoundTrip) {
        let Some(length) = trip.received.checked_sub(trip.sent) else { return };
        let uncertainty = length.div_ceil(2);
        self.round_trips += 1;
        if self.round_trips > 1 && uncertainty >= self.uncertainty_ns {
            return;
        }
        let middle = trip.sent + length / 2;
        let day = trip.day.saturating_sub(length / 2);
        self.uncertainty_ns = uncertainty;
        self.offset_ns = difference(trip.agent_clock, middle);
        self.day_offset_ns = difference(trip.agent_day, day);
    }

    /// Converts a time of the coordinator's monotonic clock to the agent's.
    #[must_use]
    pub fn to_agent(&self, time: u64) -> u64 {
        time.saturating_add_signed(self.offset_ns)
    }
}

fn difference(one: u64, other: u64) -> i64 {
    let difference = i128::from(one) - i128::from(other);
    i64::try_from(difference).unwrap_or(if difference < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_trip_counts() {
        // The agent's clock is 1,000,000 ahead; its time of day is 500 behind.
        let trip = |sent: u64, there: u64, back: u64| RoundTrip {
            sent,
            received: sent + there + back,
            day: 2_000_000 + sent + there + back,
            agent_clock: sent + there + 1_000_000,
            agent_day: 2_000_000 + sent + there - 500,
        };
        let mut clock = ClockOffset::default();
        // Asymmetric, so wrong, by less than the uncertainty.
        clock.learn(&trip(0, 900, 100));
        assert_eq!((clock.offset_ns, clock.uncertainty_ns), (1_000_400, 500));
        clock.learn(&trip(5_000, 20, 20));
        assert_eq!((clock.offset_ns, clock.day_offset_ns, clock.uncertainty_ns), (1_000_000, -500, 20));
        clock.learn(&trip(9_000, 50, 70));
        assert_eq!((clock.offset_ns, clock.round_trips), (1_000_000, 3));
        assert_eq!((clock.to_agent(7), ClockOffset { offset_ns: -9, ..clock }.to_agent(7)), (1_000_007, 0));
    }

    #[test]
    fn impossible_times_are_left_out_and_distant_ones_are_cut() {
        let mut clock = ClockOffset::default();
        clock.learn(&RoundTrip { sent: 5, received: 4, ..RoundTrip::default() });
        assert_eq!(clock, ClockOffset::default());
        clock.learn(&RoundTrip { agent_clock: u64::MAX, ..RoundTrip::default() });
        assert_eq!((clock.offset_ns, clock.to_agent(u64::MAX)), (i64::MAX, u64::MAX));
    }
}
