//! Who does what: connections dealt out over processes and addresses.

use std::ops::Range;

/// The connections (numbers from 0) of each process: shares that differ by one at most.
pub fn shares(connections: usize, processes: usize) -> Vec<Range<usize>> {
    let processes = processes.clamp(1, connections.max(1));
    let mut first = 0;
    (0..processes)
        .map(|process| {
            let share = connections / processes + usize::from(process < connections % processes);
            let range = first..first + share;
            first = range.end;
            range
        })
        .collect()
}

/// The address of a connection: each in turn.
pub fn target_of(connection: usize, targets: usize) -> usize {
    connection % targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_dealt_out_once() {
        for (connections, processes) in [(1, 1), (10, 3), (3, 10), (1000, 7), (8, 8)] {
            let shares = shares(connections, processes);
            assert_eq!(shares.len(), processes.min(connections));
            let all: Vec<usize> = shares.iter().cloned().flatten().collect();
            assert_eq!(all, (0..connections).collect::<Vec<_>>());
            let sizes = shares.iter().map(Range::len);
            assert!(sizes.clone().max().expect("some") - sizes.min().expect("some") <= 1);
        }
        assert_eq!([0, 1, 2, 3].map(|connection| target_of(connection, 2)), [0, 1, 0, 1]);
    }
}
