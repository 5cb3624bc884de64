//! The signals that the master and the supervisors handle, one table. The exits of their children
//! come as a real-time signal beside it. All other processes have every signal at its default.

use rustix::process::Signal;
use tine_sys::signal::Set;

use crate::lifecycle::outcome::signal_name;

/// What a signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Drain; at the second signal end the connections, at the third kill them.
    Stop,
    /// End the connections; at the second signal kill them.
    End,
    /// Reload the access rules, and open the log file again.
    Reload,
    /// Replace the server by the next generation; nothing but a warning where it cannot be.
    Upgrade,
    /// Nothing but a warning in the log.
    Unsupported,
    /// Reap a program or an orphan that has exited.
    Reap,
}

/// Signal, command, effect. ARCHITECTURE.md has a row for each signal.
///
/// Those that are ignored would end a process by default, and are sent by habit: USR1 by logrotate
/// and the like, ALRM, VTALRM, PROF and IO by a mistyped number. PWR is what LXC stops a container
/// with (lxc.container.conf(5), `lxc.signal.halt`).
const TABLE: [(Signal, Command, &str); 12] = [
    (Signal::TERM, Command::Stop, DRAIN),
    (Signal::INT, Command::Stop, DRAIN),
    (Signal::POWER, Command::Stop, DRAIN),
    (Signal::QUIT, Command::End, "TERM to the connections, KILL after 2 s; second signal: KILL"),
    (Signal::HUP, Command::Reload, "reload the files of access rules, open the log file again"),
    (Signal::USR1, Command::Unsupported, "nothing is changed; HUP opens a log file again"),
    (Signal::USR2, Command::Upgrade, "this server cannot be replaced; nothing is changed"),
    (Signal::ALARM, Command::Unsupported, IGNORED),
    (Signal::VTALARM, Command::Unsupported, IGNORED),
    (Signal::PROF, Command::Unsupported, IGNORED),
    (Signal::IO, Command::Unsupported, IGNORED),
    (Signal::CHILD, Command::Reap, "reap a program or an orphan"),
];

const DRAIN: &str = "drain; second signal: TERM to the connections, KILL after 2 s; third signal: KILL";

const IGNORED: &str = "nothing is changed";

/// The command of a signal.
pub(crate) fn command(number: i32) -> Option<Command> {
    TABLE.iter().find(|(signal, ..)| signal.as_raw() == number).map(|(_, command, _)| *command)
}

/// Whether a signal is one that all generations of a server get.
pub(crate) fn concerns_all(number: i32) -> bool {
    matches!(command(number), Some(Command::Stop | Command::End | Command::Reload))
}

/// The signals that stop a server which is not ready yet.
pub(crate) fn stops() -> Set {
    let stops = |command| matches!(command, Command::Stop | Command::End);
    let rows = TABLE.iter().filter(|(_, command, _)| stops(*command));
    Set::of(&rows.map(|(signal, ..)| signal.as_raw()).collect::<Vec<i32>>())
}

/// Gives the program that has called the server its signal mask back. Another request to stop may
/// be pending: it would end the program, and is taken first.
pub(crate) fn restore_mask(original: &Set) {
    while stops().take().is_some() {}
    // The mask was valid, so this cannot fail.
    let _ = original.make_mask();
}

/// The warning about a signal that is not supported.
pub(crate) fn warning(number: i32) -> String {
    let effect = TABLE.iter().find(|(signal, ..)| signal.as_raw() == number).map_or("ignored", |row| row.2);
    format!("SIG{}: {effect}", signal_name(number))
}

/// The numbers of the signals of the table.
pub(crate) fn numbers() -> Vec<i32> {
    TABLE.iter().map(|(signal, ..)| signal.as_raw()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The first cells of the table under "## Signals".
    fn documented() -> Vec<&'static str> {
        const ARCHITECTURE: &str = include_str!("../../../../ARCHITECTURE.md");
        let (_, section) = ARCHITECTURE.split_once("\n## Signals\n").expect("a section about signals");
        let section = section.split("\n## ").next().expect("text");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
        rows.filter(|cell| *cell != "signal" && !cell.starts_with("---")).collect()
    }

    #[test]
    fn architecture_has_a_row_for_each_signal_and_no_other() {
        let (names, others): (Vec<&str>, Vec<&str>) = documented()
            .iter()
            .flat_map(|cell| cell.split(", "))
            .partition(|name| name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()));
        let known: BTreeSet<String> = numbers().into_iter().map(signal_name).collect();
        assert_eq!(names.len(), TABLE.len(), "{names:?}");
        assert_eq!(names.into_iter().map(str::to_owned).collect::<BTreeSet<String>>(), known);
        assert_eq!(others, ["a real-time signal"]);
    }

    #[test]
    fn unsupported_signals_warn() {
        let text = warning(Signal::USR2.as_raw());
        assert_eq!(text, "SIGUSR2: this server cannot be replaced; nothing is changed");
        assert_eq!(command(Signal::USR1.as_raw()), Some(Command::Unsupported));
        assert_eq!(command(Signal::WINCH.as_raw()), None);
    }
}
