//! What can be chosen of a jail by one word.

use super::resources::ResourceLimits;
use crate::error::named;

/// How much a jail takes away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JailMode {
    /// Nothing but the protections that are set one by one.
    #[default]
    None,
    /// What the kernel gives of [`JailMode::Full`], else of [`JailMode::Light`]; the server says at
    /// its start what is missing.
    Auto,
    /// Users, processes, files and a network of its own, in namespaces, and all of
    /// [`JailMode::Light`]. It needs no privilege where the kernel lets users make namespaces.
    Full,
    /// All that needs no namespace and no privilege: a filter of system calls, Landlock, no new
    /// privileges, no capabilities. Without one of them the server does not start.
    Light,
}

/// Who serves connections in a full jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PrivateUsers {
    /// The user of the server, or the one that it was given.
    Own,
    /// A user for each connection: of root, from 524288 on; of another user, his subordinate ids
    /// (subuid(5)), which newuidmap(1) maps.
    Range,
}

named!(PrivateUsers { Own = "self", Range = "range" });

/// The network of a full jail. The connection itself works in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PrivateNetwork {
    /// Nothing: no other connection can be made.
    Empty,
    /// One for each connection, with 127.0.0.1 and ::1 alone. Its room takes longer to make.
    Loopback,
    /// That of the machine.
    Machine,
}

named!(PrivateNetwork { Empty = "yes", Loopback = "loopback", Machine = "no" });

/// A set of values that fits a kind of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JailProfile {
    /// A service of a capture-the-flag game, with the limits of redpwn/jail: 20 seconds, 5 MiB of
    /// memory, 5 processes, 10 % of a processor.
    Ctf,
}

named!(JailProfile { Ctf = "ctf" });

impl JailProfile {
    pub(super) fn resources(self) -> ResourceLimits {
        match self {
            JailProfile::Ctf => ResourceLimits { memory: Some(5 << 20), tasks: Some(5), cpu: Some(10) },
        }
    }
}

named!(JailMode { None = "none", Auto = "auto", Light = "light", Full = "full" });
