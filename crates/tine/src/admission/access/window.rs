//! Access times: time ranges of the day in which clients are allowed.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const DAY: u16 = 24 * 60;

/// A time of the week, in local time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moment {
    /// Days since Sunday.
    day: u8,
    /// Minutes since midnight.
    minute: u16,
}

/// A time range, on some days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// The days on which the range begins, as bits; bit 0 is Sunday.
    days: u8,
    /// The first minute, since midnight.
    from: u16,
    /// The first minute after the range, since midnight; of the next day if it is not after `from`.
    to: u16,
}

impl Moment {
    /// The current time.
    #[must_use]
    pub fn now() -> Moment {
        let (day, minute) = tine_sys::clock::local();
        Moment { day, minute }
    }
}

impl Window {
    pub(super) fn contains(self, moment: Moment) -> bool {
        let begins = |day: u8| self.days & 1 << day != 0;
        let yesterday = (moment.day + 6) % 7;
        match self.from < self.to {
            true => begins(moment.day) && (self.from..self.to).contains(&moment.minute),
            false => {
                begins(moment.day) && moment.minute >= self.from
                    || begins(yesterday) && moment.minute < self.to
            }
        }
    }
}

/// Parses `08:00-17:00`, `Mon-Fri 08:00-17:00`, `Sat,Sun 22:00-04:00`.
impl FromStr for Window {
    type Err = Error;

    fn from_str(text: &str) -> Result<Window, Error> {
        let bad = || {
            let next = "write 08:00-17:00, or with days, Mon-Fri 08:00-17:00";
            Error::usage(format_args!("invalid time range '{text}'"), next)
        };
        let (days, range) = match text.trim().rsplit_once(' ') {
            Some((days, range)) => (days_in(days).ok_or_else(bad)?, range),
            None => (0x7f, text.trim()),
        };
        let (from, to) = range.split_once('-').ok_or_else(bad)?;
        let (from, to) = (minute(from).ok_or_else(bad)?, minute(to).ok_or_else(bad)?);
        // A range can end at 24:00, but not begin there.
        if from == DAY { Err(bad()) } else { Ok(Window { days, from, to }) }
    }
}

/// Parses `HH:MM` into minutes since midnight; 24:00 is the end of the day.
fn minute(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let is_number = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    if !is_number(hour) || !is_number(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    (minute < 60 && hour * 60 + minute <= DAY).then_some(hour * 60 + minute)
}

fn day(text: &str) -> Option<u8> {
    DAYS.iter().position(|day| day.eq_ignore_ascii_case(text)).map(|day| day as u8)
}

/// Parses `Mon`, `Mon-Fri`, `Fri-Mon`, `Sat,Sun` into a bit for each day.
fn days_in(text: &str) -> Option<u8> {
    text.split(',').try_fold(0, |days, part| {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let length = (last + 7 - first) % 7;
        Some((0..=length).fold(days, |days, offset| days | 1 << ((first + offset) % 7)))
    })
}

/// Parses `12:30` (today), `Sat 12:30` and `2026-11-24 12:30` (or with a `T`).
impl FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Moment, Error> {
        let bad = || {
            let next = "write 12:30, Sat 12:30 or 2026-11-24T12:30";
            Error::usage(format_args!("invalid time '{text}'"), next)
        };
        let (date, time) = match text.rsplit_once([' ', 'T']) {
            Some((date, time)) => (Some(date), time),
            None => (None, text),
        };
        let minute = minute(time).filter(|minute| *minute < DAY).ok_or_else(bad)?;
        let day = match date {
            None => Moment::now().day,
            Some(date) => day(date).or_else(|| weekday(date)).ok_or_else(bad)?,
        };
        Ok(Moment { day, minute })
    }
}

/// The day of the week of a date of the Gregorian calendar, `YYYY-MM-DD`, in days since Sunday.
fn weekday(date: &str) -> Option<u8> {
    let mut parts = date.split('-').map(|part| part.parse::<u32>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last_day = match month {
        2 => 28 + u32::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if parts.next().is_some() || !(1..=last_day).contains(&day) || !(1583..=9999).contains(&year) {
        return None;
    }
    // The year is counted from March, so that 29 February is its last day.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some(((days + 2) % 7) as u8)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:02}:{:02}", DAYS[self.day as usize % 7], self.minute / 60, self.minute % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_contain_their_times_on_their_days() {
        for (window, inside, outside) in [
            ("08:00-17:00", &["Mon 08:00", "Sun 16:59"][..], &["Mon 07:59", "Mon 17:00", "Sat 00:00"][..]),
            ("Mon-Fri 08:00-17:00", &["Mon 08:00", "Fri 12:00"], &["Sat 12:00", "Sun 12:00"]),
            ("Fri-Mon 00:00-24:00", &["Fri 00:00", "Sun 23:59", "Mon 12:00"], &["Tue 00:00", "Thu 23:59"]),
            ("Sat,Sun 22:00-04:00", &["Sat 22:00", "Sun 03:59", "Mon 03:59"], &["Sat 03:00", "Mon 22:00"]),
            ("00:00-00:00", &["Wed 00:00", "Wed 23:59"], &[]),
        ] {
            let window: Window = window.parse().expect(window);
            let at = |text: &&str| window.contains(text.parse().expect(text));
            assert!(inside.iter().all(at) && !outside.iter().any(at), "{window:?}");
        }
        for text in [
            "",
            "8-17",
            "08:00",
            "08:00-25:00",
            "08:60-09:00",
            "24:00-01:00",
            "Xyz 08:00-09:00",
            "+8:00-9:00",
        ] {
            assert_eq!(text.parse::<Window>().expect_err(text).exit_code(), 100, "{text}");
        }
    }

    #[test]
    fn times_and_dates_are_parsed_and_invalid_ones_rejected() {
        for (text, expected) in [
            ("Sat 12:30", "Sat 12:30"),
            ("2026-11-24T12:30", "Tue 12:30"),
            ("2024-02-29 00:00", "Thu 00:00"),
            ("2000-01-01 23:59", "Sat 23:59"),
            ("1970-01-01 00:00", "Thu 00:00"),
        ] {
            assert_eq!(text.parse::<Moment>().expect(text).to_string(), expected);
        }
        for text in ["", "noon", "24:00", "2026-02-29 12:00", "2026-13-01 12:00", "2026-1 12:00", "Tue"] {
            assert_eq!(text.parse::<Moment>().expect_err(text).exit_code(), 100, "{text}");
        }
    }
}
