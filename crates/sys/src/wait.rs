//! Waiting for descriptors until a deadline.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// Waits until a descriptor is ready (poll(2)) or the deadline has passed; `None` has no deadline,
/// and with a deadline in the past the call does not wait. Returns the number of ready descriptors,
/// 0 at the deadline.
///
/// # Errors
/// EINTR at a signal; ENOMEM; EINVAL for more descriptors than this process may open.
pub fn until(fds: &mut [PollFd], deadline: Option<Instant>) -> Result<usize, Errno> {
    let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
    poll(fds, left.as_ref())
}

/// Returns the number of descriptors that are ready now, without waiting.
///
/// # Errors
/// As [`until`], except EINTR.
pub fn now(fds: &mut [PollFd]) -> Result<usize, Errno> {
    poll(fds, Some(&timespec(Duration::ZERO)))
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        // A time beyond the kernel's range is as good as none.
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::PollFlags;

    use super::*;

    #[test]
    fn a_deadline_in_the_past_does_not_wait() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut fds = [PollFd::new(&reader, PollFlags::IN)];
        assert_eq!(until(&mut fds, Some(Instant::now())), Ok(0));
        assert_eq!(now(&mut fds), Ok(0));
        rustix::io::write(&writer, b"x").expect("room");
        assert_eq!(until(&mut fds, None), Ok(1));
        assert_eq!(until(&mut fds, Instant::now().checked_add(Duration::from_secs(86_400))), Ok(1));
    }
}
