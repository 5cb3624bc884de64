//! Which system call is the point that a program could be copied at: its first use of the
//! connection, or its look at a path.

use std::collections::BTreeSet;

use super::call::{Look, NamedCall};

/// A path that a program looks at when it is ready for its client. It need not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    /// The program is ready.
    Ready,
    /// It also renews its own copies of the connection's variables, right after the look.
    RenewsVariables,
}

impl Marker {
    const ALL: [Marker; 2] = [Marker::Ready, Marker::RenewsVariables];

    pub(super) fn path(self) -> &'static str {
        match self {
            Marker::Ready => "/.tine/ready",
            Marker::RenewsVariables => "/.tine/ready/variables",
        }
    }
}

/// A call that accepts a client: accept(2) or accept4(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AcceptCall {
    pub(super) name: &'static str,
    pub(super) listener: i32,
    pub(super) flags: i32,
    /// Where it writes the address of the client, and how long that is: the number of bytes that
    /// there is room for.
    pub(super) address: u64,
    pub(super) length: u64,
    pub(super) room: u32,
}

/// The descriptors of a process that are its connection: 0 and 1, and their duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnectionFds(pub(super) BTreeSet<i32>);

impl ConnectionFds {
    fn has(&self, descriptor: i32) -> bool {
        self.0.contains(&descriptor)
    }

    /// Follows a call that has returned this value.
    pub(super) fn follow(&mut self, call: &NamedCall, result: i64) {
        const DUPLICATE: u64 = 0;
        const DUPLICATE_CLOEXEC: u64 = 1030;
        // Also one that fails has closed its descriptor (close(2)).
        if call.name == "close" {
            self.0.remove(&call.descriptor(0));
        }
        let Ok(result) = i32::try_from(result) else { return };
        if result < 0 {
            return;
        }
        let duplicates = match call.name {
            "dup" | "dup2" | "dup3" => true,
            "fcntl" => matches!(call.arguments[1] & 0xffff_ffff, DUPLICATE | DUPLICATE_CLOEXEC),
            "close_range" => {
                self.close_range(call);
                false
            }
            _ => false,
        };
        match duplicates {
            true if self.has(call.descriptor(0)) => _ = self.0.insert(result),
            true => _ = self.0.remove(&result),
            false => {}
        }
    }

    fn close_range(&mut self, call: &NamedCall) {
        const ONLY_ON_EXECUTION: u64 = 4;
        let [first, last, flags] = [0, 1, 2].map(|at| call.arguments[at] & 0xffff_ffff);
        if flags & ONLY_ON_EXECUTION == 0 {
            self.0.retain(|number| !(first..=last).contains(&u64::from(number.unsigned_abs())));
        }
    }

    /// The call by which a program accepts a client of its listener, if it is one: these are the
    /// descriptors of that.
    pub(super) fn accepted_by(&self, call: &NamedCall, look: &dyn Look) -> Option<AcceptCall> {
        let flags = match call.name {
            "accept" => 0,
            "accept4" => call.descriptor(3),
            _ => return None,
        };
        let listener = Some(call.descriptor(0)).filter(|number| self.has(*number))?;
        let [address, length] = [call.arguments[1], call.arguments[2]];
        let is_asked = address != 0 && length != 0;
        let room = is_asked.then(|| look.word(length)).flatten().map_or(0, |word| word as u32);
        Some(AcceptCall { name: call.name, listener, flags, address, length, room })
    }

    /// The descriptor of the connection that a call uses, if it does: it would read or write, wait
    /// for either, or ask for or change what belongs to this very socket.
    ///
    /// Not uses are fstat(2), isatty(3) and duplicates: interpreters do them long before they are
    /// ready, and they have the same result for every connection.
    pub(super) fn used_by(&self, call: &NamedCall, look: &dyn Look) -> Option<i32> {
        let one = |at: usize| Some(call.descriptor(at)).filter(|number| self.has(*number));
        match call.name {
            "read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg" | "write" | "writev" | "sendto"
            | "sendmsg" | "sendmmsg" | "shutdown" | "getpeername" | "getsockname" | "getsockopt"
            | "setsockopt" | "accept" | "accept4" | "bind" | "connect" | "listen" | "vmsplice" => one(0),
            "sendfile" | "tee" => one(0).or_else(|| one(1)),
            "splice" | "copy_file_range" => one(0).or_else(|| one(2)),
            "poll" | "ppoll" => self.polled(call, look),
            "select" | "pselect6" => self.selected(call, look),
            "epoll_ctl" => one(2).filter(|_| call.arguments[1] == ADD_TO_EPOLL),
            "ioctl" => one(0).filter(|_| FLAGS_BY_IOCTL.contains(&(call.arguments[1] as u32))),
            "fcntl" => one(0).filter(|_| FLAGS_BY_FCNTL.contains(&(call.arguments[1] as u32))),
            // What it submits is not looked at: it may be a use.
            "io_uring_enter" => self.0.first().copied(),
            _ => None,
        }
    }

