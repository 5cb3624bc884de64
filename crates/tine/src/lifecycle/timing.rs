//! Every time that a stop, or the end of a connection, takes at most: one table, so that the sums
//! hold.
//!
//! The drain timeout comes before these and is an option; intervals of a single algorithm stand
//! beside the algorithm.

use std::time::Duration;

/// Time from TERM to KILL, for a connection, its descendants and the connections of a stop: long
/// enough for a program to remove its temporary files.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(2);

/// Time to wait for killed processes. A process in an uninterruptible sleep cannot die, and must
/// not keep the server from stopping.
pub(crate) const KILL_WAIT: Duration = Duration::from_secs(5);

/// Time from the end of the drain timeout to the exit of a supervisor, at most; then the master
/// kills it. Two seconds more than TERM and KILL take, for the work between them.
pub(crate) const STOP_WITHIN: Duration =
    KILL_AFTER.saturating_add(KILL_WAIT).saturating_add(Duration::from_secs(2));

/// Time that a program has to exit by itself after its client disconnected: most programs notice at
/// their next read or write.
pub(crate) const CLIENT_GONE_GRACE: Duration = Duration::from_secs(5);

/// Time that a connection discards input after its FIN. Closing a socket with unread input, or
/// before the client closed, sends a reset, which can destroy the last bytes of the answer (RFC
/// 1122, 4.2.2.13).
pub(crate) const CLOSE_LINGER: Duration = Duration::from_secs(2);

/// Time that a rejected client has to read its text and close. More than [`CLOSE_LINGER`]: one
/// process waits for all of them, so that waiting costs no slot.
pub(crate) const REJECT_LINGER: Duration = Duration::from_secs(5);

/// Time that a drain waits for the clients that forkers and spares are passing to a helper. That
/// takes microseconds; a forker that was killed meanwhile must not hold up the drain.
pub(crate) const LAST_CLIENTS_WAIT: Duration = Duration::from_millis(200);

/// Time after which a process looks again for a place (`Server::exit_after`) where all are taken:
/// those that are not used are returned within microseconds, and once all are used the server
/// drains.
pub(crate) const PLACE_WAIT: Duration = Duration::from_millis(5);

/// Interval of the checks whether descendants that got TERM have exited: they are no children of
/// the supervisor, so no signal reports their exit.
pub(crate) const DESCENDANTS_POLL: Duration = Duration::from_millis(25);

/// Exits of children are collected for this long before they are reaped, while no client waits for
/// a slot: it saves context switches, about a twentieth of the accept rate.
pub(crate) const REAP_BATCH: Duration = Duration::from_millis(2);
