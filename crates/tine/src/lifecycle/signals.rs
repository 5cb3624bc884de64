//! The table of the supervisor's signals: what each asks for.

use rustix::process::Signal;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Drain; a second time, end the connections; a third time, kill.
    Stop,
    /// Read the configuration again.
    Reload,
    /// Replace the binary.
    Upgrade,
    /// An orphan that was adopted has ended.
    Orphan,
}

/// Signal, command. ARCHITECTURE.md has the same table.
pub(crate) const TABLE: [(Signal, Command); 5] = [
    (Signal::TERM, Command::Stop),
    (Signal::INT, Command::Stop),
    (Signal::HUP, Command::Reload),
    (Signal::USR2, Command::Upgrade),
    (Signal::CHILD, Command::Orphan),
];

/// The command of a signal.
pub(crate) fn command(number: i32) -> Option<Command> {
    TABLE.iter().find(|(signal, _)| signal.as_raw() == number).map(|(_, command)| *command)
}

/// The numbers of the table.
pub(crate) fn numbers() -> Vec<i32> {
    TABLE.iter().map(|(signal, _)| signal.as_raw()).collect()
}
