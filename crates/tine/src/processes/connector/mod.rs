//! The connector: with `--network-allow`, it connects in place of processes in full jails, which
//! have no network of their own.
//!
//! A filter in the forkers makes each call of connect(2) in a jail wait for it
//! (seccomp_unotify(2)). It reads the address, and if that is allowed, connects a socket of its
//! own, which it puts in the place of the caller's.
//!
//! What a caller has in its memory, and which socket a number of it stands for, can change between
//! a look at it and the kernel's own. So the kernel goes on with calls only where the network of
//! the jail decides; an address that is checked is connected to from here. A socket that is passed
//! into a jail receives packets of its peer only, whatever becomes of it.

mod attempt;
mod caller;
mod decide;
mod pending;
pub(crate) mod run;

/// Calls that wait for their connection at a time.
pub(crate) const MAX_PENDING: usize = 1024;

/// Places in the table of unanswered calls: one for the call in hand.
pub(crate) const UNANSWERED_PLACES: usize = MAX_PENDING + 1;
