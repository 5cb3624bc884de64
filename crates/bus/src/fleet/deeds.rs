//! What a link does on the bus.

use tine::cli::BanRecord;

/// A deed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BusDeed {
    Publish {
        subject: String,
        reply: Option<String>,
        /// Of a put: the revision that it is to replace.
        revision: Option<u64>,
        text: Vec<u8>,
    },
    /// Listens to an inbox, and to that of an earlier watch no more.
    Watch { generation: u64, inbox: String },
}

impl BusDeed {
    /// Sends a message that has no answer.
    pub(super) fn publish(subject: String, text: Vec<u8>) -> BusDeed {
        BusDeed::Publish { subject, reply: None, revision: None, text }
    }
}

/// What is to be done, or told, after something of the bucket.
#[derive(Debug, Default)]
pub(super) struct BusOutcome {
    pub(super) deeds: Vec<BusDeed>,
    /// Bans that are new to the service.
    pub(super) news: Vec<BanRecord>,
    /// What an operator is to know: what about, and the text.
    pub(super) complaints: Vec<(&'static str, String)>,
}