    /// One of the array of poll(2): an `int` and two `short`.
    fn polled(&self, call: &NamedCall, look: &dyn Look) -> Option<i32> {
        let count = usize::try_from(call.arguments[1] & 0xffff_ffff).ok()?.min(MOST_DESCRIPTORS);
        let array = look.read(call.arguments[0], count * 8)?;
        array.chunks_exact(8).find_map(|entry| {
            let number = i32::from_ne_bytes(entry[..4].try_into().ok()?);
            let events = u16::from_ne_bytes(entry[4..6].try_into().ok()?);
            (events != 0 && self.has(number)).then_some(number)
        })
    }

    /// One of the three sets of select(2), which are words of bits.
    fn selected(&self, call: &NamedCall, look: &dyn Look) -> Option<i32> {
        let highest = call.descriptor(0);
        let is_in = |set: u64, number: i32| {
            let number = u64::from(number.unsigned_abs());
            set != 0 && look.word(set + number / 64 * 8).is_some_and(|word| word >> (number % 64) & 1 == 1)
        };
        let mut below = self.0.iter().copied().filter(|number| *number < highest);
        below.find(|number| call.arguments[1..4].iter().any(|set| is_in(*set, *number)))
    }
}

/// `EPOLL_CTL_ADD`: a registration belongs to the socket, not to its number.
const ADD_TO_EPOLL: u64 = 1;

/// `FIONREAD`, `FIONBIO` and `FIOASYNC`: the bytes that have arrived, and flags that belong to the
/// socket.
const FLAGS_BY_IOCTL: [u32; 3] = [0x541B, 0x5421, 0x5452];

/// `F_SETFL`, `F_SETOWN`, `F_SETSIG` and `F_SETOWN_EX`: flags that belong to the socket.
const FLAGS_BY_FCNTL: [u32; 4] = [4, 8, 10, 15];

/// More descriptors of one poll(2) than a program has that serves one connection.
const MOST_DESCRIPTORS: usize = 4096;

