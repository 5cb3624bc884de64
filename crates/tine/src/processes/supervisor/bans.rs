//! The bans of operators: kept here, put on the board for those who admit, and in a file for the
//! next start.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::admission::access::bans::MAX_BANS;
use crate::admission::access::prefix::Prefix;
use crate::error::{Error, next_move};
use crate::ipc::board::Board;
use crate::processes::control::view::BanView;
use crate::system::state_file;

/// The end of the calendar in which dates are written (RFC 3339): the year 9999. Seconds since
/// 1970.
const LAST_SECOND: u64 = 253_402_300_799;

/// A ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ban {
    block: Prefix,
    /// When it ends; `None` is never. Wall clock: a ban outlives a restart of the machine.
    until: Option<SystemTime>,
}

/// All bans of a service.
#[derive(Debug, Default)]
pub(super) struct Bans {
    list: Vec<Ban>,
    /// Where they are kept for the next start; `None` where nothing is.
    file: Option<PathBuf>,
}

impl Bans {
    /// The bans in a file, if there is one.
    ///
    /// # Errors
    /// The file cannot be read, or is no file of bans: to start without them would admit clients
    /// that an operator has banned.
    pub(super) fn load(file: Option<PathBuf>) -> Result<Bans, Error> {
        let Some(path) = &file else { return Ok(Bans::default()) };
        let text = match std::fs::read_to_string(path) {
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Bans { list: Vec::new(), file });
            }
            Err(why) => {
                let what = format_args!("cannot read the bans in {}", path.display()).to_string();
                return Err(Error::system(what, &why, next_move::of_file(&why)));
            }
            Ok(text) => text,
        };
        let list = parse(&text, SystemTime::now()).ok_or_else(|| {
            let what = format_args!("{} is not a file of bans", path.display()).to_string();
            Error::usage(what, "remove it, and ban again what is to be banned (`tine ban`)")
        })?;
        Ok(Bans { list, file })
    }

    /// The bans as a text, for the next generation of the server.
    pub(super) fn to_text(&self) -> String {
        text(&self.list)
    }

    /// The bans in a text of an older generation; `None` if it is none.
    pub(super) fn from_text(bans: &str, file: Option<PathBuf>) -> Option<Bans> {
        Some(Bans { list: parse(bans, SystemTime::now())?, file })
    }

    /// Adds a ban, or changes the time of one. False if there are too many.
    pub(super) fn add(&mut self, block: Prefix, until: Option<SystemTime>) -> bool {
        self.list.retain(|ban| ban.block != block);
        if self.list.len() == MAX_BANS {
            return false;
        }
        self.list.push(Ban { block, until });
        true
    }

    /// Removes the ban of a block. False if there is none.
    pub(super) fn remove(&mut self, block: Prefix) -> bool {
        let before = self.list.len();
        self.list.retain(|ban| ban.block != block);
        self.list.len() < before
    }

    /// Removes the bans that have ended. True if there were some.
    pub(super) fn expire(&mut self, now: SystemTime) -> bool {
        let before = self.list.len();
        self.list.retain(|ban| ban.until.is_none_or(|until| until > now));
        self.list.len() < before
    }

    /// The time until the next ban ends.
    pub(super) fn next_end(&self, now: SystemTime) -> Option<Duration> {
        let next = self.list.iter().filter_map(|ban| ban.until).min()?;
        Some(next.duration_since(now).unwrap_or_default())
    }

    pub(super) fn blocks(&self) -> Vec<Prefix> {
        self.list.iter().map(|ban| ban.block).collect()
    }

    /// As operators see them.
    pub(super) fn views(&self, now: SystemTime) -> Vec<BanView> {
        let view = |ban: &Ban| BanView {
            block: ban.block.to_string(),
            left: ban.until.map(|until| until.duration_since(now).unwrap_or_default()),
        };
        self.list.iter().map(view).collect()
    }

    /// Keeps the bans for the next start.
    ///
    /// # Errors
    /// The file cannot be written whole.
    pub(super) fn save(&self) -> std::io::Result<()> {
        self.file.as_deref().map_or(Ok(()), |file: &Path| state_file::write(file, &text(&self.list)))
    }
}

