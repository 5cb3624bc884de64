//! Waiting for descriptors until a point in time.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::io::Errno;

/// poll(2) with a deadline instead of a time; `None` waits for ever, a deadline in the past only looks.
/// Returns how many of `ask` are ready: 0 at the deadline.
///
/// # Errors
/// EINTR if a signal came; ENOMEM, EINVAL for more descriptors than this process may have.
pub fn until(ask: &mut [PollFd], deadline: Option<Instant>) -> Result<usize, Errno> {
    let left = deadline.map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
    poll(ask, left.as_ref())
}

/// Which of `ask` are ready now, without waiting.
///
/// # Errors
/// As [`until`], but for EINTR.
pub fn now(ask: &mut [PollFd]) -> Result<usize, Errno> {
    poll(ask, Some(&timespec(Duration::ZERO)))
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        // More than the kernel can count is for ever, as good as.
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: time.subsec_nanos().into(),
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::PollFlags;

    use super::*;

    #[test]
    fn a_deadline_that_has_gone_only_looks() {
        let (reader, writer) = rustix::pipe::pipe().expect("a pipe");
        let mut ask = [PollFd::new(&reader, PollFlags::IN)];
        assert_eq!(until(&mut ask, Some(Instant::now())), Ok(0));
        assert_eq!(now(&mut ask), Ok(0));
        rustix::io::write(&writer, b"x").expect("room");
        assert_eq!(until(&mut ask, None), Ok(1));
        assert_eq!(until(&mut ask, Instant::now().checked_add(Duration::from_secs(86_400))), Ok(1));
    }
}