/// The path of a [`Marker`] that a call looks at.
pub(super) fn marker_looked_at(call: &NamedCall, look: &dyn Look) -> Option<Marker> {
    let path = match call.name {
        "access" | "stat" | "lstat" | "open" => call.arguments[0],
        "faccessat" | "faccessat2" | "newfstatat" | "fstatat" | "statx" | "openat" | "openat2" => {
            call.arguments[1]
        }
        _ => return None,
    };
    let text = if path == 0 { None } else { look.text(path) }?;
    Marker::ALL.into_iter().find(|marker| text == marker.path().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::call::fake::{FakeTask, call};
    use super::*;

    fn fds(numbers: &[i32]) -> ConnectionFds {
        ConnectionFds(numbers.iter().copied().collect())
    }

    #[test]
    fn duplicates_of_the_connection_are_followed() {
        const CLOSE_LATER: u64 = 4;
        for (name, arguments, result, expected) in [
            ("dup", &[0][..], 3, &[0, 1, 3][..]),
            ("dup", &[2], 3, &[0, 1]),
            ("dup", &[0], -24, &[0, 1]),
            ("dup2", &[1, 9], 9, &[0, 1, 9]),
            ("dup2", &[5, 0], 0, &[1]),
            ("dup3", &[5, 1, 0], 1, &[0]),
            ("dup2", &[0, 0], 0, &[0, 1]),
            ("fcntl", &[0, 0, 10], 10, &[0, 1, 10]),
            ("fcntl", &[1, 1030, 10], 11, &[0, 1, 11]),
            ("fcntl", &[1, 3], 2, &[0, 1]),
            ("close", &[0], 0, &[1]),
            ("close", &[0], -4, &[1]),
            ("close", &[7], 0, &[0, 1]),
            ("close_range", &[1, 0xffff_ffff, 0], 0, &[0]),
            ("close_range", &[0, 0xffff_ffff, CLOSE_LATER], 0, &[0, 1]),
            ("close_range", &[0, 0, 0], -22, &[0, 1]),
            ("read", &[0], 5, &[0, 1]),
        ] {
            let mut followed = fds(&[0, 1]);
            followed.follow(&call(name, arguments), result);
            assert_eq!(followed, fds(expected), "{name} {arguments:?} {result}");
        }
    }

    #[test]
    fn first_uses_of_the_connection() {
        for (name, arguments, expected) in [
            ("read", &[0][..], Some(0)),
            ("read", &[3], None),
            ("read", &[0xffff_ffff], None),
            ("readv", &[7], Some(7)),
            ("recvfrom", &[0], Some(0)),
            ("write", &[1], Some(1)),
            ("write", &[2], None),
            ("sendmsg", &[1], Some(1)),
            ("shutdown", &[7], Some(7)),
            ("getpeername", &[0], Some(0)),
            ("getsockopt", &[3], None),
            ("setsockopt", &[0], Some(0)),
            ("fstat", &[0], None),
            ("lseek", &[0], None),
            ("dup", &[0], None),
            ("ioctl", &[0, 0x5401], None),
            ("ioctl", &[0, 0x541B], Some(0)),
            ("ioctl", &[1, 0x5421], Some(1)),
            ("fcntl", &[0, 3], None),
            ("fcntl", &[0, 4, 2048], Some(0)),
            ("epoll_ctl", &[5, 1, 0], Some(0)),
            ("epoll_ctl", &[5, 2, 0], None),
            ("epoll_ctl", &[5, 1, 6], None),
            ("sendfile", &[1, 5], Some(1)),
            ("sendfile", &[5, 0], Some(0)),
            ("sendfile", &[5, 6], None),
            ("splice", &[5, 0, 1], Some(1)),
            ("splice", &[7, 0, 5], Some(7)),
            ("copy_file_range", &[5, 0, 6], None),
            ("tee", &[5, 0], Some(0)),
            ("io_uring_enter", &[5, 1], Some(0)),
            ("", &[0], None),
        ] {
            let used = fds(&[0, 1, 7]).used_by(&call(name, arguments), &FakeTask::default());
            assert_eq!(used, expected, "{name} {arguments:?}");
        }
        assert_eq!(fds(&[]).used_by(&call("io_uring_enter", &[5, 1]), &FakeTask::default()), None);
    }

    #[test]
    fn waiting_for_the_connection_is_a_use() {
        let entry = |number: i32, events: u16| {
            [&number.to_ne_bytes()[..], &events.to_ne_bytes(), &0_u16.to_ne_bytes()].concat()
        };
        let array = [entry(-1, 1), entry(5, 1), entry(0, 0), entry(1, 4)].concat();
        let sets = [1_u64 << 5, 1 << 3].map(u64::to_ne_bytes).concat();
        let task = FakeTask { memory: vec![(4096, array), (8192, sets)], ..FakeTask::default() };
        for (name, arguments, expected) in [
            ("poll", &[4096, 4][..], Some(1)),
            ("ppoll", &[4096, 3], None),
            ("poll", &[4096, 5], None),
            ("poll", &[0, 0], None),
            ("select", &[68, 0, 8192, 0], Some(67)),
            ("select", &[67, 8192, 8192, 8192], None),
            ("pselect6", &[68, 0, 0, 8192], Some(67)),
            ("select", &[68, 0, 0, 0], None),
        ] {
            let used = fds(&[0, 1, 67]).used_by(&call(name, arguments), &task);
            assert_eq!(used, expected, "{name} {arguments:?}");
        }
    }

    #[test]
    fn looks_at_a_marker() {
        let text = |address, path: &str| (address, format!("{path}\0").into_bytes());
        let others = ["/.tine/ready.d", "/.tine/ready/", "/.tine/ready/variables/a"];
        let mut memory = vec![text(4096, "/.tine/ready"), text(6144, "/.tine/ready/variables")];
        memory.extend((0..).map(|number| 8192 + number * 64).zip(others).map(|(at, path)| text(at, path)));
        let task = FakeTask { memory, ..FakeTask::default() };
        for (name, arguments, expected) in [
            ("access", &[4096][..], Some(Marker::Ready)),
            ("stat", &[4096], Some(Marker::Ready)),
            ("open", &[4096], Some(Marker::Ready)),
            ("newfstatat", &[0xffff_ff9c, 4096], Some(Marker::Ready)),
            ("faccessat2", &[0xffff_ff9c, 4096], Some(Marker::Ready)),
            ("statx", &[0xffff_ff9c, 4096], Some(Marker::Ready)),
            ("openat", &[0xffff_ff9c, 4096], Some(Marker::Ready)),
            ("openat", &[0xffff_ff9c, 8192], None),
            ("openat", &[0xffff_ff9c, 8192 + 64], None),
            ("openat", &[0xffff_ff9c, 8192 + 128], None),
            ("stat", &[6144], Some(Marker::RenewsVariables)),
            ("faccessat", &[0xffff_ff9c, 6144], Some(Marker::RenewsVariables)),
            ("statx", &[3, 0], None),
            ("unlink", &[4096], None),
            ("access", &[77], None),
        ] {
            assert_eq!(marker_looked_at(&call(name, arguments), &task), expected, "{name} {arguments:?}");
        }
    }
}