/// When a ban of this many seconds ends. A time beyond the calendar is for ever.
pub(super) fn end_of(now: SystemTime, seconds: u64) -> Option<SystemTime> {
    let last = SystemTime::UNIX_EPOCH + Duration::from_secs(LAST_SECOND);
    now.checked_add(Duration::from_secs(seconds)).filter(|until| *until <= last)
}

/// The bans as the text of a file.
fn text(bans: &[Ban]) -> String {
    let one = |ban: &Ban| {
        let until = ban.until.map(|until| humantime::format_rfc3339_seconds(until).to_string());
        json!({ "block": ban.block.to_string(), "until": until })
    };
    let bans: Vec<Value> = bans.iter().map(one).collect();
    format!("{:#}\n", json!({ "version": 1, "bans": bans }))
}

/// Reads the text of a file; leaves out bans that have ended.
fn parse(text: &str, now: SystemTime) -> Option<Vec<Ban>> {
    let value: Value = serde_json::from_str(text).ok()?;
    let bans = value["bans"].as_array().filter(|bans| value["version"] == 1 && bans.len() <= MAX_BANS)?;
    let one = |ban: &Value| {
        let until = match &ban["until"] {
            Value::Null => None,
            Value::String(date) => Some(humantime::parse_rfc3339(date).ok()?),
            _ => return None,
        };
        Some(Ban { block: ban["block"].as_str()?.parse().ok()?, until })
    };
    let bans: Vec<Ban> = bans.iter().map(one).collect::<Option<_>>()?;
    Some(bans.into_iter().filter(|ban| ban.until.is_none_or(|until| until > now)).collect())
}

/// Puts the bans on the board. Their number was checked.
pub(super) fn publish(board: &Board, bans: &Bans) {
    let _ = board.set_bans(&bans.blocks());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(text: &str) -> Prefix {
        text.parse().expect(text)
    }

    #[test]
    fn bans_are_added_changed_and_removed() {
        let mut bans = Bans::default();
        let start = SystemTime::UNIX_EPOCH;
        let at = |seconds| Some(start + Duration::from_secs(seconds));
        assert!(bans.add(block("192.0.2.0/24"), None) && bans.add(block("192.0.2.0/24"), at(10)));
        assert!(bans.add(block("::1"), at(20)));
        assert_eq!(bans.blocks(), [block("192.0.2.0/24"), block("::1")]);
        assert_eq!(bans.next_end(start), Some(Duration::from_secs(10)));
        assert!(!bans.expire(start) && bans.expire(start + Duration::from_secs(10)));
        assert!(!bans.remove(block("192.0.2.0/24")) && bans.remove(block("::1")));
        assert_eq!(bans.next_end(start), None);
        for address in 0..MAX_BANS as u32 {
            assert!(bans.add(Prefix::of(std::net::IpAddr::V4(address.into())), None));
        }
        assert!(!bans.add(block("::1"), None));
    }

    #[test]
    fn a_ban_beyond_the_calendar_is_for_ever() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (seconds, is_for_ever) in [
            (0, false),
            (LAST_SECOND - 1_000_000, false),
            (LAST_SECOND - 999_999, true),
            (i64::MAX as u64, true),
            (u64::MAX, true),
        ] {
            let until = end_of(now, seconds);
            assert_eq!(until.is_none(), is_for_ever, "{seconds}");
            let bans = [Ban { block: block("::1"), until }];
            assert_eq!(parse(&text(&bans), SystemTime::UNIX_EPOCH).as_deref(), Some(&bans[..]), "{seconds}");
        }
    }

    #[test]
    fn bans_survive_a_file() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let second = Duration::from_secs(1);
        let kept = [
            Ban { block: block("192.0.2.0/24"), until: None },
            Ban { block: block("2001:db8::/32"), until: Some(now + second) },
        ];
        let ended = Ban { block: block("::1"), until: Some(now) };
        assert_eq!(parse(&text(&[kept[0], ended, kept[1]]), now).as_deref(), Some(&kept[..]));
        for wrong in
            ["", "{}", r#"{"version":2,"bans":[]}"#, r#"{"version":1,"bans":[{"block":"x","until":null}]}"#]
        {
            assert_eq!(parse(wrong, now), None, "{wrong}");
        }
    }
}
