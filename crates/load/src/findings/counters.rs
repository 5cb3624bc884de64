//! Counters of the kernel. Their growth over a run shows whether the kernel did the work that was
//! requested.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The network counters of a report, by the names of `/proc/net/netstat` and `/proc/net/snmp`.
const NETWORK: [(&str, &str); 8] = [
    ("TcpExt", "TCPTimeWaitOverflow"),
    ("TcpExt", "ListenOverflows"),
    ("TcpExt", "ListenDrops"),
    ("TcpExt", "TCPReqQFullDoCookies"),
    ("TcpExt", "TW"),
    ("Tcp", "RetransSegs"),
    ("Tcp", "AttemptFails"),
    ("Tcp", "EstabResets"),
];

/// Counters of this network namespace and of this machine: their values, or their growth.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Network counters, by the kernel's names.
    pub network: BTreeMap<String, u64>,
    /// Processor time of the whole machine, in clock ticks.
    pub processor: Ticks,
}

/// Processor time in clock ticks (proc_stat(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticks {
    /// All processors together, idle time included.
    pub total: u64,
    /// Time in use.
    pub busy: u64,
    /// Time taken by other machines on the same hardware.
    pub steal: u64,
}

impl Counters {
    /// Reads the present values. Counters that the kernel does not have are left out.
    #[must_use]
    pub fn read() -> Counters {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let mut network = BTreeMap::new();
        for file in ["/proc/self/net/netstat", "/proc/self/net/snmp"] {
            network.append(&mut parse_network(&text(file)));
        }
        Counters { network, processor: parse_processor(&text("/proc/stat")) }
    }

    /// Computes the growth since `before`.
    #[must_use]
    pub fn since(&self, before: &Counters) -> Counters {
        let grown = |(name, value): (&String, &u64)| {
            (name.clone(), value.saturating_sub(before.network.get(name).copied().unwrap_or(0)))
        };
        let (now, then) = (self.processor, before.processor);
        Counters {
            network: self.network.iter().map(grown).collect(),
            processor: Ticks {
                total: now.total.saturating_sub(then.total),
                busy: now.busy.saturating_sub(then.busy),
                steal: now.steal.saturating_sub(then.steal),
            },
        }
    }

    /// Returns a network counter; 0 if there is none of that name.
    #[must_use]
    pub fn of(&self, name: &str) -> u64 {
        self.network.get(name).copied().unwrap_or(0)
    }

    /// Adds the counters of another machine.
    pub fn merge(&mut self, other: &Counters) {
        for (name, value) in &other.network {
            *self.network.entry(name.clone()).or_default() += value;
        }
        self.processor.total += other.processor.total;
        self.processor.busy += other.processor.busy;
        self.processor.steal += other.processor.steal;
    }
}

/// Returns the memory available without swapping, in KiB (proc_meminfo(5)); 0 if unknown.
#[must_use]
pub fn available_memory() -> u64 {
    parse_meminfo(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

/// Parses `MemAvailable:   123 kB`.
fn parse_meminfo(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Returns the number of sockets of this network namespace in TIME_WAIT.
#[must_use]
pub fn time_wait_sockets() -> u64 {
    parse_sockstat(&std::fs::read_to_string("/proc/self/net/sockstat").unwrap_or_default())
}

/// Parses `TCP: inuse 5 orphan 0 tw 12 …`.
fn parse_sockstat(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let fields: Vec<&str> = line.split_whitespace().collect();
    let found = fields.chunks_exact(2).find(|pair| pair[0] == "tw");
    found.and_then(|pair| pair[1].parse().ok()).unwrap_or(0)
}

/// Parses pairs of lines: names, then values.
fn parse_network(text: &str) -> BTreeMap<String, u64> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = BTreeMap::new();
    for pair in lines.chunks_exact(2) {
        let (names, values) = (pair[0].split_whitespace(), pair[1].split_whitespace());
        let group = pair[0].split(':').next().unwrap_or_default();
        for (name, value) in names.zip(values).skip(1) {
            if NETWORK.contains(&(group, name)) {
                found.insert(name.to_owned(), value.parse().unwrap_or(0));
            }
        }
    }
    found
}

/// Parses the first line: user nice system idle iowait irq softirq steal, and guest times, which
/// the user time includes.
fn parse_processor(text: &str) -> Ticks {
    let line = text.lines().next().unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let of = |at: usize| fields.get(at).copied().unwrap_or(0);
    let total = (0..8).map(of).sum();
    Ticks { total, busy: total - of(3) - of(4) - of(7), steal: of(7) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_of_the_kernel_are_parsed() {
        let text = "TcpExt: SyncookiesSent TW ListenDrops\nTcpExt: 1 22 3\nIpExt: TW InOctets\nIpExt: 9 8\n";
        let network = parse_network(text);
        assert_eq!(network, BTreeMap::from([("TW".to_owned(), 22), ("ListenDrops".to_owned(), 3)]));
        let ticks = parse_processor("cpu  10 1 20 100 5 2 3 4 7 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n");
        assert_eq!(ticks, Ticks { total: 145, busy: 36, steal: 4 });
        assert_eq!(parse_processor(""), Ticks::default());
        let text = "sockets: used 9\nTCP: inuse 5 orphan 0 tw 12 alloc 7 mem 1\nUDP: inuse 2 mem 0\n";
        assert_eq!((parse_meminfo("MemFree: 1 kB\nMemAvailable:  23 kB\n"), parse_meminfo("")), (23, 0));
        assert_eq!((parse_sockstat(text), parse_sockstat("")), (12, 0));
    }

    #[test]
    fn this_kernel_has_all_counters() {
        let now = Counters::read();
        assert_eq!(now.network.len(), NETWORK.len());
        assert!(now.processor.total > 0);
        let grown = now.since(&now);
        assert_eq!((grown.of("TW"), grown.of("nothing"), grown.processor), (0, 0, Ticks::default()));
    }
}
