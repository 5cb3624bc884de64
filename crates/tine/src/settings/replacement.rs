//! How a server is replaced while it runs: by the next generation, which is executed with the same
//! arguments.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use crate::ipc::handover::takeover::Takeover;

/// Time that the next generation has until it accepts clients.
pub const UPGRADE_TIMEOUT: Duration = Duration::from_secs(20);

/// What a server needs to be replaced: the command that has started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The name that the command was called by, and its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// The file that the server was started from.
    pub(crate) executable: PathBuf,
    /// What identifies the text of its configuration.
    pub(crate) configuration: Option<u64>,
    pub(crate) timeout: Duration,
}

impl Replacement {
    /// A server that this command has started.
    #[must_use]
    pub fn by(arguments: impl IntoIterator<Item = OsString>) -> Replacement {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        // Without /proc, the name that the command was called by is the next best.
        let called = || arguments.first().map(PathBuf::from).unwrap_or_default();
        Replacement {
            executable: std::fs::read_link("/proc/self/exe").unwrap_or_else(|_| called()),
            arguments,
            configuration: None,
            timeout: UPGRADE_TIMEOUT,
        }
    }

    /// Sets the text of the configuration: a reload of the same text changes nothing.
    #[must_use]
    pub fn configuration(self, text: &str) -> Replacement {
        // Compared only by the same binary, so the kind of the hash does not matter.
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        Replacement { configuration: Some(hasher.finish()), ..self }
    }

    /// Whether the takeover is a reload that would change nothing. Then it is reported to the
    /// server that this process was to replace, and the process has to exit.
    #[must_use]
    pub fn is_unchanged(&self, takeover: &Takeover) -> bool {
        takeover.is_unchanged(self.configuration)
    }

    /// Sets the time that the next generation has until it accepts clients. Default: 20 s.
    #[must_use]
    pub fn timeout(self, timeout: Duration) -> Replacement {
        Replacement { timeout, ..self }
    }
}
