//! The local time of day, and the monotonic clock for a process that was just forked.

/// The day of the week, 0 for Sunday, and the minutes since midnight, in the time zone of the
/// system; in UTC where it has none (localtime_r(3)).
#[must_use]
pub fn local() -> (u8, u16) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let mut broken: libc::tm = {
        // SAFETY: numbers and a pointer, for all of which zero is valid.
        unsafe { std::mem::zeroed() }
    };
    // SAFETY: both pointers are to variables of the right type; on error the zeros stay.
    unsafe { libc::localtime_r(&raw const now, &raw mut broken) };
    (broken.tm_wday.clamp(0, 6) as u8, (broken.tm_hour * 60 + broken.tm_min).clamp(0, 1439) as u16)
}

/// The monotonic clock (clock_gettime(2)) in nanoseconds, by a system call in place: the kernel's
/// function for it in user space is on a page of its own, whose first use by a fresh process is a
/// fault of a microsecond or more. 0 if the call is denied.
#[must_use]
#[inline]
pub fn monotonic_in_place() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let place = (&raw mut now) as libc::c_long;
    // SAFETY: the pointer is valid for writes of a `timespec`.
    unsafe { crate::raw::call2(libc::SYS_clock_gettime, libc::c_long::from(libc::CLOCK_MONOTONIC), place) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_monotonic_clock_is_that_of_the_library() {
        let of_library = || {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
        };
        let (before, now, after) = (of_library(), super::monotonic_in_place(), of_library());
        assert!(before <= now && now <= after, "{before} {now} {after}");
    }

    #[test]
    fn local_time_is_that_of_date_1() {
        let date = std::process::Command::new("date").arg("+%w %H %M").output().expect("date(1)");
        let text = String::from_utf8(date.stdout).expect("ASCII");
        let parts: Vec<i32> = text.split_whitespace().map(|part| part.parse().expect("a number")).collect();
        let (day, minute) = super::local();
        let then = parts[0] * 1440 + parts[1] * 60 + parts[2];
        let since = (i32::from(day) * 1440 + i32::from(minute) - then).rem_euclid(7 * 1440);
        assert!(since <= 1, "{day} {minute} {text}");
    }
}
