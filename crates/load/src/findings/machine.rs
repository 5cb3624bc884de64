//! The machine of the client: the facts that figures depend on.

use serde::{Deserialize, Serialize};

/// Facts about a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Release of the kernel.
    pub kernel: String,
    /// Number of processors that this process may use.
    pub processors: u64,
    /// Unit of the kernel's processor times.
    pub ticks_per_second: u64,
    /// Settings of the kernel, by path below `/proc/sys/net`.
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
    /// Returns the number of ports that the kernel chooses from for a connection: 28,232 (ip(7)) if
    /// the setting is unknown.
    #[must_use]
    pub fn ports(&self) -> u64 {
        let range = self.settings.get("ipv4/ip_local_port_range").map_or("", String::as_str);
        let numbers: Vec<u64> = range.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        match numbers.as_slice() {
            [low, high] if low <= high => high - low + 1,
            _ => 28_232,
        }
    }

    /// Returns the maximum number of sockets in TIME_WAIT (tcp(7)): the ports of two addresses if
    /// the setting is unknown.
    #[must_use]
    pub fn max_time_wait(&self) -> u64 {
        let most = self.settings.get("ipv4/tcp_max_tw_buckets").and_then(|number| number.parse().ok());
        most.unwrap_or(2 * self.ports())
    }

    /// Describes this machine. Settings that the kernel does not have are left out.
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
