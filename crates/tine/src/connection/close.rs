//! The end of a stream that the client may still send on.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::lifecycle::timing::CLOSE_LINGER;

/// The buffer for discarded bytes. It is static, because the kernel does not write to it where it
/// can discard by itself: on the stack, each function that has it would touch all of its pages, in
/// every process.
static DISCARD_BUFFER: Mutex<[u8; 64 * 1024]> = Mutex::new([0; 64 * 1024]);

pub(super) fn discard_buffer() -> MutexGuard<'static, [u8; 64 * 1024]> {
    DISCARD_BUFFER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends the end of the stream, then discards input until the client's end, at most for
/// [`CLOSE_LINGER`]. The caller closes the descriptor.
pub(crate) fn finish(socket: &OwnedFd) {
    if rustix::net::shutdown(socket, rustix::net::Shutdown::Write).is_err() {
        return;
    }
    let deadline = Instant::now() + CLOSE_LINGER;
    while discard_now(socket) == Discarded::AllForNow {
        if Instant::now() >= deadline {
            return;
        }
        let mut ask = [PollFd::new(socket, PollFlags::IN)];
        // Interrupted or out of time: the loop looks at the clock.
        let _ = tine_sys::wait::until(&mut ask, Some(deadline));
    }
}

/// The result of discarding without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discarded {
    /// All input that has arrived is discarded.
    AllForNow,
    /// The client's side has ended or failed: no more input will arrive.
    Ended,
}

/// Discards the input that has arrived, at most a few megabytes, without waiting for more.
pub(crate) fn discard_now(socket: impl AsFd) -> Discarded {
    let mut discard_buffer = discard_buffer();
    let flags = RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    for _ in 0..64 {
        match rustix::net::recv(socket.as_fd(), &mut discard_buffer[..], flags) {
            Ok((_, 0)) => return Discarded::Ended,
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Discarded::AllForNow,
            Err(_) => return Discarded::Ended,
        }
    }
    Discarded::AllForNow
}
