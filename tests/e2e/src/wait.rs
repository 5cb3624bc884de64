//! Waiting for a state that nothing announces, such as an entry of `/proc`.

use std::time::{Duration, Instant};

/// Upper bound of every wait of a test. No wait takes this long unless something is broken.
pub const TEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Time between two checks of a condition.
const CHECK_INTERVAL: Duration = Duration::from_millis(2);

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
