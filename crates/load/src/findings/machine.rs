//! Where a load ran: what of a machine decides about figures.

use serde::{Deserialize, Serialize};

/// Facts about a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// Processors that may be used.
    pub processors: u64,
    /// What the kernel counts processor time in.
    pub ticks_per_second: u64,
    /// Settings of the kernel, by their path below `/proc/sys/net`.
    pub settings: std::collections::BTreeMap<String, String>,
}

const SETTINGS: [&str; 5] = [
    "ipv4/ip_local_port_range",
    "ipv4/tcp_tw_reuse",
    "ipv4/tcp_max_tw_buckets",
    "ipv4/tcp_syncookies",
    "core/somaxconn",
];

impl Machine {
    /// Ports that the kernel chooses from for a connection, 28,232 where it does not tell (ip(7)).
    #[must_use]
    pub fn ports(&self) -> u64 {
        let range = self.settings.get("ipv4/ip_local_port_range").map_or("", String::as_str);
        let numbers: Vec<u64> = range.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        match numbers.as_slice() {
            [low, high] if low <= high => high - low + 1,
            _ => 28_232,
        }
    }

    /// Sockets that the kernel keeps in TIME_WAIT at a time, as many as have ports of two addresses where it does not
    /// tell (tcp(7)).
    #[must_use]
    pub fn most_in_time_wait(&self) -> u64 {
        let most = self.settings.get("ipv4/tcp_max_tw_buckets").and_then(|number| number.parse().ok());
        most.unwrap_or(2 * self.ports())
    }

    /// This one. What the kernel does not tell is left out.
    #[must_use]
    pub fn this() -> Machine {
        let setting = |name: &&str| {
            let text = std::fs::read_to_string(format!("/proc/sys/net/{name}")).ok()?;
            Some(((*name).to_owned(), text.split_whitespace().collect::<Vec<_>>().join(" ")))
        };
        let uname = rustix::system::uname();
        Machine {
            kernel: uname.release().to_string_lossy().into_owned(),
            processors: std::thread::available_parallelism().map_or(1, |number| number.get() as u64),
            ticks_per_second: rustix::param::clock_ticks_per_second(),
            settings: SETTINGS.iter().filter_map(setting).collect(),
        }
    }
}
