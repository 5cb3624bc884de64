//! The words of each language. The type says what a language must have: none can lack a text.

mod chinese;
mod english;

use std::net::SocketAddrV4;
use std::time::Duration;

use super::language::Language;
use super::screen::{Fact, Step};

/// The words of a language.
pub(super) trait Texts {
    /// The title of a step.
    fn title(&self, step: Step) -> &'static str;
    /// What happens in a step, and why.
    fn explanation(&self, step: Step) -> &'static str;
    /// What was seen.
    fn fact(&self, fact: &Fact) -> String;
    /// Above the commands that show the same.
    fn outside(&self) -> &'static str;
    /// The last line of a step that waits for a key.
    fn waits_for_key(&self) -> &'static str;
    /// The last line of a step that goes on by itself.
    fn waits_for(&self, time: Duration) -> String;
    /// The last line of the last step.
    fn over(&self) -> &'static str;
    /// The items of a list.
    fn list(&self, items: &[String]) -> String;

    /// A list of clients.
    fn clients(&self, clients: &[SocketAddrV4]) -> String {
        self.list(&clients.iter().map(SocketAddrV4::to_string).collect::<Vec<_>>())
    }

    /// A list of sockets.
    fn sockets(&self, inodes: &[u64]) -> String {
        self.list(&inodes.iter().map(|inode| format!("socket:[{inode}]")).collect::<Vec<_>>())
    }
}

/// The words of this language.
pub(super) fn of(language: Language) -> &'static dyn Texts {
    match language {
        Language::English => &english::English,
        Language::Chinese => &chinese::Chinese,
    }
}

/// A duration as an option has it.
fn shown(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}
