//! Waiting, with a bound: for descriptors, or for a state that nothing announces, such as an entry
//! of `/proc`.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};

/// Upper bound of every wait of a test. No wait takes this long unless something is broken.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two checks of a condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

/// Waits until one of these descriptors is ready, or [`TEST_TIMEOUT`] is over.
pub(crate) fn wait_for_one(polled: &mut [PollFd<'_>]) {
    let timeout = Timespec { tv_sec: TEST_TIMEOUT.as_secs() as i64, tv_nsec: 0 };
    poll(polled, Some(&timeout)).expect("open descriptors");
}

/// Checks a condition until it yields a value. `condition` names it in the failure message.
///
/// # Panics
/// If it yields none within [`TEST_TIMEOUT`].
pub fn wait_until<T>(condition: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TEST_TIMEOUT;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < deadline, "timed out waiting until {condition}");
        std::thread::park_timeout(CHECK_INTERVAL);
    }
}
