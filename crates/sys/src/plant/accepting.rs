//! What a copy does whose program was about to accept a connection: the call returns that of the
//! copy, and the next one ends it.
//!
//! A filter of system calls has the kernel send SIGSYS for the next call (seccomp(2),
//! `SECCOMP_RET_TRAP`), and the planted code handles it. The thread ends if there are others, and,
//! once it has closed its connection and its children have ended, the process. Until then the call
//! has no client yet (EAGAIN), when the connection has input or a moment has passed: a program that
//! waits for all in one place goes on with its client.

use super::layout;
use super::steps::{CopySteps, word};

/// How a copy goes on with its connection, in the place of its program's call of accept(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepting {
    /// The connection, as the copy has received it.
    pub received: i32,
    /// The number that the call returns.
    pub number: i32,
    /// `SOCK_CLOEXEC` and `SOCK_NONBLOCK` of accept4(2).
    pub flags: i32,
    /// The listeners of the program.
    pub listeners: Vec<i32>,
}

impl CopySteps {
    /// Has these descriptors, with whether they are closed on an execution, be a socket that is
    /// always ready, in the place of a listener.
    pub fn replace_listener(&mut self, listeners: impl Iterator<Item = (i32, bool)>) {
        let pair = self.put(&[0; 8]);
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
        let [ready, other] = [self.receive(), self.receive()];
        self.call(libc::SYS_socketpair, &[word(libc::AF_UNIX), word(kind), 0, pair], 0);
        self.close(other);
        listeners.for_each(|(number, closes_on_exec)| self.duplicate(ready, number, closes_on_exec));
        self.close(ready);
    }

    /// Has it go on with a connection that it has received, when all else is done.
    pub fn accept_last(&mut self, accepting: Accepting) {
        self.accepting = Some(accepting);
    }

    /// Has the next call for a client end it. `code`: the address of the planted code.
    pub(super) fn end_at_next_accept(&mut self, code: u64) {
        let Some(Accepting { number, listeners, .. }) = self.accepting.clone() else { return };
        self.write(self.data() + layout::CONNECTION as u64, &number.to_ne_bytes());
        let action = layout::trap_action(code);
        let action = self.put(&action.map(u64::to_ne_bytes).concat());
        self.call(libc::SYS_rt_sigaction, &[word(libc::SIGSYS), action, 0, 8], 0);
        // Of a few listeners, it is always short.
        let _ = self.add_filter(&trapping(&listeners));
    }

    /// Gives the connection the number that the call returns. It is that of a descriptor of the
    /// template, which is closed by then.
    pub(super) fn take_accepted(&mut self) {
        let Some(Accepting { received, number, flags, .. }) = self.accepting.take() else { return };
        self.duplicate(received, number, flags & libc::SOCK_CLOEXEC != 0);
        self.close(received);
        if flags & libc::SOCK_NONBLOCK != 0 {
            let flags = word(libc::O_RDWR | libc::O_NONBLOCK);
            self.call(libc::SYS_fcntl, &[word(number), word(libc::F_SETFL), flags], 0);
        }
    }
}

/// A filter that traps the calls that accept a client of these descriptors, and no others.
fn trapping(listeners: &[i32]) -> Vec<u64> {
    const LOAD: u16 = 0x20;
    const IS_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const TRAP: u32 = 0x0003_0000;
    // Of `struct seccomp_data`: the number of the call, and the lower half of its first argument.
    const NUMBER: u32 = 0;
    const DESCRIPTOR: u32 = 16;
    let instruction = |code: u16, yes: usize, no: usize, value: u32| {
        let [a, b] = code.to_ne_bytes();
        let [c, d, e, f] = value.to_ne_bytes();
        // Both skip at most two instructions and the listeners.
        u64::from_ne_bytes([a, b, yes as u8, no as u8, c, d, e, f])
    };
    let listeners = &listeners[..listeners.len().min(MOST_LISTENERS)];
    let count = listeners.len();
    let mut all = vec![
        instruction(LOAD, 0, 0, NUMBER),
        instruction(IS_EQUAL, 1, 0, libc::SYS_accept as u32),
        instruction(IS_EQUAL, 0, count + 1, libc::SYS_accept4 as u32),
        instruction(LOAD, 0, 0, DESCRIPTOR),
    ];
    let of_listener =
        |(at, number): (usize, &i32)| instruction(IS_EQUAL, count - at, 0, number.cast_unsigned());
    all.extend(listeners.iter().enumerate().map(of_listener));
    all.extend([instruction(RETURN, 0, 0, ALLOW), instruction(RETURN, 0, 0, TRAP)]);
    all
}

/// A program has its listener at one or two numbers.
const MOST_LISTENERS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel does with a call, by the filter.
    fn verdict(filter: &[u64], number: libc::c_long, descriptor: i32) -> u32 {
        let (mut at, mut loaded) = (0, 0);
        loop {
            let bytes = filter[at].to_ne_bytes();
            let value = u32::from_ne_bytes(bytes[4..].try_into().expect("4"));
            at += 1;
            match (u16::from_ne_bytes([bytes[0], bytes[1]]), value) {
                (0x20, 0) => loaded = number as u32,
                (0x20, 16) => loaded = descriptor.cast_unsigned(),
                (0x15, value) => at += usize::from(bytes[if loaded == value { 2 } else { 3 }]),
                (0x06, value) => return value,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_filter_traps_calls_for_a_client_of_the_listeners() {
        for listeners in [&[3][..], &[0, 3], &[0, 3, 9]] {
            let filter = trapping(listeners);
            for number in [libc::SYS_accept, libc::SYS_accept4, libc::SYS_read, libc::SYS_socket] {
                for descriptor in -1..12 {
                    let traps = listeners.contains(&descriptor)
                        && [libc::SYS_accept, libc::SYS_accept4].contains(&number);
                    let expected = if traps { 0x0003_0000 } else { 0x7fff_0000 };
                    assert_eq!(verdict(&filter, number, descriptor), expected, "{number} {descriptor}");
                }
            }
        }
        assert_eq!(trapping(&[7; 100]).len(), 6 + MOST_LISTENERS);
    }
}
