//! The time of the day, as the system's time zone has it.

/// The day of the week, from Sunday, 0, and the minutes since midnight (localtime_r(3)). UTC where the system has no
/// time zone.
#[must_use]
pub fn local() -> (u8, u16) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let mut broken: libc::tm = {
        // SAFETY: plain numbers and a pointer, for all of which zero is a value.
        unsafe { std::mem::zeroed() }
    };
    // SAFETY: both pointers are to live variables of the right type; a null result leaves the zeros.
    unsafe { libc::localtime_r(&raw const now, &raw mut broken) };
    (broken.tm_wday.clamp(0, 6) as u8, (broken.tm_hour * 60 + broken.tm_min).clamp(0, 1439) as u16)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_clock_of_the_machine() {
        let date = std::process::Command::new("date").arg("+%w %H %M").output().expect("date(1)");
        let text = String::from_utf8(date.stdout).expect("ASCII");
        let parts: Vec<i32> = text.split_whitespace().map(|part| part.parse().expect("a number")).collect();
        let (day, minute) = super::local();
        let then = parts[0] * 1440 + parts[1] * 60 + parts[2];
        let since = (i32::from(day) * 1440 + i32::from(minute) - then).rem_euclid(7 * 1440);
        assert!(since <= 1, "{day} {minute} {text}");
    }
}
